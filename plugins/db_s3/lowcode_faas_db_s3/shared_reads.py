"""Reads that many lanes ask for at the same moment, made once for all of them.

What is read is as new as if each had read it: a read begins after everybody it is for has come, and
who comes later waits for the next one. That begins when the one before has ended, so that more may
come meanwhile, or after a moment where that takes long. Used on one main loop.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Hashable
from typing import Final, Generic, TypeVar

from lowcode_faas_core.lanes import Wait, lane

__all__ = ["SharedReads"]

T = TypeVar("T")

#: Longest that a read waits for the end of the one before, in seconds; then several are under way.
PATIENCE_S: Final = 0.005


class _Read(Generic[T]):
    """One that has not begun, or one under way, which nobody joins any more."""

    def __init__(self) -> None:
        #: For whom it is, beside the lane that makes it.
        self.joined: list[Wait] = []
        #: Who makes the next one, and waits for the end of this.
        self.next: Wait | None = None
        self.found: T | None = None
        self.error: BaseException | None = None


class SharedReads(Generic[T]):
    """Reads by what they ask for."""

    def __init__(self) -> None:
        self._coming: dict[Hashable, _Read[T]] = {}
        self._under_way: dict[Hashable, _Read[T]] = {}

    def read(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return what ``make`` returns, or raise what it raises; off a lane that is all."""
        current = lane()
        if current is None:
            return make()
        coming = self._coming.get(key)
        if coming is not None:
            by = Wait(current.lanes)
            coming.joined.append(by)
            # Whoever makes the read ends this wait, whatever comes of it.
            current.lanes.wait_until(by, math.inf)
            if coming.error is not None:
                raise coming.error
            return coming.found  # type: ignore[return-value]  # there was no error
        own = self._coming[key] = _Read[T]()
        try:
            before = self._under_way.get(key)
            if before is None:
                # Whoever has come together with this one, and was not looked at yet.
                current.lanes.turn()
            else:
                before.next = Wait(current.lanes)
                current.lanes.wait_until(before.next, time.monotonic() + PATIENCE_S)
            del self._coming[key]
            self._under_way[key] = own
            own.found = found = make()
        except BaseException as error:
            own.error = error
            raise
        finally:
            if self._coming.get(key) is own:
                del self._coming[key]
            if self._under_way.get(key) is own:
                del self._under_way[key]
            for by in own.joined if own.next is None else (*own.joined, own.next):
                by.lanes.soon(by.end)
        return found
