"""Numbers that all serving processes of a service add to and any of them can read, in memory.

gunicorn's master makes the memory before it forks; it has no name in any file system and is gone
with the last process. Each process adds in a row of its own, so nobody waits for anybody; a reader
sums the rows. A row outlives its process: who takes it next goes on from the same sums, so a process
killed with SIGKILL takes nothing with it. Gauges of a process that ended do not count.

What stands in which cell is written in one directory for all rows, under a record lock that the
kernel releases when its holder dies.
"""

from __future__ import annotations

import contextlib
import contextvars
import fcntl
import logging
import mmap
import os
import struct
import threading
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

import msgspec

from lowcode_faas_core.shared_map import started_at

__all__ = ["OFFERED", "Counts", "Reading", "SharedCounts"]

_log = logging.getLogger(__name__)

#: Bytes of the directory and of a row. Memory is taken page by page, as it is written to.
DIRECTORY_BYTES: Final = 4 << 20
ROW_BYTES: Final = 1 << 20
CELL_BYTES: Final = 8
CELLS: Final = ROW_BYTES // CELL_BYTES

#: Header: bytes used of the directory, cells used of every row, then process id and start time of
#: whoever has each row, or had it last.
_USED, _CELLS_USED, _OWNERS = 0, 1, 2
#: Before each key: its bytes, its cells, whether they are gauges.
_entry = struct.Struct("<IHB")
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(list[str]).decode


class Reading(NamedTuple):
    """The sums of one name and its labels over all rows."""

    name: str
    labels: tuple[str, ...]
    values: list[float]


class _Place(NamedTuple):
    cell: int
    cells: int
    gauge: bool


#: The memory of the service, while the application of a serving process is built.
OFFERED: Final[contextvars.ContextVar[SharedCounts | None]] = contextvars.ContextVar(
    "shared_counts", default=None
)


