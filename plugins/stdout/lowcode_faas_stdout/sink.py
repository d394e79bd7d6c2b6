"""One line a log event: when, how serious, which function and run, then the message, escaped."""

from __future__ import annotations

import re
from collections.abc import Sequence

from lowcode_faas_core.interfaces.log_sink import LogSink, Undelivered
from lowcode_faas_core.model import LogEvent
from lowcode_faas_core.shared_output import SharedOutput

__all__ = ["StdoutSink", "coloured", "escaped", "line"]

#: Everything a terminal or a line reader would act on: C0 without tab, DEL, C1, the separators that
#: some readers take for line ends, the marks that reorder text, lone surrogates; and the backslash,
#: so that an escape can be told from the same characters printed by user code.
_ACTIVE = re.compile(
    "[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff\\\\]"
)
#: Colours by level: bright black, yellow, red.
_COLOURS = {"debug": "90", "warn": "33", "error": "31"}
_SHORT = {"\n": "\\n", "\r": "\\r", "\x1b": "\\e", "\\": "\\\\"}


def _escape(match: re.Match[str]) -> str:
    character = match.group()
    if character in _SHORT:
        return _SHORT[character]
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def escaped(message: str) -> str:
    """Return ``message`` as one harmless line of text."""
    return _ACTIVE.sub(_escape, message)


def line(event: LogEvent) -> str:
    """Return the event as a line without its end.

    The time is cut to milliseconds and the execution id to its last 12 characters: the first ones
    of ids made in the same minute are alike.
    """
    path = event.collection_path
    function = f"{path}/{event.function_name}" if path else event.function_name
    marks = (" late" if event.late else "") + (" cut" if event.truncated else "")
    time = f"{event.ts[:23]}Z" if len(event.ts) > 24 else event.ts
    return (
        f"{time} {event.level.upper():5} {function} v{event.deployment_version} "
        f"{event.execution_id[-12:]}{marks} | {escaped(event.message)}"
    )


def coloured(event: LogEvent) -> str:
    """Return the same line for a terminal: what is serious stands out, what is not recedes."""
    text = line(event)
    colour = _COLOURS.get(event.level)
    return f"\x1b[{colour}m{text}\x1b[0m" if colour else text


class StdoutSink(LogSink):
    """Writes whole lines to a descriptor; nothing is buffered between batches."""

    def __init__(self, descriptor: int = 1, *, colour: bool = False) -> None:
        self._output = SharedOutput(descriptor)
        self._line = coloured if colour else line

    def emit(self, batch: Sequence[LogEvent]) -> None:
        """Write each event as a line that lines of other processes do not tear."""
        # Sinks have a thread of their own: waiting for a slow reader is its business alone.
        done = self._output.write(self._line(event) for event in batch)
        if self._output.error is not None:
            raise Undelivered(len(batch) - done, str(self._output.error))

    def flush(self, deadline_ns: int) -> int:
        """Answer 0: nothing is held back."""
        del deadline_ns
        return 0

    def close(self) -> None:
        """Do nothing: the descriptor is the process's own."""
