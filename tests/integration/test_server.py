"""The processes around the application: how they start, end, and what a kill leaves behind."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import urllib3

Serve = Callable[..., Any]
Poll = Callable[..., Any]

COMMAND = Path(sys.executable).with_name("lowcode-faas")
ECHO = "export const handler = (input) => ({ ok: true, data: input });"
SPIN = "export const handler = () => { for (;;); };"
NAP = "export const handler = (i) => new Promise((r) => setTimeout(r, i.ms, { ok: true }));"


def deploy(service: Any, name: str, source: str) -> None:
    status, answer = service.call("POST", "/functions", {"name": name, "source_code": source})
    assert status == 201, answer


def spin(service: Any, count: int, poll: Poll) -> list[Any]:
    """Have ``count`` invocations spin; return where their answers will be, once all of them run."""
    deploy(service, "spin", SPIN)
    answers: list[Any] = []

    def call() -> None:
        try:
            answers.append(
                service.call("POST", "/functions/spin/invoke", {"timeout_ms": 60_000, "input": {}})
            )
        except urllib3.exceptions.HTTPError as error:
            answers.append(error)

    for _ in range(count):
        threading.Thread(target=call, daemon=True).start()
    poll("all of them run", lambda: len(service.busy()) >= count, 30)
    return answers


@pytest.mark.fault(100)
def test_killing_the_master_ends_everything_in_two_seconds(serve: Serve, poll: Poll) -> None:
    # Given four handlers that spin in two serving processes
    service = serve(WORKERS="2")
    spin(service, 4, poll)
    everyone = service.family()
    # When the master is killed
    os.kill(service.process.pid, signal.SIGKILL)
    # Then nothing of the service lives two seconds later
    poll("all are gone", lambda: not [seen for seen in everyone if seen.lives()], 2.0)


@pytest.mark.fault(98)
def test_killing_a_serving_process_takes_its_sandboxes_and_no_more(
    serve: Serve, poll: Poll, descendants: Callable[[int], set[Any]]
) -> None:
    # Given handlers that spin
    service = serve(WORKERS="2")
    deploy(service, "echo", ECHO)
    spin(service, 4, poll)
    victim = max(service.gunicorn_workers(), key=lambda seen: len(descendants(seen.pid)))
    its_own = descendants(victim.pid)
    assert len(its_own) > 1
    # When the process that serves them is killed
    os.kill(victim.pid, signal.SIGKILL)
    # Then its sandboxes are gone, and a new one serves on
    poll("its sandboxes are gone", lambda: not [s for s in its_own if s.lives()], 2.0)
    poll("there are two again", lambda: len(service.gunicorn_workers()) == 2)
    poll("it is ready", service.ready)
    status, answer = service.call("POST", "/functions/echo/invoke", {"input": {"n": 1}})
    assert status == 200, answer
    assert answer["output"] == {"ok": True, "data": {"n": 1}}


def test_killing_a_sandbox_is_a_verdict_and_the_next_run_succeeds(serve: Serve, poll: Poll) -> None:
    service = serve(WORKERS="1")
    deploy(service, "echo", ECHO)
    answers = spin(service, 1, poll)
    (node,) = service.busy()
    os.kill(node.pid, signal.SIGKILL)
    status, answer = poll("it is answered", lambda: answers)[0]
    assert (status, answer["status"], answer["outcome"]) == (200, "crashed", "executed")
    status, answer = service.call("POST", "/functions/echo/invoke", {"input": {}})
    assert (status, answer["status"]) == (200, "succeeded")


def test_ctrl_c_ends_everything_promptly_while_handlers_run(serve: Serve, poll: Poll) -> None:
    # Given handlers that would run for a minute
    service = serve(WORKERS="2")
    answers = spin(service, 3, poll)
    everyone = service.family()
    # When Ctrl-C is pressed
    service.interrupt()
    # Then all ends at once, with exit code 0; the callers are told, or see the connection close
    assert service.process.wait(10) == 0
    poll("all are gone", lambda: not [seen for seen in everyone if seen.lives()], 5)
    poll("every caller knows", lambda: len(answers) == 3)
    assert "Traceback" not in service.text(), service.text()


def test_term_lets_a_run_finish_that_is_short_enough(serve: Serve, poll: Poll) -> None:
    service = serve(WORKERS="1")
    deploy(service, "nap", NAP)
    service.call("POST", "/functions/nap/invoke", {"input": {"ms": 1}})
    answers: list[Any] = []
    body = {"input": {"ms": 1500}}
    caller = threading.Thread(
        target=lambda: answers.append(service.call("POST", "/functions/nap/invoke", body))
    )
    caller.start()
    poll(
        "it runs",
        lambda: service.call("GET", "/readyz")[1]["sandboxes"]["leased"] == 1,
    )
    service.process.terminate()
    caller.join(15)
    assert answers, service.text()
    assert (answers[0][0], answers[0][1]["status"]) == (200, "succeeded")
    assert service.process.wait(15) == 0


def test_a_reload_serves_on_with_new_processes(serve: Serve, poll: Poll) -> None:
    service = serve(WORKERS="1")
    deploy(service, "echo", ECHO)
    (before,) = service.gunicorn_workers()
    os.kill(service.process.pid, signal.SIGHUP)
    poll("the old one is gone", lambda: not before.lives())
    poll("it is ready", service.ready)
    status, answer = service.call("POST", "/functions/echo/invoke", {"input": {}})
    assert (status, answer["status"]) == (200, "succeeded")
    assert before not in service.gunicorn_workers()


class TestWorkerRole:
    @pytest.fixture
    def worker(self, serve: Serve) -> Any:
        return serve("worker", WORKERS="1", WORKER_TOKEN="s3cret")

    def test_a_dispatcher_runs_through_it_and_needs_no_runner(
        self, serve: Serve, worker: Any
    ) -> None:
        # Given a dispatcher whose own runner is not even installed
        service = serve(
            WORKERS="1", RUNNER="not-installed", WORKER_URL=worker.url, WORKER_TOKEN="s3cret"
        )
        deploy(service, "echo", ECHO)
        # When a function is invoked
        status, answer = service.call("POST", "/functions/echo/invoke", {"input": {"n": 1}})
        # Then the worker ran it: its sandbox is there, and none at the dispatcher
        assert status == 200, answer
        assert answer["output"] == {"ok": True, "data": {"n": 1}}
        assert "echo" in worker.call("GET", "/readyz")[1]["sandboxes"]["functions"]
        assert len(service.family()) == 2

    @pytest.mark.fault(25)
    @pytest.mark.parametrize("shown", [None, "Bearer wrong", "Basic s3cret", "s3cret", "Bearer "])
    def test_without_the_token_nothing_is_answered(self, worker: Any, shown: str | None) -> None:
        headers = {} if shown is None else {"Authorization": shown}
        for method, path in (("POST", "/v1/run"), ("GET", "/v1/info")):
            status, answer = worker.call(method, path, {} if method == "POST" else None, headers)
            assert (status, answer["code"]) == (401, "unauthenticated")
            assert "s3cret" not in str(answer)

    def test_it_says_what_it_is(self, worker: Any) -> None:
        status, answer = worker.call("GET", "/v1/info", headers={"Authorization": "Bearer s3cret"})
        assert status == 200
        assert (answer["name"], answer["role"], answer["api"]) == ("lowcode-faas", "worker", 1)

    @pytest.mark.fault(104)
    def test_a_caller_of_another_version_is_told(self, worker: Any) -> None:
        headers = {"Authorization": "Bearer s3cret", "X-Lowcode-Faas-Api": "999"}
        status, answer = worker.call("GET", "/v1/info", headers=headers)
        assert (status, answer["code"]) == (502, "worker_skew")
        assert "version 999" in answer["detail"]


@pytest.mark.fault(24)
def test_an_address_others_can_reach_is_refused(
    start: Callable[..., Any], free_port: Callable[[], int]
) -> None:
    port = free_port()
    service = start(COMMAND, "dispatcher", port=port, LISTEN=f"0.0.0.0:{port}", RUNNER="process")
    assert service.process.wait(30) == 2
    assert service.text().startswith(f"lowcode-faas: LOWCODE_FAAS_LISTEN is 0.0.0.0:{port}")
    assert len(service.text().splitlines()) == 1


def test_gunicorn_itself_serves_with_the_shipped_settings(
    start: Callable[..., Any], free_port: Callable[[], int], poll: Poll, tmp_path: Any
) -> None:
    port = free_port()
    root = Path(__file__).resolve().parents[2]
    service = start(
        COMMAND.with_name("gunicorn"),
        "-c",
        root / "conf" / "gunicorn.conf.py",
        port=port,
        LISTEN=f"127.0.0.1:{port}",
        RUNNER="process",
        DATA_DIR=str(tmp_path / "data"),
        WORKERS="1",
    )
    poll("it is ready", service.ready, 30)
    deploy(service, "echo", ECHO)
    assert service.call("POST", "/functions/echo/invoke", {"input": {}})[1]["status"] == "succeeded"
    service.interrupt()
    assert service.process.wait(10) == 0
