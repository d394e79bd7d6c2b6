"""From events to sinks: bounded queues, a thread a sink, failures isolated and counted."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping
from typing import Any, Final

from lowcode_faas_core.interfaces.log_sink import LogSink, Undelivered
from lowcode_faas_core.meter import Meter
from lowcode_faas_core.model import LogEvent

__all__ = ["LogRouter"]

_log = logging.getLogger(__name__)

#: Events that may wait for one sink; the oldest are dropped and counted beyond it.
QUEUE_EVENTS: Final = 20_000
#: Memory that what waits for one sink may take, in bytes; the same beyond it.
QUEUE_BYTES: Final = 16 << 20
#: Memory of an event beside its message, in bytes: measured with ids and times of its own.
EVENT_BYTES: Final = 500
#: Text of one batch, in bytes.
BATCH_BYTES: Final = 1 << 20
#: Shortest time between two warnings about drops at one sink, in seconds.
WARN_EVERY_S: Final = 10.0
#: Time to deliver what is left at close, in seconds.
FLUSH_S: Final = 2.0
#: Time for a sink to release what it holds after that, in seconds.
RELEASE_S: Final = 1.0


class _Lane:
    """One sink, its bounded queue, and the thread that delivers.

    Every event put is counted once in the end: delivered, or dropped under a reason.
    """

    def __init__(self, name: str, sink: LogSink, meter: Meter) -> None:
        self.name = name
        self._meter = meter
        self.delivered = 0
        self.dropped = 0
        self.reasons: dict[str, int] = {}
        #: Why the last batch failed; ``None`` once one went through.
        self.trouble: str | None = None
        self._sink = sink
        self._queue: deque[tuple[LogEvent, int]] = deque()
        self._queued_bytes = 0
        self._in_hand = 0
        # Counting and queueing are one step: of two threads that add to a number, one may be lost.
        self._changed = threading.Condition(threading.Lock())
        self._closing = False
        self._closed = False
        self._warned_at = -WARN_EVERY_S
        self._warned_count = 0
        self._thread = threading.Thread(target=self._deliver, name=f"logs-{name}", daemon=True)
        self._thread.start()

    def put(self, event: LogEvent) -> None:
        size = EVENT_BYTES + sys.getsizeof(event.message)
        with self._changed:
            if self._closed:
                self._drop(1, "shutdown")
                return
            self._queue.append((event, size))
            self._queued_bytes += size
            while len(self._queue) > QUEUE_EVENTS or self._queued_bytes > QUEUE_BYTES:
                self._queued_bytes -= self._queue.popleft()[1]
                self._drop(1, "queue_full")
            waiting = len(self._queue)
            filled = self._queued_bytes - size < BATCH_BYTES <= self._queued_bytes
            if waiting == 1 or waiting == self._sink.batch_events or filled:
                self._changed.notify()

    def backlog(self) -> int:
        with self._changed:
            return len(self._queue) + self._in_hand

    def start_closing(self, deadline_ns: int) -> None:
        """Have the thread deliver what is left and end; returns at once."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        try:
            self._sink.closing(deadline_ns)
        except Exception as error:  # a sink's failure is nobody else's
            _log.warning("log sink %s failed to stop: %s", self.name, error)

    def close(self, deadline_ns: int) -> None:
        """Wait for the thread, count what it did not get to, and release the sink."""
        self._thread.join(max(0.0, (deadline_ns - time.monotonic_ns()) / 1e9) + 0.5)
        with self._changed:
            self._closed = True
            self._drop(len(self._queue) + self._in_hand, "shutdown")
            self._queue.clear()
            self._in_hand = 0
        self._warn(at_close=True)
        # In a thread of its own: a sink that hangs would hold up the end of the process.
        release = threading.Thread(target=self._release, name=f"close {self.name}", daemon=True)
        release.start()
        release.join(RELEASE_S)
        if release.is_alive():
            _log.warning("log sink %s does not close; it is left behind", self.name)

    def _release(self) -> None:
        try:
            self._sink.close()
        except Exception as error:  # as above
            _log.warning("log sink %s failed to close: %s", self.name, error)

    def _deliver(self) -> None:
        while batch := self._next_batch():
            lost, reason = 0, ""
            try:
                self._sink.emit(batch)
            except Undelivered as error:
                lost, reason = error.count, str(error)
            except Exception as error:  # counted and said; never another sink's trouble
                lost, reason = len(batch), f"{type(error).__name__}: {error}"
            with self._changed:
                if self._closed:  # counted by close, which did not wait any longer
                    return
                self._in_hand = 0
                self.delivered += len(batch) - lost
                self._meter.log_events(self.name, len(batch) - lost)
                self._drop(lost, "sink_failed")
                self.trouble = reason or None
            self._warn()
        self._flush()

    def _next_batch(self) -> list[LogEvent]:
        """Wait for events and take some; nothing means that it is time to end."""
        sink = self._sink
        with self._changed:
            while not self._queue:
                if self._closing:
                    return []
                self._changed.wait()
            if sink.linger_s > 0 and not self._closing:
                self._changed.wait_for(lambda: self._closing or self._has_batch(), sink.linger_s)
            batch: list[LogEvent] = []
            taken = 0
            while self._queue and len(batch) < sink.batch_events and taken < BATCH_BYTES:
                event, size = self._queue.popleft()
                batch.append(event)
                taken += size
            self._queued_bytes -= taken
            self._in_hand = len(batch)
        return batch

    def _has_batch(self) -> bool:
        # By bytes, too: of long lines the queue holds less than so many.
        return len(self._queue) >= self._sink.batch_events or self._queued_bytes >= BATCH_BYTES

    def _flush(self) -> None:
        try:
            lost = self._sink.flush(time.monotonic_ns() + int(FLUSH_S * 1e9))
        except Exception as error:  # as above
            _log.warning("log sink %s failed to flush: %s", self.name, error)
            return
        with self._changed:
            # What a sink gives up now was counted as delivered when the sink took it.
            self.delivered -= lost
            self._drop(lost, "shutdown", told=True)

    def _drop(self, count: int, reason: str, *, told: bool = False) -> None:
        if count:
            self.dropped += count
            self.reasons[reason] = self.reasons.get(reason, 0) + count
            self._meter.log_events(self.name, 0 if told else count)
            self._meter.log_events_dropped(self.name, reason, count)

    def _warn(self, *, at_close: bool = False) -> None:
        new = self.dropped - self._warned_count
        now = time.monotonic()
        if new and (at_close or now - self._warned_at >= WARN_EVERY_S):
            self._warned_at, self._warned_count = now, self.dropped
            reason = self.trouble or "more was printed than it took"
            _log.warning("log sink %s lost %d events: %s", self.name, new, reason)


