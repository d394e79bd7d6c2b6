from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from lowcode_faas_core.errors import (
    CapacityError,
    Draining,
    FaasError,
    ImageUnavailable,
    RunnerUnavailable,
    SourceCorrupt,
    StorageUnavailable,
    UnconfirmedEnd,
    WorkerLost,
    WorkerSkew,
    WorkerTimeout,
)

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def test_a_run_answers_everything_about_itself(api: Any, modules: dict[str, str]) -> None:
    api.collection("org/team")
    deployment = api.deploy(source=modules["echo"], collection_path="org/team")
    body = {"input": {"name": "x"}, "run_id": "run:1", "execution_id": "execution-1"}
    headers = {"X-Request-Id": "request.1"}
    target = "/collections/org/team/functions/greet/invoke"
    answer = api.post(target, body, headers=headers)

    assert answer.status == 200
    assert answer.headers["X-Lowcode-Faas-Status"] == "succeeded"
    assert answer.headers["X-Request-Id"] == "request.1"
    result = answer.json
    assert result["output"]["data"]["input"] == {"name": "x"}
    expected = {
        "execution_id": "execution-1",
        "run_id": "run:1",
        "request_id": "request.1",
        "function_name": "greet",
        "collection_path": "org/team",
        "deployment_id": deployment["deployment_id"],
        "deployment_version": 1,
        "status": "succeeded",
        "error": None,
        "outcome": "executed",
    }
    assert {key: result[key] for key in expected} == expected
    assert result["started_at"] <= result["finished_at"]


@pytest.mark.parametrize("body", [None, b"", b"{}", b'{"env":null,"version":null,"run_id":null}'])
def test_everything_about_an_invocation_is_optional(api: Any, body: bytes | None) -> None:
    api.deploy()
    answer = api.post("/functions/greet/invoke", body=body)

    assert answer.status == 200
    assert answer.json["output"]["data"]["input"] == {}
    assert answer.json["run_id"] == answer.json["execution_id"]
    assert answer.json["request_id"] == answer.headers["X-Request-Id"]


@pytest.mark.parametrize(
    ("module", "status", "code"),
    [
        ("echo", "succeeded", None),
        ("refuse", "failed", None),
        ("throw", "handler_error", "handler_error"),
        ("nothing", "invalid_output", "invalid_output"),
    ],
)
def test_every_verdict_is_a_200(
    api: Any, modules: dict[str, str], module: str, status: str, code: str | None
) -> None:
    api.deploy(source=modules[module])
    answer = api.post("/functions/greet/invoke", {})

    assert answer.status == 200
    assert answer.headers["X-Lowcode-Faas-Status"] == status
    assert answer.json["status"] == status
    assert (answer.json["error"] or {}).get("code") == code
    if module == "refuse":
        assert answer.json["output"] == {"ok": False, "error": "no", "code": "refused"}


def test_a_pinned_version_runs(api: Any, modules: dict[str, str]) -> None:
    api.deploy(source=modules["echo"])
    api.deploy(source=modules["refuse"])

    assert api.invoke()["deployment_version"] == 2
    assert api.invoke(version=1)["status"] == "succeeded"
    in_query = api.post("/functions/greet/invoke?version=1", {"version": 1}).json
    assert (in_query["deployment_version"], in_query["status"]) == (1, "succeeded")


@pytest.mark.fault(11)
def test_input_is_handed_on_as_its_exact_text(stub_api: Any) -> None:
    stub_api.deploy()
    texts = [
        b'{"__proto__":{"polluted":true},"constructor":{"prototype":{"polluted":true}}}',
        b'{ "b" : 1.0 , "a" : 1E2, "big":123456789012345678901234567890 }',
        '{"text":"\\u2028\u2028\\ud83d\\ude00"}'.encode(),
    ]
    for text in texts:
        body = b'{"run_id": "r" , "input":' + text + b' , "env":{}}'
        assert stub_api.post("/functions/greet/invoke", body=body).status == 200

    assert [bytes(request.input) for request in stub_api.invoker.requests] == texts


