"""From captured lines to sinks: identity, limits, and delivery that never holds up an invocation."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from lowcode_faas_core.interfaces.log_sink import LogSink
from lowcode_faas_core.model import Invocation, LogEvent, LogLine, LogSummary

__all__ = ["LogRouter", "RunLog"]

_log = logging.getLogger(__name__)

#: Events that may wait for one sink; the oldest are dropped and counted beyond it.
QUEUE_EVENTS: Final = 20_000
#: Events of one batch.
BATCH_EVENTS: Final = 500
#: Shortest time between two warnings about drops at one sink, in seconds.
WARN_EVERY_S: Final = 10.0
#: Time to deliver what is left at close, in seconds.
FLUSH_S: Final = 2.0


class RunLog:
    """What one execution prints: numbers its lines, cuts what is too much, counts.

    It outlives its run, since timers of one execution go on while the instance runs another one;
    what comes after :meth:`finish` is marked ``late``.
    """

    __slots__ = (
        "_bytes",
        "_dropped_bytes",
        "_dropped_lines",
        "_finished",
        "_invocation",
        "_line_limit",
        "_lines",
        "_router",
        "_run_limit",
        "_seq",
        "_truncated",
    )

    def __init__(
        self, router: LogRouter, invocation: Invocation, line_limit: int, run_limit: int
    ) -> None:
        self._router = router
        self._invocation = invocation
        self._line_limit = line_limit
        self._run_limit = run_limit
        self._bytes = 0
        self._lines = 0
        self._seq = 0
        self._dropped_lines = 0
        self._dropped_bytes = 0
        self._truncated = False
        self._finished = False

    def __call__(self, line: LogLine) -> None:
        """Take one line."""
        self._lines += 1
        message, truncated = line.message, False
        # A character has at most four bytes: short lines need no second look.
        size = len(message)
        if size * 4 > self._line_limit:
            encoded = message.encode("utf-8", "replace")
            size = len(encoded)
            if size > self._line_limit:
                message = encoded[: self._line_limit].decode("utf-8", "ignore")
                truncated = self._truncated = True
                size = self._line_limit
        if self._bytes + size > self._run_limit:
            self._truncated = True
            self._dropped_lines += 1
            self._dropped_bytes += size
            return
        self._bytes += size
        self._emit(line.ts_ns, line.level, line.stream, message, truncated)

    def finish(self) -> LogSummary:
        """Say what was dropped, and return the counts of the run."""
        if self._dropped_lines:
            self._emit(
                time.time_ns(),
                "warn",
                "platform",
                f"{self._dropped_lines} lines ({self._dropped_bytes} bytes) of this run were "
                f"dropped: a run may log {self._run_limit} bytes",
                False,
            )
        self._finished = True
        return LogSummary(self._lines, self._truncated)

    def _emit(self, ts_ns: int, level: str, stream: str, message: str, truncated: bool) -> None:
        self._seq += 1
        invocation = self._invocation
        deployment = invocation.deployment
        self._router.emit(
            LogEvent(
                ts=_timestamp(ts_ns),
                level=level,
                message=message,
                log_stream=stream,
                run_id=invocation.run_id,
                execution_id=invocation.execution_id,
                function_name=deployment.function_name,
                collection_path=deployment.collection_path,
                deployment_id=deployment.deployment_id,
                deployment_version=deployment.version,
                seq=self._seq,
                late=self._finished,
                truncated=truncated,
            )
        )


def _timestamp(ts_ns: int) -> str:
    seconds, nanoseconds = divmod(ts_ns, 1_000_000_000)
    if not 0 <= seconds < 253_402_300_800:  # the year 10000: not a time a sandbox can mean
        seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
    moment = datetime.fromtimestamp(seconds, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{nanoseconds:09d}Z"


class _Lane:
    """One sink, its bounded queue, and the thread that delivers."""

    def __init__(self, name: str, sink: LogSink) -> None:
        self.name = name
        self.delivered = 0
        self.dropped = 0
        self._sink = sink
        self._queue: deque[LogEvent] = deque()
        self._wake = threading.Event()
        self._closing = False
        self._warned_at = -WARN_EVERY_S
        self._warned_count = 0
        self._last_error: Exception | None = None
        self._thread = threading.Thread(target=self._deliver, name=f"logs-{name}", daemon=True)
        self._thread.start()

    def put(self, event: LogEvent) -> None:
        if len(self._queue) >= QUEUE_EVENTS:
            try:
                self._queue.popleft()
                self.dropped += 1
            except IndexError:  # the delivery thread was faster
                pass
        self._queue.append(event)
        if not self._wake.is_set():
            self._wake.set()

    def close(self) -> None:
        self._closing = True
        self._wake.set()
        self._thread.join(FLUSH_S + 1)
        left = len(self._queue)
        if left:
            self._drop(left)
        self._warn(at_close=True)
        try:
            self._sink.close()
        except Exception as error:  # a sink's failure is nobody else's
            _log.warning("log sink %s failed to close: %s", self.name, error)

    def _deliver(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            while self._queue:
                self._emit_batch()
                self._warn()
            if self._closing:
                self._flush()
                return

    def _emit_batch(self) -> None:
        batch: list[LogEvent] = []
        while len(batch) < BATCH_EVENTS:
            try:
                batch.append(self._queue.popleft())
            except IndexError:
                break
        try:
            self._sink.emit(batch)
            self.delivered += len(batch)
        except Exception as error:  # counted and said; never another sink's trouble
            self._drop(len(batch))
            self._last_error = error

    def _flush(self) -> None:
        try:
            self._drop(self._sink.flush(time.monotonic_ns() + int(FLUSH_S * 1e9)))
        except Exception as error:  # as above
            _log.warning("log sink %s failed to flush: %s", self.name, error)

    def _drop(self, count: int) -> None:
        self.dropped += count

    def _warn(self, *, at_close: bool = False) -> None:
        new = self.dropped - self._warned_count
        now = time.monotonic()
        if new and (at_close or now - self._warned_at >= WARN_EVERY_S):
            self._warned_at, self._warned_count = now, self.dropped
            reason = self._last_error or "its queue was full"
            _log.warning("log sink %s lost %d events: %s", self.name, new, reason)


class LogRouter:
    """Hands each event to every sink; a slow or failing sink is alone with its trouble."""

    def __init__(self, sinks: Mapping[str, LogSink]) -> None:
        self._lanes = [_Lane(name, sink) for name, sink in sinks.items()]

    def emit(self, event: LogEvent) -> None:
        """Take one event; never blocks, never raises."""
        for lane in self._lanes:
            lane.put(event)

    def counts(self) -> dict[str, dict[str, int]]:
        """Return what each sink got and lost."""
        return {
            lane.name: {"delivered": lane.delivered, "dropped": lane.dropped}
            for lane in self._lanes
        }

    def close(self) -> None:
        """Deliver what is left within the time, then end; may be called twice."""
        lanes, self._lanes = self._lanes, []
        for lane in lanes:
            lane.close()
