"""What is kept of an execution: its record, the lines it printed, and what is asked of many.

A record is the :class:`~lowcode_faas_core.model.RunResult` of its run, or as much of it as is known
while the run goes on, or after the process that ran it was lost.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from lowcode_faas_core.model import (
    ExecutionError,
    LogEvent,
    LogSummary,
    Outcome,
    RunResult,
    StartKind,
    Status,
    Timings,
    Usage,
)

__all__ = [
    "FINAL",
    "FunctionStats",
    "Measured",
    "Percentiles",
    "Record",
    "RecordFilter",
    "RecordStatus",
    "RecordedLine",
    "line_of",
    "record_of",
    "stats_of",
]


class RecordStatus(enum.StrEnum):
    """The verdict over an execution, or why there is none."""

    RUNNING = "running"
    LOST = "lost"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    HANDLER_ERROR = "handler_error"
    INVALID_OUTPUT = "invalid_output"
    OUTPUT_TOO_LARGE = "output_too_large"
    INVALID_HANDLER = "invalid_handler"
    TIMEOUT = "timeout"
    OUT_OF_MEMORY = "out_of_memory"
    CRASHED = "crashed"
    CANCELLED = "cancelled"


_recorded: Final = {status: RecordStatus(status.value) for status in Status}
#: A verdict: such a record never changes again.
FINAL: Final = frozenset(_recorded.values())


class Record(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One execution. Without a verdict, what only a verdict brings is ``None``.

    ``input`` and ``output`` are JSON text, kept only where the operator wants them; a text that is
    marked as cut is a beginning and no JSON any more.
    """

    execution_id: str
    run_id: str
    request_id: str
    function_name: str
    collection_path: str
    deployment_id: str
    deployment_version: int
    status: RecordStatus
    #: RFC 3339 in UTC with microseconds: equal lengths, so that texts sort by time.
    started_at: str
    finished_at: str | None = None
    start: StartKind | None = None
    outcome: Outcome = Outcome.UNKNOWN
    error: ExecutionError | None = None
    timings_ms: Timings | None = None
    usage: Usage | None = None
    logs: LogSummary | None = None
    #: The execution whose input this one was given again.
    replay_of: str | None = None
    input: str | None = None
    input_cut: bool = False
    output: str | None = None
    output_cut: bool = False


def record_of(
    result: RunResult,
    *,
    replay_of: str | None = None,
    given: tuple[str | None, bool] = (None, False),
    answered: tuple[str | None, bool] = (None, False),
) -> Record:
    """Return the record of a run with a verdict; input and output with whether they were cut."""
    return Record(
        execution_id=result.execution_id,
        run_id=result.run_id,
        request_id=result.request_id,
        function_name=result.function_name,
        collection_path=result.collection_path,
        deployment_id=result.deployment_id,
        deployment_version=result.deployment_version,
        status=_recorded[result.status],
        started_at=result.started_at,
        finished_at=result.finished_at,
        start=result.start,
        outcome=result.outcome,
        error=result.error,
        timings_ms=result.timings_ms,
        usage=result.usage,
        logs=result.logs,
        replay_of=replay_of,
        input=given[0],
        input_cut=given[1],
        output=answered[0],
        output_cut=answered[1],
    )


class RecordedLine(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One line an execution printed; who printed it stands in its record."""

    execution_id: str
    seq: int
    ts: str
    level: str
    log_stream: str
    message: str
    late: bool = False
    truncated: bool = False


def line_of(event: LogEvent) -> RecordedLine:
    """Return what is kept of an event."""
    return RecordedLine(
        execution_id=event.execution_id,
        seq=event.seq,
        ts=event.ts,
        level=event.level,
        log_stream=event.log_stream,
        message=event.message,
        late=event.late,
        truncated=event.truncated,
    )


class RecordFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which records a list shows: those that match every part that is given."""

    #: A collection and everything below it; ``""`` and ``None`` are all.
    collection_path: str | None = None
    function_name: str | None = None
    status: RecordStatus | None = None
    start: StartKind | None = None
    deployment_id: str | None = None
    run_id: str | None = None
    #: ``started_at`` not before this, in the same form.
    since: str | None = None
    #: ``started_at`` before this.
    until: str | None = None


class Percentiles(msgspec.Struct, frozen=True):
    """Nearest-rank percentiles of what was measured; ``None`` of nothing."""

    p50: float | None
    p95: float | None
    p99: float | None


class FunctionStats(msgspec.Struct, frozen=True, kw_only=True):
    """What the executions of one function in some time add up to."""

    #: Executions by status; a status nothing has is absent.
    by_status: dict[str, int]
    #: Of those with a verdict, in milliseconds.
    run_ms: Percentiles
    total_ms: Percentiles
    #: Which part of those with a verdict began neither warm nor prewarmed; ``None`` of nothing.
    cold_share: float | None
    #: CPU in all, in milliseconds, of those whose runner tells.
    cpu_ms: float | None
    #: The largest resident memory any of them reached.
    max_rss_bytes: int | None
    #: The newest execution that has an error, and that error.
    last_error_id: str | None = None
    last_error_at: str | None = None
    last_error: ExecutionError | None = None


class Measured(msgspec.Struct, frozen=True):
    """What :func:`stats_of` needs of one record."""

    status: str
    start: str | None
    run_ms: float | None
    total_ms: float | None
    cpu_ms: float | None
    max_rss_bytes: int | None


def stats_of(rows: Iterable[Measured], last_error: Record | None) -> FunctionStats:
    """Add up: for stores whose database cannot."""
    by_status: dict[str, int] = {}
    runs: list[float] = []
    totals: list[float] = []
    cpu: list[float] = []
    judged = cold = peak = 0
    for row in rows:
        by_status[row.status] = by_status.get(row.status, 0) + 1
        if row.run_ms is not None:
            runs.append(row.run_ms)
        if row.total_ms is not None:
            totals.append(row.total_ms)
        if row.cpu_ms is not None:
            cpu.append(row.cpu_ms)
        if row.start is not None:
            judged += 1
            cold += row.start == StartKind.COLD
        peak = max(peak, row.max_rss_bytes or 0)
    return FunctionStats(
        by_status=by_status,
        run_ms=_percentiles(runs),
        total_ms=_percentiles(totals),
        cold_share=round(cold / judged, 4) if judged else None,
        cpu_ms=round(math.fsum(cpu), 3) if cpu else None,
        max_rss_bytes=peak or None,
        last_error_id=None if last_error is None else last_error.execution_id,
        last_error_at=None if last_error is None else last_error.started_at,
        last_error=None if last_error is None else last_error.error,
    )


def _percentiles(values: Sequence[float]) -> Percentiles:
    ranked = sorted(values)

    def at(share: float) -> float | None:
        return ranked[max(0, math.ceil(share * len(ranked)) - 1)] if ranked else None

    return Percentiles(at(0.5), at(0.95), at(0.99))
