"""Numbers that the serving processes of one service show each other, in memory and without locks.

gunicorn's master makes the map before it forks, an anonymous one: it needs no file, and is gone with
the last process. Each process has a row, which nobody else writes; to know a number of the service
it reads all rows. Nothing is ever added up in one place, so that nothing is left in it by a process
that was killed: the row of one that is dead no longer counts, whoever looks.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

__all__ = ["SharedMap", "SharedRow", "started_at"]

#: Cells before each row: process id and start time of its owner.
OWNER_CELLS: Final = 2
CELL_BYTES: Final = 8


def started_at(pid: int) -> int | None:
    """Return when a process began, in ticks since boot; ``None`` when it is dead or a zombie."""
    try:
        # The command may hold spaces and brackets; the fields follow its last bracket.
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


class SharedMap:
    """The rows. Only gunicorn's master calls :meth:`assign` and :meth:`release`."""

    def __init__(self, rows: int, width: int) -> None:
        """Make ``rows`` rows of ``width`` cells each, all zero."""
        self._width = width
        self._stride = OWNER_CELLS + width
        self._cells = memoryview(mmap.mmap(-1, rows * self._stride * CELL_BYTES)).cast("Q")
        self._pids = self._cells[:: self._stride]
        self._free = list(range(rows - 1, -1, -1))

    @property
    def width(self) -> int:
        """The cells of a row."""
        return self._width

    def assign(self) -> int | None:
        """Return a row that nobody has, ``None`` when there is none left."""
        return self._free.pop() if self._free else None

    def release(self, row: int) -> None:
        """Take back the row of a process that is gone, and what it had written."""
        at = row * self._stride
        self._cells[at] = 0
        nothing = memoryview(bytes(self._stride * CELL_BYTES)).cast("Q")
        self._cells[at : at + self._stride] = nothing
        self._free.append(row)

    def enter(self, row: int) -> SharedRow:
        """Return the row that was assigned to this process, to write and to read from."""
        at = row * self._stride
        pid = os.getpid()
        self._cells[at + 1] = started_at(pid) or 0
        self._cells[at] = pid  # from here on it counts
        return SharedRow(self._row(row), self._everyone, self._living)

    def _row(self, row: int) -> memoryview:
        at = row * self._stride + OWNER_CELLS
        return self._cells[at : at + self._width]

    def _everyone(self) -> list[memoryview]:
        return [self._row(row) for row, pid in enumerate(self._pids.tolist()) if pid]

    def _living(self) -> list[memoryview]:
        living = []
        for row, pid in enumerate(self._pids.tolist()):
            if pid and started_at(pid) == self._cells[row * self._stride + 1]:
                living.append(self._row(row))
        return living


class SharedRow:
    """One process's row, and sight of all others."""

    def __init__(
        self,
        own: memoryview,
        everyone: Callable[[], list[memoryview]],
        living: Callable[[], list[memoryview]],
    ) -> None:
        #: Its cells, unsigned numbers of 64 bits; each is written in one step.
        self.own: Final = own
        #: Returns all rows in use, ours too, also those of processes that were just killed.
        self.everyone: Final = everyone
        #: The same without the dead: one look at each process in ``/proc``, so for rare questions.
        self.living: Final = living

    def part(self, start: int, stop: int) -> SharedRow:
        """Return some of the cells of each row."""
        return SharedRow(
            self.own[start:stop],
            lambda: [row[start:stop] for row in self.everyone()],
            lambda: [row[start:stop] for row in self.living()],
        )

    @classmethod
    def alone(cls, width: int) -> SharedRow:
        """Return a row that nobody else sees: of a process that shares nothing."""
        only = SharedMap(1, width)
        return only.enter(0)
