"""Adds up what ran of one function, slice by slice: however much that is, nobody else waits for it.

A slice lends a connection for some milliseconds, and the interpreter's lock is held for less.
"""

from __future__ import annotations

import math
import struct
from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from lowcode_faas_core.model import FunctionRef
from lowcode_faas_core.records import FunctionStats, Percentiles, Record
from lowcode_faas_files.executions import statements
from lowcode_faas_files.executions.database import Database

__all__ = ["AddedUp", "Ranked"]

#: Records of one slice.
SLICE: Final = 10_000
_double: Final = struct.Struct(">d")
_whole: Final = struct.Struct(">q")


class _Slice(msgspec.Struct, array_like=True):
    by_status: dict[str, int]
    run_ms: list[float]
    total_ms: list[float]
    judged: int
    cold: int
    cpu_ms: float | None
    max_rss_bytes: int | None
    failed_us: int | None
    failed_id: str | None
    last_us: int | None
    last_row: int | None


_decode = msgspec.json.Decoder(_Slice).decode


class Ranked:
    """Durations, of which the one at any rank can be told; eight bytes each."""

    def __init__(self) -> None:
        self._pieces: list[array[float]] = []
        self._count = 0

    def add(self, values: list[float]) -> None:
        """Take some; none is below zero."""
        if values:
            values.sort()
            self._pieces.append(array("d", values))
            self._count += len(values)

    def at(self, share: float) -> float | None:
        """Return the smallest that so large a part of them does not exceed; nearest-rank.

        Sorting them all would hold everybody up for as long as that takes. What is looked for is
        halved instead: doubles that are not negative are in the order of their bits.
        """
        if not self._pieces:
            return None
        rank = max(1, math.ceil(share * self._count))
        low = _bits(min(piece[0] for piece in self._pieces))
        high = _bits(max(piece[-1] for piece in self._pieces))
        while low < high:
            middle = (low + high) // 2
            value = _value(middle)
            if sum(bisect_right(piece, value) for piece in self._pieces) >= rank:
                high = middle
            else:
                low = middle + 1
        return _value(low)

    def percentiles(self) -> Percentiles:
        """Return the three of interest."""
        return Percentiles(self.at(0.5), self.at(0.95), self.at(0.99))


class AddedUp:
    """What ran of a function since a moment, in microseconds since the epoch."""

    def __init__(self, database: Database, ref: FunctionRef, since_us: int) -> None:
        """Add it up.

        :raises StorageUnavailable: the database cannot be used.
        """
        self._by_status: Counter[str] = Counter()
        self._run_ms = Ranked()
        self._total_ms = Ranked()
        self._cpu_ms: list[float] = []
        self._judged = self._cold = self._peak = 0
        self._failed = 0, ""
        for one in _slices(database, ref, since_us):
            self._add(one)

    @property
    def failed_id(self) -> str:
        """The id of the newest that has an error; empty: none has."""
        return self._failed[1]

    def stats(self, last_error: Record | None) -> FunctionStats:
        """Return it, with the newest record that has an error."""
        return FunctionStats(
            by_status=dict(self._by_status),
            run_ms=self._run_ms.percentiles(),
            total_ms=self._total_ms.percentiles(),
            cold_share=round(self._cold / self._judged, 4) if self._judged else None,
            cpu_ms=round(math.fsum(self._cpu_ms), 3) if self._cpu_ms else None,
            max_rss_bytes=self._peak or None,
            last_error_id=None if last_error is None else last_error.execution_id,
            last_error_at=None if last_error is None else last_error.started_at,
            last_error=None if last_error is None else last_error.error,
        )

    def _add(self, one: _Slice) -> None:
        self._by_status.update(one.by_status)
        self._run_ms.add(one.run_ms)
        self._total_ms.add(one.total_ms)
        self._judged += one.judged
        self._cold += one.cold
        if one.cpu_ms is not None:
            self._cpu_ms.append(one.cpu_ms)
        self._peak = max(self._peak, one.max_rss_bytes or 0)
        if one.failed_us is not None and one.failed_id is not None:
            self._failed = max(self._failed, (one.failed_us, one.failed_id))


def _slices(database: Database, ref: FunctionRef, since_us: int) -> Iterator[_Slice]:
    with database.reading() as connection:
        [(found,)] = connection.execute(statements.SOURCES_OF, (ref.collection_path, ref.name))
    for source in msgspec.json.decode(found):
        given: dict[str, Any] = {"source": source, "us": since_us, "row": -1, "most": SLICE}
        while True:
            with database.reading() as connection:
                [(document,)] = connection.execute(statements.STATS, given)
            one = _decode(document)
            if one.last_us is None:
                break
            yield one
            given.update(us=one.last_us, row=one.last_row)


def _bits(value: float) -> int:
    [bits] = _whole.unpack(_double.pack(value))
    return int(bits)


def _value(bits: int) -> float:
    [value] = _double.unpack(_whole.pack(bits))
    return float(value)
