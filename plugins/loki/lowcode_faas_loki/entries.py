"""Log events as Loki takes them: a time, a line of bounded size, ids beside it."""

from __future__ import annotations

import calendar
import functools
import time
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from lowcode_faas_core.interfaces.log_sink import event_json
from lowcode_faas_core.model import LogEvent

__all__ = ["Entry", "chunks", "entry_of"]

#: Bytes of a line; Loki refuses lines above 256 KiB.
LINE_BYTES: Final = 250_000
#: Bytes of lines in one request, before compression; Loki's own messages hold 4 MiB.
CHUNK_BYTES: Final = 1 << 20

#: Time, line, and with structured metadata its ids: a row of ``values``.
Entry = list[str | dict[str, str]]


def entry_of(event: LogEvent, *, structured_metadata: bool) -> Entry:
    """Return the event as a row; a line that is too long is cut and says so."""
    entry: Entry = [_nanoseconds(event.ts), _line(event)]
    if structured_metadata:
        ids = {
            "run_id": event.run_id,
            "execution_id": event.execution_id,
            "function_name": event.function_name,
            "collection_path": event.collection_path,
            "deployment_id": event.deployment_id,
            "traceparent": event.traceparent,
        }
        entry.append({name: value for name, value in ids.items() if value})
    return entry


def chunks(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    """Cut into runs of rows whose lines are together of bounded size."""
    chunk: list[Entry] = []
    size = 0
    for entry in entries:
        chunk.append(entry)
        size += len(entry[1])
        if size >= CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _line(event: LogEvent) -> str:
    line = event_json(event)
    while (size := _bytes(line)) > LINE_BYTES:
        # Escapes make the line longer than its message: shrink in proportion until it fits.
        kept = len(event.message) * LINE_BYTES // size - 1_000
        event = msgspec.structs.replace(event, message=event.message[:kept], truncated=True)
        line = event_json(event)
    return line


def _bytes(line: str) -> int:
    return len(line) if line.isascii() else len(line.encode())


def _nanoseconds(ts: str) -> str:
    """Return an RFC 3339 time in UTC as a string of nanoseconds since the epoch."""
    seconds = _seconds(ts[:19])
    fraction = ts[20:].rstrip("Z")[:9]
    return f"{seconds}{fraction.ljust(9, '0')}"


@functools.lru_cache(maxsize=64)
def _seconds(moment: str) -> int:
    # Reading a time costs more than all else about an event, and a second has many.
    return calendar.timegm(time.strptime(moment, "%Y-%m-%dT%H:%M:%S"))
