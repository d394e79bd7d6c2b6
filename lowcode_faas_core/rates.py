"""How many requests each token makes in a second, over all processes of the service.

A sliding window: what was let through in this second of the clock, and the part of the last one
that lies less than a second back. The clock is the machine's, so all processes mean the same second.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable
from typing import Final

from lowcode_faas_core.errors import RateLimited
from lowcode_faas_core.shared_map import SharedRow

__all__ = ["CELLS_OF_RATES", "Rates"]

#: Tokens a process can count within two seconds, about.
ENTRIES: Final = 4096
#: Neighbouring entries one of which is a token's: with fewer, two tokens would meet too often.
PROBES: Final = 8
_SLOTS: Final = ENTRIES + PROBES - 1
#: Cells of a row: of each entry, whose it is, and the counts of two seconds, even and odd ones.
CELLS_OF_RATES: Final = 3 * _SLOTS
#: A count has so many bits, the second before it the rest.
_COUNT_BITS: Final = 32
_COUNT: Final = (1 << _COUNT_BITS) - 1


class Rates:
    """Lets so many requests of each token through; for many threads."""

    def __init__(self, per_second: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Let ``per_second`` requests of each through; 0: all."""
        self._per_second = per_second
        self._clock = clock
        self._row = SharedRow.alone(CELLS_OF_RATES if per_second else 0)
        #: Between the threads of this process; other processes only read.
        self._writing = threading.Lock()

    def share(self, row: SharedRow) -> None:
        """Count with the other processes of the service from now on.

        :raises ValueError: their rows are not laid out like ours.
        """
        if len(row.own) != CELLS_OF_RATES:
            raise ValueError(f"the part for rates has {len(row.own)} cells")
        self._row = row

    def spend(self, token: str) -> None:
        """Count one request of a token.

        :raises RateLimited: it had its requests; this one does not count.
        """
        if not self._per_second:
            return
        digest = hashlib.blake2b(token.encode(), digest_size=8).digest()
        key = int.from_bytes(digest) or 1
        now = self._clock()
        second = int(now)
        self._add(key, second, 1)
        # Counted first and looked at afterwards, as seats are: the rate is never exceeded.
        this, last = self._counted(key, second)
        if this + last * (second + 1 - now) > self._per_second:
            self._add(key, second, -1)
            raise RateLimited(f"a token has {self._per_second} requests a second here")

    def _counted(self, key: int, second: int) -> tuple[int, int]:
        this = last = 0
        for row in self._row.everyone():
            entry = _find(row, key)
            if entry is not None:
                this += _count(row[_cell(entry, second)], second)
                last += _count(row[_cell(entry, second - 1)], second - 1)
        return this, last

    def _add(self, key: int, second: int, count: int) -> None:
        own = self._row.own
        with self._writing:
            entry = _find(own, key)
            if entry is None:
                entry = self._make_entry(key)
            cell = _cell(entry, second)
            counted = max(0, _count(own[cell], second) + count)
            own[cell] = second << _COUNT_BITS | counted

    def _make_entry(self, key: int) -> int:
        """Take the entry that was used longest ago, of those that may be this key's."""
        own = self._row.own
        first = key % ENTRIES
        entry = min(
            range(first, first + PROBES), key=lambda e: max(own[_cell(e, 0)], own[_cell(e, 1)])
        )
        own[_cell(entry, 0)] = own[_cell(entry, 1)] = 0
        own[entry] = key
        return entry


def _find(row: memoryview, key: int) -> int | None:
    first = key % ENTRIES
    try:
        return first + row[first : first + PROBES].tolist().index(key)
    except ValueError:
        return None


def _cell(entry: int, second: int) -> int:
    return (1 + second % 2) * _SLOTS + entry


def _count(cell: int, second: int) -> int:
    return cell & _COUNT if cell >> _COUNT_BITS == second else 0