def test_the_deadline_is_the_requests_the_deployments_or_the_default(
    limited_api: Callable[..., Any],
) -> None:
    api = limited_api(default_timeout_ms=1000, max_timeout_ms=5000)
    api.deploy("plain")
    api.deploy("own", limits={"timeout_ms": 2000})
    for name, fields in (("plain", {}), ("own", {}), ("own", {"timeout_ms": 3000})):
        api.invoke(name, **fields)

    assert [call.timeout_ms for call in api.invoker.calls] == [1000, 2000, 3000]
    assert api.invoke("plain", timeout_ms=5000)["status"] == "succeeded"
    refused = api.post("/functions/plain/invoke", {"timeout_ms": 5001})
    refused.refused(422, "invalid_value", "/timeout_ms")


def test_trace_context_is_handed_on_when_legal(stub_api: Any) -> None:
    stub_api.deploy()
    illegal = ("nonsense", TRACEPARENT + "\n", TRACEPARENT.replace("00-", "ff-", 1))
    for given in (TRACEPARENT, *illegal):
        stub_api.post("/functions/greet/invoke", {}, headers={"traceparent": given})

    handed_on = [call.invocation.traceparent for call in stub_api.invoker.calls]
    assert handed_on == [TRACEPARENT, None, None, None]


def test_trace_context_reaches_the_handler(api: Any, modules: dict[str, str]) -> None:
    api.deploy(source=modules["trace"])
    found = []
    for headers in ({"traceparent": TRACEPARENT}, {"traceparent": TRACEPARENT.upper()}, {}):
        result = api.post("/functions/greet/invoke", {}, headers=headers).json
        found.append(result["output"]["data"])

    assert found == [TRACEPARENT, None, None]


def test_an_execution_id_in_use_is_a_conflict(stub_api: Any) -> None:
    stub_api.deploy()
    stub_api.invoke(execution_id="chosen-by-me")

    again = stub_api.post("/functions/greet/invoke", {"execution_id": "chosen-by-me"})
    assert again.refused(409, "execution_id_taken")["outcome"] == "not_executed"


@pytest.mark.parametrize(
    ("error", "status", "code", "outcome"),
    [
        (CapacityError("full", retry_after_s=3), 429, "no_capacity", "not_executed"),
        (RunnerUnavailable(), 503, "runner_unavailable", "not_executed"),
        (ImageUnavailable(), 503, "image_unavailable", "not_executed"),
        (StorageUnavailable(), 503, "storage_unavailable", "not_executed"),
        (Draining(), 503, "draining", "not_executed"),
        (SourceCorrupt(), 500, "source_corrupt", "not_executed"),
        (UnconfirmedEnd(), 502, "unconfirmed_end", "unknown"),
        (WorkerLost(), 502, "worker_lost", "unknown"),
        (WorkerSkew(), 502, "worker_skew", "not_executed"),
        (WorkerTimeout(), 504, "worker_timeout", "unknown"),
    ],
)
def test_faults_of_the_platform_say_whether_it_ran(
    stub_api: Any, error: FaasError, status: int, code: str, outcome: str
) -> None:
    stub_api.deploy()
    stub_api.invoker.fail_with = error
    answer = stub_api.post("/functions/greet/invoke", {})

    assert answer.refused(status, code)["outcome"] == outcome
    assert answer.headers.get("Retry-After") == {429: "3", 503: "1"}.get(status)


def test_an_unforeseen_error_may_have_executed(
    stub_api: Any, caplog: pytest.LogCaptureFixture
) -> None:
    stub_api.deploy()
    stub_api.invoker.fail_with = ValueError("the password is hunter2")
    answer = stub_api.post("/functions/greet/invoke", {})

    problem = answer.refused(500, "internal_error")
    assert problem["outcome"] == "unknown"
    assert b"hunter2" not in answer.body
    assert problem["request_id"] in caplog.text
