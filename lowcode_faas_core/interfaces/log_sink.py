"""Where log events go."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import msgspec

from lowcode_faas_core.interfaces.versioned import Versioned
from lowcode_faas_core.model import LogEvent

__all__ = ["LogSink", "Undelivered", "event_json"]

_encode = msgspec.json.Encoder().encode


class Undelivered(Exception):
    """Raised by ``emit`` when a part of the batch was delivered and the rest never will be."""

    def __init__(self, count: int, reason: str) -> None:
        super().__init__(reason)
        #: How many events of the batch were given up.
        self.count = count


class LogSink(Versioned, ABC):
    """Delivers log events somewhere.

    Called from one thread of its own, so it may block; it can neither delay an invocation nor
    another sink. What it raises is counted as dropped and reported in the service's own log.
    ``LogSinkContract`` in ``lowcode_faas_core.testing`` checks it.
    """

    #: **Optional (default: 500).** Most events of one batch; a batch also ends at 1 MiB of text.
    batch_events: ClassVar[int] = 500
    #: **Optional (default: 0).** Seconds a batch waits for more events before it is emitted.
    linger_s: ClassVar[float] = 0.0

    @abstractmethod
    def emit(self, batch: Sequence[LogEvent]) -> None:
        """**Required.** Take a batch, in order. Raising means none of it was delivered.

        :raises Undelivered: some of it was, and ``count`` events were not.
        """

    @abstractmethod
    def flush(self, deadline_ns: int) -> int:
        """**Required.** Deliver what is buffered until ``deadline_ns`` (``time.monotonic_ns``).

        Returns how many events had to be given up, 0 when all was delivered.
        """

    def closing(self, deadline_ns: int) -> None:
        """**Optional (default: nothing).** Learn that the process ends: be done by the deadline.

        Called from another thread, perhaps in the middle of ``emit``; a sink that waits between
        attempts stops waiting.
        """
        del deadline_ns

    @abstractmethod
    def close(self) -> None:
        """**Required.** Release everything; may be called twice."""


def event_json(event: LogEvent) -> str:
    """Return the event as one line of JSON, its fields by their stable names, in their order.

    Separators that some readers take for line ends are written as escapes.
    """
    text = _encode(event).decode()
    if text.isascii():
        return text
    return text.replace("\x85", "\\u0085").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
