"""From captured lines to events: identity and limits of what one execution prints."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Final, Protocol

from lowcode_faas_core.delivery import LogRouter
from lowcode_faas_core.model import ExecutionError, Invocation, LogEvent, LogLine, LogSummary

__all__ = ["LogRouter", "RunLog", "TakesEvents"]

#: What a line counts against the limit of its run at least, in bytes: an event is some 400 bytes
#: on its way whatever it says, and empty lines must not be free.
LEAST_COST: Final = 16


class TakesEvents(Protocol):
    """What a run's lines go to; never waits, never raises."""

    def emit(self, event: LogEvent) -> None:
        """Take one event."""


class RunLog:
    """What one execution prints: numbers its lines, cuts what is too much, counts.

    It outlives its run, since timers of one execution go on while the instance runs another one;
    what comes after :meth:`finish` is marked ``late``.
    """

    __slots__ = (
        "_bytes",
        "_deployment",
        "_dropped_bytes",
        "_dropped_lines",
        "_execution_id",
        "_finished",
        "_half",
        "_late_drop_said",
        "_line_limit",
        "_lines",
        "_router",
        "_run_id",
        "_run_limit",
        "_seq",
        "_traceparent",
        "_truncated",
    )

    def __init__(
        self, router: TakesEvents, invocation: Invocation, line_limit: int, run_limit: int
    ) -> None:
        self._router = router
        # Not the invocation, which has the input.
        self._deployment = invocation.deployment
        self._execution_id = invocation.execution_id
        self._run_id = invocation.run_id
        self._traceparent = invocation.traceparent
        self._line_limit = line_limit
        self._run_limit = run_limit
        self._bytes = 0
        self._lines = 0
        self._seq = 0
        self._dropped_lines = 0
        self._dropped_bytes = 0
        self._truncated = False
        self._finished = False
        self._half = False
        self._late_drop_said = False

    def __call__(self, line: LogLine) -> None:
        """Take one line."""
        self._lines += 1
        message, size, truncated = _fitted(line.message, self._line_limit)
        self._truncated |= truncated
        cost = max(size, LEAST_COST)
        if self._bytes + cost > self._run_limit:
            self._drop(size)
            return
        self._bytes += cost
        self._emit(line.ts_ns, line.level, line.stream, message, truncated)

    def skip(self, data: bytes) -> bool:
        """Count raw bytes unseen, and say so, once the run has printed all it may."""
        if self._bytes + LEAST_COST <= self._run_limit:
            return False
        lines = data.count(b"\n")
        self._half = not data.endswith(b"\n")
        self._lines += lines
        self._truncated = True
        self._dropped_lines += lines
        self._dropped_bytes += len(data) - lines
        return True

    def finish(self, error: ExecutionError | None = None) -> LogSummary:
        """Say what was dropped and how the run failed, and return its counts."""
        if self._half:
            self._lines += 1
            self._dropped_lines += 1
        if self._dropped_lines:
            self._say(
                "warn",
                f"{self._dropped_lines} lines ({self._dropped_bytes} bytes) of this run were "
                f"dropped: a run may log {self._run_limit} bytes",
            )
        if error is not None:
            self._say("error", f"{error.code}: {error.stack or error.message}")
        self._finished = True
        return LogSummary(self._lines, self._truncated)

    def _drop(self, size: int) -> None:
        self._truncated = True
        self._dropped_lines += 1
        self._dropped_bytes += size
        if self._finished and not self._late_drop_said:
            self._late_drop_said = True
            self._say("warn", f"late lines are dropped: a run may log {self._run_limit} bytes")

    def _say(self, level: str, text: str) -> None:
        message, _, truncated = _fitted(text, self._line_limit)
        self._emit(time.time_ns(), level, "platform", message, truncated)

    def _emit(self, ts_ns: int, level: str, stream: str, message: str, truncated: bool) -> None:
        self._seq += 1
        deployment = self._deployment
        self._router.emit(
            LogEvent(
                ts=_timestamp(ts_ns),
                level=level,
                message=message,
                log_stream=stream,
                run_id=self._run_id,
                execution_id=self._execution_id,
                function_name=deployment.function_name,
                collection_path=deployment.collection_path,
                deployment_id=deployment.deployment_id,
                deployment_version=deployment.version,
                seq=self._seq,
                traceparent=self._traceparent,
                late=self._finished,
                truncated=truncated,
            )
        )


def _fitted(message: str, limit: int) -> tuple[str, int, bool]:
    """Return the message cut to ``limit`` bytes of UTF-8, its size, and whether it was cut.

    Lone surrogates, which no UTF-8 can hold, become U+FFFD.
    """
    if message.isascii():
        size = len(message)
        return (message, size, False) if size <= limit else (message[:limit], limit, True)
    try:
        encoded = message.encode()
    except UnicodeEncodeError:
        message = message.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        encoded = message.encode()
    if len(encoded) <= limit:
        return message, len(encoded), False
    message = encoded[:limit].decode("utf-8", "ignore")
    return message, limit, True


def _timestamp(ts_ns: int) -> str:
    seconds, nanoseconds = divmod(ts_ns, 1_000_000_000)
    if not 0 <= seconds < 253_402_300_800:  # the year 10000: not a time a sandbox can mean
        seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
    moment = datetime.fromtimestamp(seconds, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{nanoseconds:09d}Z"
