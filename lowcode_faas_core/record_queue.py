"""Records and lines on their way to the store of executions: bounded, and taken in batches."""

from __future__ import annotations

import sys
import threading
from collections import deque
from typing import Final

import msgspec

from lowcode_faas_core.model import LogEvent
from lowcode_faas_core.records import Record

__all__ = ["Entry", "RecordQueue"]

#: Entries and bytes that may wait; the oldest are dropped and counted beyond it.
MOST_RECORDS: Final = 20_000
MOST_BYTES: Final = 16 << 20
#: Of them the lines of one run may take one in so many: some seven thousand short ones.
ONE_RUN_PART: Final = 4
#: Entries and bytes of one batch.
BATCH_RECORDS: Final = 500
BATCH_BYTES: Final = 1 << 20
#: Memory of a record and of a line beside their text, in bytes.
RECORD_BYTES: Final = 1500
LINE_BYTES: Final = 500

#: A record with the lines that come with it, or lines alone, and the memory they take.
Entry = tuple[Record | None, list[LogEvent], int]


class RecordQueue:
    """What waits for the store, the oldest first. Used by many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: deque[Entry] = deque()
        self._bytes = 0
        #: How many entries will never be in the store, and how many lines of those that will.
        self.dropped = 0
        self.dropped_lines = 0

    def __len__(self) -> int:
        return len(self._entries)

    def has_batch(self) -> bool:
        """Tell whether so many wait that nobody needs to wait for more."""
        return len(self._entries) >= BATCH_RECORDS

    def put(self, record: Record | None, lines: list[LogEvent]) -> None:
        """Have it wait; what is too much is dropped, the oldest first.

        The lines of one run take at most a part of the queue: they cost no other run its record, nor
        their own run its verdict. What says that the rest is missing stands in their place.
        """
        size = 0
        for number, line in enumerate(lines):
            size += LINE_BYTES + sys.getsizeof(line.message)
            if size > MOST_BYTES // ONE_RUN_PART:
                self.dropped_lines += len(lines) - number
                said = f"{len(lines) - number} more lines of this run are not kept here"
                gap = msgspec.structs.replace(
                    line, message=said, level="warn", log_stream="platform", truncated=False
                )
                lines = [*lines[:number], gap]
                break
        if record is not None:
            size += RECORD_BYTES + _length(record.input) + _length(record.output)
        with self._lock:
            self._entries.append((record, lines, size))
            self._bytes += size
            while len(self._entries) > MOST_RECORDS or self._bytes > MOST_BYTES:
                self._bytes -= self._entries.popleft()[2]
                self.dropped += 1

    def take(self) -> list[Entry]:
        """Take the oldest out, as many as make a batch."""
        batch: list[Entry] = []
        taken = 0
        with self._lock:
            while self._entries and len(batch) < BATCH_RECORDS and taken < BATCH_BYTES:
                entry = self._entries.popleft()
                batch.append(entry)
                taken += entry[2]
            self._bytes -= taken
        return batch

    def put_back(self, batch: list[Entry]) -> None:
        """Have a batch wait again, before all others; what is too much then goes with the next put."""
        with self._lock:
            self._entries.extendleft(reversed(batch))
            self._bytes += sum(size for _, _, size in batch)

    def drop(self, batch: list[Entry]) -> None:
        """Count a batch that was taken out and that nobody will write."""
        with self._lock:
            self.dropped += len(batch)

    def clear(self) -> None:
        """Drop all that waits."""
        with self._lock:
            self.dropped += len(self._entries)
            self._entries.clear()
            self._bytes = 0


def _length(text: str | None) -> int:
    return 0 if text is None else len(text)
