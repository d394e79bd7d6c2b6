from __future__ import annotations

import msgspec
import pytest

from lowcode_faas_core.model import (
    LogSummary,
    Outcome,
    RunResult,
    StartKind,
    Status,
    Timings,
    Usage,
)
from lowcode_faas_core.wire import decode_result


@pytest.mark.parametrize("output", [None, msgspec.Raw(b'{"ok":true,"data":[1, 2.0]}')])
def test_a_result_survives_the_way_through_a_worker(output: msgspec.Raw | None) -> None:
    result = RunResult(
        execution_id="execution",
        run_id="run",
        request_id="request",
        function_name="greet",
        collection_path="org/team",
        deployment_id="deployment",
        deployment_version=3,
        status=Status.SUCCEEDED,
        output=output,
        error=None,
        start=StartKind.WARM,
        outcome=Outcome.EXECUTED,
        started_at="2026-11-22T09:00:00.123456Z",
        finished_at="2026-11-22T09:00:00.123457Z",
        timings_ms=Timings(0.1, 0.0, 0.9, 1.2),
        usage=Usage(None, 52_000_000),
        logs=LogSummary(2, False),
    )
    text = msgspec.json.encode(result)
    decoded = decode_result(text)
    assert msgspec.json.encode(decoded) == text
    assert (decoded.output is None) is (output is None)


@pytest.mark.parametrize("text", [b"", b"<html>", b"{}", b'{"execution_id": 5}'])
def test_anything_else_is_a_decode_error(text: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_result(text)
