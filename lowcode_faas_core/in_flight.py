"""Who is in flight, of this process and of the whole service: one seat an invocation, in shared memory.

A seat holds a hash of the function, and of each collection on the way to it that has a cap. How many
of something are in flight is how often its hash occurs in the rows of all processes: there is no
counter that could be wrong after a ``kill -9``.
"""

from __future__ import annotations

import hashlib
import threading
from collections import deque
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Final

from lowcode_faas_core.model import FunctionRef
from lowcode_faas_core.names import MAX_COLLECTION_DEPTH, ancestors
from lowcode_faas_core.shared_map import SharedRow

__all__ = ["InFlight", "cells_of_seats"]

#: Cells of a seat: the function, and the collections on the way to it but for the root.
_COLUMNS: Final = 1 + MAX_COLLECTION_DEPTH


def cells_of_seats(seats: int) -> int:
    """Return how many cells of a row so many seats take."""
    return seats * _COLUMNS


class InFlight:
    """The seats of one process; for many threads. A seat is written by the thread that has it."""

    def __init__(self, seats: int, capped: Iterable[str] = ()) -> None:
        """Make ``seats`` seats; those below a collection of ``capped`` say so."""
        self._seats = seats
        self._free = deque(range(seats))
        #: The collections with a cap: in which column they are found, and as what.
        self._capped: Mapping[str, tuple[int, int]] = {
            path: (1 + path.count("/"), _hash(f"{path}/")) for path in capped
        }
        self._row = SharedRow.alone(cells_of_seats(seats))
        self._fence = threading.Lock()

    def share(self, row: SharedRow) -> None:
        """Show the seats to the other processes, before the first one is taken.

        :raises ValueError: their rows are not laid out like ours.
        """
        if len(row.own) != cells_of_seats(self._seats):
            raise ValueError(f"a row has {len(row.own)} cells")
        self._row = row

    def take(self, ref: FunctionRef) -> int:
        """Take a seat and return it.

        :raises IndexError: there is none.
        """
        seat = self._free.pop()
        own = self._row.own
        if self._capped:
            for path in ancestors(ref.collection_path):
                if (found := self._capped.get(path)) is not None:
                    column, value = found
                    own[column * self._seats + seat] = value
        own[seat] = _hash_of(ref)
        # Whoever takes a seat and then counts must not count before others can see the seat:
        # a lock is a barrier for the memory, too. Nobody else ever waits for this one for long.
        with self._fence:
            return seat

    def leave(self, seat: int) -> None:
        """Give a seat back."""
        own = self._row.own
        own[seat] = 0
        if self._capped:
            for column in range(1, _COLUMNS):
                own[column * self._seats + seat] = 0
        self._free.append(seat)

    @property
    def cells(self) -> int:
        """How many cells of a row the seats take."""
        return cells_of_seats(self._seats)

    @property
    def here(self) -> int:
        """How many seats of this process are taken."""
        return self._seats - len(self._free)

    def of_function_here(self, ref: FunctionRef) -> int:
        """Return how many seats of this process a function has."""
        return self._row.own[: self._seats].tolist().count(_hash_of(ref))

    def total(self, *, exact: bool = False) -> int:
        """Return how many are in flight in the whole service.

        The seats of processes that were killed a moment ago count, unless it is to be ``exact``.
        """
        taken = (self._seats - self._column(row, 0).count(0) for row in self._rows(exact))
        return sum(taken)

    def of_function(self, ref: FunctionRef, *, exact: bool = False) -> int:
        """Return how many of a function are in flight in the whole service."""
        value = _hash_of(ref)
        return sum(self._column(row, 0).count(value) for row in self._rows(exact))

    def below(self, path: str, *, exact: bool = False) -> int:
        """Return how many are in flight in a collection with a cap and all that lies below it."""
        column, value = self._capped[path]
        return sum(self._column(row, column).count(value) for row in self._rows(exact))

    def _rows(self, exact: bool) -> list[memoryview]:
        return self._row.living() if exact else self._row.everyone()

    def _column(self, row: memoryview, column: int) -> list[int]:
        return row[column * self._seats : (column + 1) * self._seats].tolist()


@lru_cache(maxsize=1024)
def _hash_of(ref: FunctionRef) -> int:
    # Asked for at each invocation, of few functions.
    return _hash(str(ref))


def _hash(name: str) -> int:
    # Not 0, which is a free seat. Not hash(): where gunicorn starts anew it has another seed.
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest()) or 1
