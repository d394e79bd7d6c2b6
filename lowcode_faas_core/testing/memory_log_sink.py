"""A log sink that keeps its events in a list, for tests."""

from __future__ import annotations

from collections.abc import Sequence

from lowcode_faas_core.interfaces.log_sink import LogSink
from lowcode_faas_core.model import LogEvent

__all__ = ["MemoryLogSink"]


class MemoryLogSink(LogSink):
    """Keeps what it is given; fails while ``failure`` is set."""

    def __init__(self) -> None:
        self.events: list[LogEvent] = []
        self.failure: Exception | None = None
        self.closed = False

    def emit(self, batch: Sequence[LogEvent]) -> None:
        """Keep a batch."""
        if self.failure is not None:
            raise self.failure
        self.events.extend(batch)

    def flush(self, deadline_ns: int) -> int:
        """Answer 0: nothing is held back."""
        del deadline_ns
        return 0

    def close(self) -> None:
        """Note that it was closed."""
        self.closed = True
