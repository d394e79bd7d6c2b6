"""When a file edited by hand has stopped changing."""

from __future__ import annotations

import os
import time

from lowcode_faas_files.disk import Key, key_of
from lowcode_faas_files.reader import Working

__all__ = ["Looks"]

#: Two looks this far apart (s) that find the same file show that nobody is writing it.
APART_S = 0.05
#: So does a file last written longer ago than this (ns).
OLD_NS = 1_000_000_000
#: Files remembered at most between two looks.
MAX_REMEMBERED = 1000


class Looks:
    """Remembers first looks. Threads share it; at worst two of them look at the same time."""

    def __init__(self) -> None:
        self._first: dict[str, tuple[Key, float]] = {}
        self._looking: set[str] = set()

    def is_settled(self, working: Working) -> bool:
        """Tell without waiting; a file seen for the first time is remembered."""
        if time.time_ns() - working.key[1] > OLD_NS:
            return True
        first = self._first.get(working.path)
        if first is not None and first[0] == working.key:
            return time.monotonic() - first[1] >= APART_S
        if len(self._first) >= MAX_REMEMBERED:
            self._first.clear()
        self._first[working.path] = (working.key, time.monotonic())
        return False

    def wait_settled(self, working: Working, *, alone: bool) -> bool:
        """Look, wait where that helps, and look again.

        With ``alone`` only one thread waits for a file; the others are told that it has not
        settled, since they have an older version to serve.
        """
        if self.is_settled(working):
            return True
        if alone and working.path in self._looking:
            return False
        self._looking.add(working.path)
        try:
            time.sleep(APART_S)
            return key_of(os.lstat(working.path)) == working.key
        except OSError:
            return False
        finally:
            self._looking.discard(working.path)

    def forget(self, working: Working) -> None:
        """Forget a file that was adopted."""
        self._first.pop(working.path, None)
