"""The shortcut answers verdicts of what is in order; everything else is the application's."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from flask import Flask

from lowcode_faas_core.errors import Draining
from lowcode_faas_core.model import (
    LogSummary,
    Outcome,
    RunResult,
    StartKind,
    Status,
    Timings,
    Usage,
)
from lowcode_faas_core.wire import API_VERSION, RunRequest
from lowcode_faas_core.worker_shortcut import RAISED, Shortcut

LARGEST = 4096
REQUEST = RunRequest(
    execution_id="execution-1",
    run_id="run-1",
    request_id="request-1",
    deployment_id="deployment-1",
    function_name="greet",
    collection_path="",
    env={},
    input=msgspec.Raw(b"{}"),
    remaining_ms=1000.0,
)
BODY = msgspec.json.encode(REQUEST)
RESULT = RunResult(
    execution_id="execution-1",
    run_id="run-1",
    request_id="request-1",
    function_name="greet",
    collection_path="",
    deployment_id="deployment-1",
    deployment_version=1,
    status=Status.SUCCEEDED,
    output=msgspec.Raw(b'{"ok":true}'),
    error=None,
    start=StartKind.WARM,
    outcome=Outcome.EXECUTED,
    started_at="2026-11-22T09:00:00.000000Z",
    finished_at="2026-11-22T09:00:00.000000Z",
    timings_ms=Timings(queue=0.0, start=0.0, run=0.0, total=0.0),
    usage=Usage(cpu_ms=None, max_rss_bytes=None),
    logs=LogSummary(lines=0, truncated=False),
)


class Stage:
    """A shortcut before an application that only notes what it was given."""

    def __init__(self) -> None:
        self.ran: list[RunRequest] = []
        self.passed_on: list[tuple[dict[str, Any], bytes]] = []
        self.error: Exception | None = None
        self.started: list[tuple[str, dict[str, str]]] = []
        app = Flask("stage")
        app.wsgi_app = self.application  # type: ignore[method-assign, assignment]
        self.shortcut = Shortcut(app, "s3cret", LARGEST, self.run)

    def run(self, request: RunRequest) -> RunResult:
        self.ran.append(request)
        if self.error is not None:
            raise self.error
        return RESULT

    def application(self, environ: dict[str, Any], _start: Any) -> Iterable[bytes]:
        self.passed_on.append((environ, environ["wsgi.input"].read()))
        return [b"the application's"]

    def ask(self, body: bytes = BODY, **changes: str) -> bytes:
        environ: dict[str, Any] = {
            "REQUEST_METHOD": "POST",
            "PATH_INFO": "/v1/run",
            "CONTENT_TYPE": "application/json",
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_AUTHORIZATION": "Bearer s3cret",
            "HTTP_X_LOWCODE_FAAS_API": str(API_VERSION),
            "wsgi.input": io.BytesIO(body),
            **changes,
        }

        def start(status: str, headers: list[tuple[str, str]], _info: Any = None) -> Any:
            self.started.append((status, dict(headers)))

        return b"".join(self.shortcut(environ, start))


def test_a_run_in_order_is_answered() -> None:
    stage = Stage()
    answer = stage.ask(HTTP_X_REQUEST_ID="mine")
    assert msgspec.json.decode(answer)["output"] == {"ok": True}
    ((status, headers),) = stage.started
    assert status == "200 OK"
    assert headers["Content-Length"] == str(len(answer))
    assert headers["X-Lowcode-Faas-Status"] == "succeeded"
    assert headers["X-Lowcode-Faas-Api"] == str(API_VERSION)
    assert headers["X-Request-Id"] == "mine"
    assert (stage.ran, stage.passed_on) == ([REQUEST], [])


@pytest.mark.fault(25)
@pytest.mark.parametrize(
    "changes",
    [
        {"HTTP_AUTHORIZATION": "Bearer other"},
        {"HTTP_AUTHORIZATION": "Bearer s3cre\xff"},
        {"HTTP_AUTHORIZATION": "Bearer "},
        {"HTTP_AUTHORIZATION": ""},
        {"HTTP_X_LOWCODE_FAAS_API": "7"},
        {"HTTP_X_LOWCODE_FAAS_API": ""},
        {"REQUEST_METHOD": "PUT"},
        {"PATH_INFO": "/v1/check"},
        {"PATH_INFO": "/v1/run/"},
        {"CONTENT_TYPE": "text/plain"},
        {"HTTP_CONTENT_ENCODING": "gzip"},
        {"CONTENT_LENGTH": ""},
        {"CONTENT_LENGTH": "-1"},
        {"CONTENT_LENGTH": "²"},
        {"CONTENT_LENGTH": "4097"},
        {"CONTENT_LENGTH": "99999999999"},
    ],
)
def test_what_is_not_in_order_is_the_applications_unread(changes: dict[str, str]) -> None:
    stage = Stage()
    assert stage.ask(**changes) == b"the application's"
    assert stage.ran == []
    assert [body for _, body in stage.passed_on] == [BODY]


@pytest.mark.parametrize("body", [b"{", b"{}", b"\xff", b"[" * 3000, BODY[:-1] + b',"more":1}'])
def test_what_cannot_be_decoded_is_the_applications_to_judge(body: bytes) -> None:
    stage = Stage()
    assert stage.ask(body) == b"the application's"
    assert stage.ran == []
    assert [body for _, body in stage.passed_on] == [body]


@pytest.mark.parametrize("error", [Draining(), ZeroDivisionError("a bug")])
def test_what_a_run_raises_is_the_applications_to_tell(error: Exception) -> None:
    stage = Stage()
    stage.error = error
    assert stage.ask() == b"the application's"
    assert len(stage.ran) == 1
    assert stage.passed_on[0][0][RAISED] is error