class LogRouter:
    """Hands each event to every sink; a slow or failing sink is alone with its trouble."""

    def __init__(self, sinks: Mapping[str, LogSink], meter: Meter | None = None) -> None:
        self._lanes = [_Lane(name, sink, meter or Meter()) for name, sink in sinks.items()]
        self._closed = False

    def emit(self, event: LogEvent) -> None:
        """Take one event; never waits for a sink, never raises."""
        for lane in self._lanes:
            lane.put(event)

    def counts(self) -> dict[str, dict[str, Any]]:
        """Return what each sink got and lost, and the losses by reason."""
        return {
            lane.name: {
                "delivered": lane.delivered,
                "dropped": lane.dropped,
                "reasons": dict(lane.reasons),
            }
            for lane in self._lanes
        }

    def backlog(self) -> int:
        """Return how many events are neither delivered nor dropped yet."""
        return sum(lane.backlog() for lane in self._lanes)

    def degraded(self) -> list[str]:
        """Return a sentence for each sink whose last batch failed."""
        return [f"log sink {lane.name}: {lane.trouble}" for lane in self._lanes if lane.trouble]

    def close(self) -> None:
        """Deliver what is left within the time, all sinks at once; may be called twice."""
        if self._closed:
            return
        self._closed = True
        deadline_ns = time.monotonic_ns() + int(FLUSH_S * 1e9)
        for lane in self._lanes:
            lane.start_closing(deadline_ns)
        for lane in self._lanes:
            lane.close(deadline_ns)
