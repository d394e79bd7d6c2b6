"""Caps of the whole service over several gunicorn workers, one of which is killed."""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import urllib3

NAP = (
    "export const handler = async (input) => {"
    " await new Promise((done) => setTimeout(done, input.ms)); return { ok: true }; };"
)

Serve = Callable[..., Any]
Poll = Callable[..., Any]


def in_flight(service: Any) -> int:
    """Return what one serving process, whichever answers, says of all of them."""
    with urllib3.PoolManager(retries=False, timeout=10) as fresh:
        answer = fresh.request("GET", f"{service.url}/readyz")
    count: int = answer.json()["sandboxes"]["in_flight_of_service"]
    return count


def burst(service: Any, path: str, count: int, ms: int) -> Counter[tuple[int, str]]:
    """Invoke so many times at once, each over a connection of its own."""
    answers: Counter[tuple[int, str]] = Counter()

    def call() -> None:
        with urllib3.PoolManager(retries=False, timeout=60) as fresh:
            answer = fresh.request("POST", service.url + path, json={"input": {"ms": ms}})
        document = answer.json()
        if answer.status == 429:
            assert document["outcome"] == "not_executed"
            assert int(answer.headers["Retry-After"]) >= 1
        answers[answer.status, document.get("detail", "")] += 1

    threads = [threading.Thread(target=call) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


@pytest.mark.fault(102)
def test_caps_are_the_whole_services_and_outlive_a_killed_worker(serve: Serve, poll: Poll) -> None:
    # Given three gunicorn workers that may have five of a function, and three of org, together
    service = serve(
        WORKERS="3",
        THREADS="20",
        MAX_INSTANCES="30",
        MAX_INFLIGHT_PER_FUNCTION="5",
        MAX_INFLIGHT_PER_COLLECTION="org=3",
    )
    assert service.call("POST", "/collections", {"path": "org/team"})[0] == 201
    service.deploy("nap", NAP)
    service.deploy("nap", NAP, collection_path="org/team")
    # When twelve come at once to each, wherever the kernel puts their connections
    root = burst(service, "/functions/nap/invoke", 12, 3000)
    team = burst(service, "/collections/org/team/functions/nap/invoke", 12, 3000)
    # Then so many are taken in, at most: two that meet at the last place may both be told no
    for answers, cap, told in (
        (root, 5, "nap has 5 invocations in flight, the cap of a function"),
        (team, 3, "org has 3 invocations in flight, its cap"),
    ):
        accepted = sum(n for (status, _), n in answers.items() if status == 200)
        refused = [detail for (status, detail) in answers if status != 200]
        assert 1 <= accepted <= cap, answers
        assert refused == [told]
    assert in_flight(service) == 0

    # When a worker is killed with what it has in flight
    running = service.in_background("nap", {"ms": 60_000}, count=5, timeout_ms=120_000)
    poll("some are in flight", lambda: in_flight(service) >= 1 and len(running) <= 4)
    holders = set(service.gunicorn_workers())
    for worker in holders:
        os.kill(worker.pid, signal.SIGKILL)
        poll("the next worker is there", lambda: len(service.gunicorn_workers()) == 3)
    # Then nothing of it is counted, and a whole cap is free again
    poll("the service serves", service.ready, 30)
    assert in_flight(service) == 0
    assert service.invoke("nap", {"ms": 1})[0] == 200
