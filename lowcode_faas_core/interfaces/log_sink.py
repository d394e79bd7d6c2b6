"""Where log events go."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from lowcode_faas_core.model import LogEvent

__all__ = ["LogSink"]


class LogSink(ABC):
    """Delivers log events somewhere.

    Called from one thread of its own, so it may block; it can neither delay an invocation nor
    another sink. What it raises is counted as dropped and reported in the service's own log.
    ``LogSinkContract`` in ``lowcode_faas_core.testing`` checks it.
    """

    @abstractmethod
    def emit(self, batch: Sequence[LogEvent]) -> None:
        """**Required.** Take a batch, in order. Raising means none of it was delivered."""

    @abstractmethod
    def flush(self, deadline_ns: int) -> int:
        """**Required.** Deliver what is buffered until ``deadline_ns`` (``time.monotonic_ns``).

        Returns how many events had to be given up, 0 when all was delivered.
        """

    @abstractmethod
    def close(self) -> None:
        """**Required.** Release everything; may be called twice."""
