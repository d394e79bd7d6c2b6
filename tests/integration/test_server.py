"""The roles as whole processes: a worker behind its token, addresses, gunicorn itself."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lowcode_faas_core.wire import API_VERSION

Serve = Callable[..., Any]
Poll = Callable[..., Any]

ROOT = Path(__file__).resolve().parents[2]
COMMAND = Path(sys.executable).with_name("lowcode-faas")
ECHO = "export const handler = (input) => ({ ok: true, data: input });"


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
        service.deploy("echo", ECHO)
        # When a function is invoked
        status, answer = service.invoke("echo", {"n": 1})
        # Then the worker ran it: its sandbox is there, and none at the dispatcher
        assert status == 200, answer
        assert answer["output"] == {"ok": True, "data": {"n": 1}}
        assert "echo" in worker.call("GET", "/readyz")[1]["sandboxes"]["functions"]
        assert len(service.family()) == 2

    def test_trace_context_reaches_handler_and_log_events_of_the_worker(
        self, serve: Serve, poll: Poll
    ) -> None:
        worker = serve("worker", WORKERS="1", WORKER_TOKEN="s3cret", FUNCTION_LOGS_SINK="promtail")
        service = serve(WORKERS="1", WORKER_URL=worker.url, WORKER_TOKEN="s3cret")
        source = """export const handler = (_, context) => {
          console.log('traced'); return { ok: true, data: context.traceparent };
        };"""
        service.deploy("traced", source)
        legal = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
        for given, expected in ((legal, legal), (legal.replace("00-", "ff-", 1), None)):
            headers = {"traceparent": given}
            _, answer = service.call("POST", "/functions/traced/invoke", {}, headers)
            assert answer["output"]["data"] == expected

            def events(execution: str = answer["execution_id"]) -> list[Any]:
                lines = [json.loads(line) for line in worker.text().splitlines() if line[:1] == "{"]
                return [line for line in lines if line["execution_id"] == execution]

            (event,) = poll("its line is there", events)
            assert (event["message"], event["traceparent"]) == ("traced", expected)

    def test_a_timeout_names_what_the_caller_gave(self, serve: Serve, worker: Any) -> None:
        service = serve(WORKERS="1", WORKER_URL=worker.url, WORKER_TOKEN="s3cret")
        service.deploy("spin", "export const handler = () => { for (;;); };")
        status, answer = service.call("POST", "/functions/spin/invoke", {"timeout_ms": 700})
        assert (status, answer["status"]) == (200, "timeout")
        assert "its timeout of 700 ms" in answer["error"]["message"]

    @pytest.mark.fault(25)
    @pytest.mark.parametrize("shown", [None, "Bearer wrong", "Basic s3cret", "s3cret", "Bearer "])
    def test_without_the_token_nothing_is_answered(self, worker: Any, shown: str | None) -> None:
        headers = {} if shown is None else {"Authorization": shown}
        for method, path in (
            ("POST", "/v1/run"),
            ("POST", "/v1/check"),
            ("GET", "/v1/info"),
            ("GET", "/metrics"),
            ("GET", "/no/such/path"),
            ("DELETE", "/v1/run"),
            ("OPTIONS", "/v1/run"),
        ):
            status, answer = worker.call(method, path, {} if method == "POST" else None, headers)
            assert (status, answer["code"]) == (401, "unauthenticated")
            assert "s3cret" not in str(answer)

    def test_it_says_what_it_is(self, worker: Any) -> None:
        status, answer = worker.call("GET", "/v1/info", headers={"Authorization": "Bearer s3cret"})
        assert status == 200
        assert (answer["name"], answer["role"], answer["api"]) == (
            "lowcode-faas",
            "worker",
            API_VERSION,
        )

    @pytest.mark.fault(104)
    def test_a_caller_of_another_version_is_told(self, worker: Any) -> None:
        headers = {"Authorization": "Bearer s3cret", "X-Lowcode-Faas-Api": "999"}
        status, answer = worker.call("GET", "/v1/info", headers=headers)
        assert (status, answer["code"]) == (502, "worker_skew")
        assert "version 999" in answer["detail"]


def test_a_worker_that_grants_less_time_stops_the_start_of_a_dispatcher(
    serve: Serve, start: Callable[..., Any], free_port: Callable[[], int], tmp_path: Path
) -> None:
    # Given a dispatcher, and its worker's longest deadline set below its own afterwards
    limits = {"INVOKE_MAX_TIMEOUT_MS": "5000", "INVOKE_DEFAULT_TIMEOUT_MS": "1000"}
    worker = serve("worker", WORKERS="1", **limits)
    given = {"WORKER_URL": worker.url, "RUNNER": "process", "DATA_DIR": str(tmp_path / "data")}
    port = free_port()
    refused = start(COMMAND, "dispatcher", port=port, LISTEN=f"127.0.0.1:{port}", **given)
    # Then it does not start, and says where to set what
    assert refused.process.wait(30) == 2
    assert (
        "LOWCODE_FAAS_INVOKE_MAX_TIMEOUT_MS is 900000 here and 5000 at the worker" in refused.text()
    )
    # And one that found no worker at its start is told by each run that the worker refuses
    answer = worker.call(
        "POST",
        "/v1/run",
        {
            **dict.fromkeys(("execution_id", "run_id", "request_id"), "execution-1"),
            "deployment_id": "d",
            "function_name": "f",
            "collection_path": "",
            "env": {},
            "input": {},
            "remaining_ms": 6000,
        },
    )[1]
    assert (answer["code"], answer["outcome"]) == ("worker_skew", "not_executed")
    assert "LOWCODE_FAAS_INVOKE_MAX_TIMEOUT_MS differs" in answer["detail"]


@pytest.mark.fault(25)
def test_a_worker_others_can_reach_is_refused_without_a_secret(
    start: Callable[..., Any], free_port: Callable[[], int]
) -> None:
    port = free_port()
    address = f"0.0.0.0:{port}"
    service = start(COMMAND, "worker", port=port, WORKER_LISTEN=address, RUNNER="process")
    assert service.process.wait(30) == 2
    assert service.text().startswith(f"lowcode-faas: LOWCODE_FAAS_WORKER_LISTEN is {address}")
    assert len(service.text().splitlines()) == 1


def test_a_misspelt_variable_is_a_warning_with_the_nearest(serve: Serve) -> None:
    service = serve(WORKERS="1", MAX_INSTANCE="8")
    lines = [line for line in service.text().splitlines() if "warning" in line]
    assert len(lines) == 1
    assert "LOWCODE_FAAS_MAX_INSTANCE " in lines[0]
    assert lines[0].endswith("did you mean LOWCODE_FAAS_MAX_INSTANCES?")


def test_the_start_says_the_shares_of_the_caps(serve: Serve) -> None:
    service = serve(WORKERS="2", THREADS="10", MAX_INSTANCES="9", STOCK="0", QUEUE="1")
    text = service.text()
    assert "2 workers x (10 - 2) threads: 16 invocations at a time" in text
    assert "of each worker: sandboxes 9, 4; stock 0, 0; queue 1, 1" in text
    assert "isolation of user code: " in text


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (
            ("--graceful-timeout", "2"),
            "graceful_timeout (2) ends the process in the middle of its drain: "
            "LOWCODE_FAAS_DRAIN_NOTICE_S (2), LOWCODE_FAAS_DRAIN_TIMEOUT_S (60) and what follows "
            "need 72",
        ),
        (("--timeout", "1"), "timeout (1) kills processes that are only late"),
        (("--worker-class", "sync"), "worker_class is ThreadWorker"),
    ],
)
def test_what_gunicorn_was_told_besides_must_leave_room(
    start: Callable[..., Any], free_port: Callable[[], int], arguments: tuple[str, ...], named: str
) -> None:
    port = free_port()
    service = start(
        *(COMMAND.with_name("gunicorn"), "-c", ROOT / "conf" / "gunicorn.conf.py", *arguments),
        port=port,
        LISTEN=f"127.0.0.1:{port}",
        RUNNER="process",
    )
    assert service.process.wait(30) == 2
    assert f"lowcode-faas: gunicorn's {named}" in service.text()
    assert "Traceback" not in service.text()


def test_a_queue_longer_than_any_deadline_is_refused(
    start: Callable[..., Any], free_port: Callable[[], int]
) -> None:
    port = free_port()
    variables = {"QUEUE_TIMEOUT_MS": "6000", "INVOKE_MAX_TIMEOUT_MS": "5000"}
    variables["INVOKE_DEFAULT_TIMEOUT_MS"] = "1000"
    listen = f"127.0.0.1:{port}"
    service = start(
        COMMAND, "worker", port=port, WORKER_LISTEN=listen, RUNNER="process", **variables
    )
    assert service.process.wait(30) == 2
    assert (
        "LOWCODE_FAAS_QUEUE_TIMEOUT_MS (6000) is above LOWCODE_FAAS_INVOKE_MAX_TIMEOUT_MS (5000)"
        in service.text()
    )


def test_the_start_says_the_chain_of_deadlines(serve: Serve) -> None:
    # The default wait in the queue is cut short by a maximum below it, and said so.
    limits = {"INVOKE_MAX_TIMEOUT_MS": "20000", "INVOKE_DEFAULT_TIMEOUT_MS": "1000"}
    worker = serve("worker", WORKERS="1", DRAIN_TIMEOUT_S="5.5", **limits)
    dispatcher = serve(WORKERS="1", WORKER_URL=worker.url, **limits)
    for line in (
        "deadline of an invocation: 1000 ms unless it names another, at most 20000 ms",
        "of it up to 20000 ms in the queue",
        "gunicorn: request head within 10 s, idle connections 75 s, heartbeat 30 s",
        "on SIGTERM: not ready but serving for 2 s, then up to 5.5 s for what runs; SIGKILL after "
        "18 s",
    ):
        assert line in worker.text()
    for line in (
        "deadline of an invocation: 1000 ms unless it names another, at most 20000 ms",
        "of it up to 3 s to connect, 3 tries of what did not start; the worker has 10 s on top to "
        "answer: a balancer waits longer than 30 s",
    ):
        assert line in dispatcher.text()


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
    service.deploy("echo", ECHO)
    assert service.invoke("echo")[1]["status"] == "succeeded"
    service.interrupt()
    assert service.process.wait(10) == 0
