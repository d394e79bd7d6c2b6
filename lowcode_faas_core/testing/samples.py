"""Values that the contracts and stubs are tried with: a deployment, an invocation, a log event."""

from __future__ import annotations

import time
from typing import Any

import msgspec

from lowcode_faas_core.ids import new_id, now
from lowcode_faas_core.model import (
    Deployment,
    Draft,
    Invocation,
    Language,
    Limits,
    LogEvent,
    LogSummary,
    Outcome,
    Reuse,
    RunResult,
    StartKind,
    Status,
    Timings,
    Usage,
)
from lowcode_faas_core.records import Record, RecordedLine, RecordStatus, line_of

__all__ = [
    "sample_deployment",
    "sample_draft",
    "sample_event",
    "sample_invocation",
    "sample_line",
    "sample_record",
    "sample_result",
    "sample_running",
]


def sample_deployment(**changes: Any) -> Deployment:
    """Return a deployment with an id of its own."""
    values: dict[str, Any] = {
        "deployment_id": new_id(),
        "function_name": "greet",
        "collection_path": "",
        "version": 1,
        "language": Language.JAVASCRIPT,
        "sha256": "0" * 64,
        "size": 0,
        "source_url": None,
        "reuse": Reuse.WARM,
        "limits": Limits(),
        "created_at": now(),
        "current": True,
        "checked": False,
        "restored_from": None,
    }
    return Deployment(**{**values, **changes})


def sample_draft(
    source: bytes = b"export const handler = () => ({ok: true});",
    *,
    language: Language = Language.JAVASCRIPT,
    reuse: Reuse = Reuse.WARM,
    limits: Limits | None = None,
    env: dict[str, str] | None = None,
    source_url: str | None = None,
    checked: bool = False,
) -> Draft:
    """Return a draft; every part that is not given is an ordinary one."""
    return Draft(
        source=source,
        language=language,
        reuse=reuse,
        limits=limits or Limits(),
        env=env,
        source_url=source_url,
        checked=checked,
    )


def sample_invocation(
    deployment: Deployment | None = None,
    value: object = None,
    *,
    timeout_ms: int = 10_000,
    env: dict[str, str] | None = None,
) -> Invocation:
    """Return an invocation accepted now; ``value`` is its input, ``{}`` when absent."""
    now_ns = time.monotonic_ns()
    execution_id = new_id()
    return Invocation(
        execution_id=execution_id,
        run_id=execution_id,
        request_id=new_id(),
        deployment=deployment or sample_deployment(),
        env=env or {},
        request_env=False,
        input=msgspec.Raw(msgspec.json.encode({} if value is None else value)),
        accepted_ns=now_ns,
        deadline_ns=now_ns + timeout_ms * 1_000_000,
    )


def sample_event(seq: int = 1, message: str = "hello", **changes: Any) -> LogEvent:
    """Return a log event."""
    values: dict[str, Any] = {
        "ts": "2026-01-02T03:04:05.123456789Z",
        "level": "info",
        "message": message,
        "log_stream": "stdout",
        "run_id": "run-1",
        "execution_id": "execution-1",
        "function_name": "greet",
        "collection_path": "org/team",
        "deployment_id": "deployment-1",
        "deployment_version": 3,
        "seq": seq,
    }
    return LogEvent(**{**values, **changes})


def sample_result(**changes: Any) -> RunResult:
    """Return the result of a run that succeeded, under an execution id of its own."""
    execution_id = new_id()
    values: dict[str, Any] = {
        "execution_id": execution_id,
        "run_id": execution_id,
        "request_id": new_id(),
        "function_name": "greet",
        "collection_path": "org/team",
        "deployment_id": new_id(),
        "deployment_version": 3,
        "status": Status.SUCCEEDED,
        "output": msgspec.Raw(b'{"ok":true}'),
        "error": None,
        "start": StartKind.WARM,
        "outcome": Outcome.EXECUTED,
        "started_at": now(),
        "finished_at": now(),
        "timings_ms": Timings(0.0, 0.0, 1.0, 1.0),
        "usage": Usage(0.5, 1 << 20),
        "logs": LogSummary(0, False),
    }
    return RunResult(**{**values, **changes})


def sample_record(**changes: Any) -> Record:
    """Return the record of a run that succeeded, under an execution id of its own."""
    result = sample_result()
    values: dict[str, Any] = {
        name: getattr(result, name)
        for name in result.__struct_fields__
        if name not in ("status", "output")
    }
    return Record(**{**values, "status": RecordStatus.SUCCEEDED, **changes})


def sample_running(**changes: Any) -> Record:
    """Return the record of a run that goes on, under an execution id of its own."""
    execution_id = new_id()
    values: dict[str, Any] = {
        "execution_id": execution_id,
        "run_id": execution_id,
        "request_id": new_id(),
        "function_name": "greet",
        "collection_path": "org/team",
        "deployment_id": "deployment-1",
        "deployment_version": 3,
        "status": RecordStatus.RUNNING,
        "started_at": now(),
    }
    return Record(**{**values, **changes})


def sample_line(execution_id: str, seq: int = 1, message: str = "hello") -> RecordedLine:
    """Return a line of an execution."""
    return line_of(sample_event(seq, message, execution_id=execution_id))
