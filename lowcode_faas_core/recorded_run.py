"""One run that is under way: its lines, and what is known of it before there is a verdict."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from lowcode_faas_core.ids import moment
from lowcode_faas_core.model import Invocation, LogEvent, Outcome, RunResult
from lowcode_faas_core.records import Record, RecordStatus

if TYPE_CHECKING:
    from lowcode_faas_core.recording import Recorder

__all__ = ["Run", "started_record"]


class Run:
    """One run that is under way: takes its lines, and what became of it.

    Kept as long as late lines may come, which is longer than its input and its lines are.
    """

    __slots__ = (
        "_emit",
        "_recorder",
        "begun_ns",
        "doubtful",
        "ended",
        "execution_id",
        "forgotten",
        "handed",
        "invocation",
        "lines",
        "started_ns",
        "written",
    )

    def __init__(
        self,
        recorder: Recorder,
        invocation: Invocation,
        started_ns: int,
        emit: Callable[[LogEvent], None] | None,
    ) -> None:
        self._recorder = recorder
        self._emit = emit
        self.execution_id = invocation.execution_id
        #: Until it has ended.
        self.invocation: Invocation | None = invocation
        #: Wall clock, and the monotonic one.
        self.started_ns = started_ns
        self.begun_ns = time.monotonic_ns()
        self.lines: list[LogEvent] = []
        #: How many of the lines the store has.
        self.handed = 0
        #: Whether the store has a record of it.
        self.written = False
        #: Whether it was asked to have one, and gave no answer.
        self.doubtful = False
        self.ended = False
        #: Whether it never started, and nothing of it is to be kept.
        self.forgotten = False

    def emit(self, event: LogEvent) -> None:
        """Take a line, and pass it on to the sinks."""
        if self.ended:
            self._recorder.late(event)
        else:
            self.lines.append(event)
        if self._emit is not None:
            self._emit(event)

    def finish(self, result: RunResult) -> None:
        """Have the verdict recorded."""
        self._recorder.finish(self, result)

    def fail(self, error: BaseException) -> None:
        """Learn that there is no verdict: it never started, or nobody knows what it did."""
        self._recorder.fail(self, error)


def started_record(
    run: Run, invocation: Invocation, status: RecordStatus = RecordStatus.RUNNING
) -> Record:
    """Return what is known of a run without its verdict."""
    deployment = invocation.deployment
    return Record(
        execution_id=invocation.execution_id,
        run_id=invocation.run_id,
        request_id=invocation.request_id,
        function_name=deployment.function_name,
        collection_path=deployment.collection_path,
        deployment_id=deployment.deployment_id,
        deployment_version=deployment.version,
        status=status,
        started_at=moment(run.started_ns),
        outcome=Outcome.UNKNOWN,
        replay_of=invocation.replay_of,
    )
