"""One JSON object a log event, written by python-json-logger; user text is in ``message`` only."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import msgspec
from pythonjsonlogger.json import JsonFormatter

from lowcode_faas_core.interfaces.log_sink import LogSink, Undelivered
from lowcode_faas_core.model import LogEvent
from lowcode_faas_core.shared_output import SharedOutput

__all__ = ["EventFormatter", "JsonSink"]

_encode = msgspec.json.Encoder().encode
#: Characters that some readers take for line ends although they are none to JSON.
_SEPARATORS = {0x85: "\\u0085", 0x2028: "\\u2028", 0x2029: "\\u2029"}


def _serialized(data: object, **_: object) -> str:
    return _encode(data).decode()


class EventFormatter(JsonFormatter):
    """Writes the fields of an event in their order and nothing else, without spaces between.

    Not thread-safe. What looks for a member as text (``"run_id":"…"``) relies on the latter.
    """

    def __init__(self) -> None:
        super().__init__(fmt=[], json_serializer=_serialized)
        # One record for all: making one costs more than writing its line.
        self._record = logging.makeLogRecord({})

    def line(self, event: LogEvent) -> str:
        """Return the event as a line without its end."""
        self._record.msg = msgspec.structs.asdict(event)
        text: str = self.format(self._record)
        return text if text.isascii() else text.translate(_SEPARATORS)


class JsonSink(LogSink):
    """Writes whole lines to a descriptor; nothing is buffered between batches."""

    def __init__(self, descriptor: int = 1) -> None:
        self._output = SharedOutput(descriptor)
        self._formatter = EventFormatter()

    def emit(self, batch: Sequence[LogEvent]) -> None:
        """Write each event as a line that lines of other processes do not tear."""
        done = self._output.write(self._formatter.line(event) for event in batch)
        if self._output.error is not None:
            raise Undelivered(len(batch) - done, str(self._output.error))

    def flush(self, deadline_ns: int) -> int:
        """Answer 0: nothing is held back."""
        del deadline_ns
        return 0

    def close(self) -> None:
        """Do nothing: the descriptor is the process's own."""
