"""Metrics that are a list of what was told, for tests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from lowcode_faas_core.interfaces.metrics import Exposition, Metrics
from lowcode_faas_core.model import FunctionRef, StartKind

__all__ = ["MemoryMetrics"]


class MemoryMetrics(Metrics):
    """Keeps every event as a tuple: its name, then what came with it but for durations."""

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []
        #: Raised by everything that is told.
        self.failure: Exception | None = None

    def invocation_began(self) -> None:
        """Keep it."""
        self._keep("began")

    def invocation_ended(
        self, ref: FunctionRef, status: str, start: StartKind | None, took_ns: int
    ) -> None:
        """Keep it."""
        self._keep("ended", str(ref), status, start)

    def invocation_rejected(self) -> None:
        """Keep it."""
        self._keep("rejected")

    def sandboxes(self, states: Mapping[str, int], waiting: int) -> None:
        """Keep it."""
        self._keep("sandboxes", dict(states), waiting)

    def operation(self, op: str, outcome: str, took_ns: int) -> None:
        """Keep it."""
        self._keep("operation", op, outcome)

    def log_events(self, sink: str, count: int) -> None:
        """Keep it."""
        self._keep("log_events", sink, count)

    def log_events_dropped(self, sink: str, reason: str, count: int) -> None:
        """Keep it."""
        self._keep("log_events_dropped", sink, reason, count)

    def orphans_reaped(self, count: int) -> None:
        """Keep it."""
        self._keep("orphans_reaped", count)

    def deployed(self, outcome: str) -> None:
        """Keep it."""
        self._keep("deployed", outcome)

    def show(self, accept: str) -> Exposition:
        """Count the kept events by name, a line each."""
        counts = Counter(event[0] for event in self.events)
        lines = [f"{name} {count}\n" for name, count in sorted(counts.items())]
        return Exposition("text/plain; charset=utf-8", "".join(lines).encode())

    def close(self) -> None:
        """Do nothing: there is nothing to release."""

    def _keep(self, *event: Any) -> None:
        if self.failure is not None:
            raise self.failure
        self.events.append(event)