class SharedCounts:
    """The memory. The process that forks makes it; each of its children enters once."""

    def __init__(self, rows: int = 1) -> None:
        header = CELL_BYTES * (_OWNERS + 2 * rows)
        self._directory_at = -(-header // mmap.PAGESIZE) * mmap.PAGESIZE
        self._rows_at = self._directory_at + DIRECTORY_BYTES
        self._descriptor = os.memfd_create("lowcode-faas-counts")
        size = self._rows_at + rows * ROW_BYTES
        os.ftruncate(self._descriptor, size)
        self._memory = memoryview(mmap.mmap(self._descriptor, size))
        self._header = self._memory[:header].cast("Q")
        self.rows: Final = rows

    def enter(self) -> Counts:
        """Take a row that nobody has and return this process's way to add there, and to read all."""
        return Counts(self)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold off every other process from the directory."""
        fcntl.lockf(self._descriptor, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.lockf(self._descriptor, fcntl.LOCK_UN)

    def cells_of(self, row: int) -> memoryview[float]:
        """Return the cells of a row, double-precision numbers."""
        at = self._rows_at + row * ROW_BYTES
        return self._memory[at : at + ROW_BYTES].cast("d")

    def free_row(self) -> int:
        """Return the first row whose process is gone, or that never had one.

        :raises LookupError: when every row has a process.
        """
        for row in range(self.rows):
            if not self._lives(row):
                return row
        raise LookupError(f"all {self.rows} rows have a process")

    def own(self, row: int) -> None:
        """Have a row belong to this process: its gauges count."""
        pid = os.getpid()
        self._header[_OWNERS + 2 * row + 1] = started_at(pid) or 0
        self._header[_OWNERS + 2 * row] = pid

    def _lives(self, row: int) -> bool:
        pid, started = self._header[_OWNERS + 2 * row], self._header[_OWNERS + 2 * row + 1]
        return bool(pid) and started_at(pid) == started

    def sums(self) -> tuple[list[float], list[float]]:
        """Return all cells summed over every row that was ever used, and over the live ones."""
        used = self._header[_CELLS_USED]
        ever, live = [0.0] * used, [0.0] * used
        for row in range(self.rows):
            if not self._header[_OWNERS + 2 * row]:  # a look at its cells would take memory
                continue
            cells = self.cells_of(row)[:used].tolist()
            ever = [a + b for a, b in zip(ever, cells, strict=True)]
            if self._lives(row):
                live = [a + b for a, b in zip(live, cells, strict=True)]
        return ever, live

    def entries(self, begin: int) -> Iterator[tuple[int, bytes, int, bool]]:
        """Yield what the directory holds from byte ``begin`` on: where it ends, key, cells, gauge."""
        at, used = begin, self._header[_USED]
        directory = self._memory[self._directory_at : self._rows_at]
        while at < used:
            length, cells, gauge = _entry.unpack_from(directory, at)
            at += _entry.size
            key = bytes(directory[at : at + length])
            at += length
            yield at, key, cells, bool(gauge)

    def append(self, key: bytes, cells: int, *, gauge: bool) -> bool:
        """Write one more entry; tell whether there was room. It counts once all of it is there."""
        at, taken = self._header[_USED], self._header[_CELLS_USED]
        end = at + _entry.size + len(key)
        if end > DIRECTORY_BYTES or taken + cells > CELLS:
            return False
        start = self._directory_at + at
        _entry.pack_into(self._memory, start, len(key), cells, gauge)
        self._memory[start + _entry.size : self._directory_at + end] = key
        self._header[_CELLS_USED] = taken + cells
        self._header[_USED] = end
        return True


class Counts:
    """One process's row of them; for many threads."""

    def __init__(self, shared: SharedCounts, row: int | None = None) -> None:
        """Take ``row``, or one that nobody has; what somebody counted there before still counts."""
        self._shared = shared
        self._lock = threading.Lock()
        self._adding = threading.Lock()
        self._places: dict[bytes, _Place] = {}
        #: How many label sets each name has.
        self._sizes: dict[str, int] = {}
        self._seen = self._next = 0
        with self._locked():
            row = shared.free_row() if row is None else row
            self._cells = shared.cells_of(row)
            # What whoever had the row before was in the middle of is over.
            for place in self._places.values():
                if place.gauge:
                    for cell in range(place.cell, place.cell + place.cells):
                        self._cells[cell] = 0.0
            shared.own(row)

    @classmethod
    def of_service(cls) -> Counts:
        """Return those that this process shares with the others of its service, if it has any.

        Asked for while the application is built, once.
        """
        shared = OFFERED.get()
        if shared is not None:
            try:
                return shared.enter()
            except LookupError as error:
                _log.warning("this process counts for itself alone: %s", error)
        return SharedCounts().enter()

    def place(
        self,
        name: str,
        labels: tuple[str, ...] = (),
        cells: int = 1,
        *,
        gauge: bool = False,
        at_most: int | None = None,
    ) -> int | None:
        """Return the first cell of a name with these labels, the same in every process.

        ``None`` where the name has ``at_most`` other label sets already, or no room is left.
        Takes a lock of the whole service: whoever counts often keeps the answer.
        """
        key = _encode([name, *labels])
        # Full names never grow: looked at first, so that what others add meanwhile is not missed.
        full = at_most is not None and self._sizes.get(name, 0) >= at_most
        known = self._places.get(key)
        if known is not None or full:
            return None if known is None else known.cell
        with self._locked():
            if (
                key not in self._places
                and (at_most is None or self._sizes.get(name, 0) < at_most)
                and self._shared.append(key, cells, gauge=gauge)
            ):
                self._learn()
            found = self._places.get(key)
            return None if found is None else found.cell

    def add(self, amounts: Iterable[tuple[int, float]]) -> None:
        """Add to cells of our row."""
        cells = self._cells
        with self._adding:
            for cell, amount in amounts:
                cells[cell] += amount

    def set(self, cell: int, value: float) -> None:
        """Write a gauge of our row."""
        self._cells[cell] = value

    def read(self) -> list[Reading]:
        """Return everything, summed over all processes; gauges over those that live."""
        with self._locked():
            places = list(self._places.items())
            ever, live = self._shared.sums()
        readings = []
        for key, (cell, cells, gauge) in places:
            name, *labels = _decode(key)
            values = (live if gauge else ever)[cell : cell + cells]
            readings.append(Reading(name, tuple(labels), values))
        return readings

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        # The record lock belongs to the process: threads of one need a lock of their own.
        with self._lock, self._shared.locked():
            self._learn()
            yield

    def _learn(self) -> None:
        for end, key, cells, gauge in self._shared.entries(self._seen):
            self._places[key] = _Place(self._next, cells, gauge)
            name = _decode(key)[0]
            self._sizes[name] = self._sizes.get(name, 0) + 1
            self._next += cells
            self._seen = end
