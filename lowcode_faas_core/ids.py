"""Ids that sort by the time they were made, and the timestamps that stand beside them."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from functools import lru_cache

__all__ = ["moment", "new_id", "now"]


def new_id() -> str:
    """Return a new UUIDv7 as 36 lower-case characters.

    The 12 bits after the millisecond hold its fraction (about 244 ns each), so that ids made by
    one process in quick succession mostly sort in order; 62 random bits keep them unique.
    """
    nanoseconds = time.time_ns()
    milliseconds, rest = divmod(nanoseconds, 1_000_000)
    fraction = (rest << 12) // 1_000_000
    random = int.from_bytes(os.urandom(8), "big") & 0x3FFF_FFFF_FFFF_FFFF
    text = f"{milliseconds << 80 | 7 << 76 | fraction << 64 | 2 << 62 | random:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def now() -> str:
    """Return the time as RFC 3339 in UTC with microseconds."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def moment(ns: int) -> str:
    """Return a ``time.time_ns`` in the same form."""
    seconds, rest = divmod(ns, 1_000_000_000)
    return f"{_second(seconds)}.{rest // 1000:06d}Z"


@lru_cache(maxsize=16)
def _second(seconds: int) -> str:
    # Every run names two moments, nearly always of the same second.
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}"
