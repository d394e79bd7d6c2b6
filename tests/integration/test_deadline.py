"""One deadline from the dispatcher to user code, and what the answer says of where the time went."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

import pytest

Serve = Callable[..., Any]
Poll = Callable[..., Any]

NAP = (
    "export const handler = async ({ ms }) => {"
    " await new Promise((done) => setTimeout(done, ms)); return { ok: true, data: null }; };"
)
SLOW_MODULE = "await new Promise((done) => setTimeout(done, 60_000));" + NAP


@pytest.fixture(params=["in process", "through a worker"])
def service(request: pytest.FixtureRequest, serve: Serve) -> Any:
    """Return a service with room for one sandbox and none in stock."""
    room = {"WORKERS": "1", "MAX_INSTANCES": "1", "STOCK": "0"}
    if request.param == "in process":
        return serve(**room)
    return serve(WORKERS="1", WORKER_URL=serve("worker", **room).url)


def told(message: str) -> dict[str, int]:
    """Return the milliseconds an error's message names, by what it says they went into."""
    return {what: int(ms) for ms, what in re.findall(r"(\d+) ms ([a-z ]+)", message)}


def test_the_queue_used_it(service: Any, poll: Poll) -> None:
    service.deploy("nap", NAP)
    service.in_background("nap", {"ms": 2500})
    time.sleep(0.5)
    began = time.monotonic()
    status, answer = service.invoke("nap", {"ms": 0}, timeout_ms=400)
    assert 0.35 < time.monotonic() - began < 1.5
    assert (status, answer["code"], answer["outcome"]) == (429, "no_capacity", "not_executed")
    assert answer["phase"] == "queue"
    assert re.search(r"the deadline passed after \d+ ms in the queue", answer["detail"])


def test_most_of_it_went_into_the_queue_and_the_handler_had_the_rest(service: Any) -> None:
    service.deploy("nap", NAP)
    service.in_background("nap", {"ms": 1500})
    time.sleep(0.5)
    status, answer = service.invoke("nap", {"ms": 60_000}, timeout_ms=2500)
    assert (status, answer["status"], answer["error"]["phase"]) == (200, "timeout", "run")
    assert "its timeout of 2500 ms" in answer["error"]["message"]
    went = told(answer["error"]["message"])
    assert 500 < went["in the queue"] < 2000
    assert 500 < went["in the handler"] < 2000
    assert went.pop("and was killed") == 2500
    assert 2450 < sum(went.values()) < 2800
    assert answer["timings_ms"]["queue"] > 500


def test_the_start_used_it(service: Any) -> None:
    service.deploy("nap", NAP)
    # A sandbox takes longer than this to start; what comes before may, on a busy machine.
    for _ in range(20):
        status, answer = service.invoke("nap", {"ms": 0}, timeout_ms=10)
        assert answer["outcome"] == "not_executed", answer
        if answer["phase"] == "start":
            break
    assert (status, answer["code"], answer["phase"]) == (503, "runner_unavailable", "start")


def test_the_module_used_it(service: Any) -> None:
    service.deploy("slow", SLOW_MODULE)
    status, answer = service.invoke("slow", {"ms": 0}, timeout_ms=1500)
    assert (status, answer["status"], answer["error"]["phase"]) == (200, "timeout", "load")
    assert "while the module was being loaded" in answer["error"]["message"]
    assert told(answer["error"]["message"])["for an instance"] > 500
