"""Waits until a file changes: by looking at it, which works on every file system and editor."""

from __future__ import annotations

import select
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

__all__ = ["Watch"]

#: Time between two looks, in seconds.
LOOK_S: Final = 0.2
#: Time a file must be as it is before it counts as written, in seconds.
SETTLED_S: Final = 0.05

_State = tuple[tuple[int, int, int] | None, ...]


class Watch:
    """A file and some that go with it, and how they were when they were last looked at."""

    def __init__(self, path: Path, others: Sequence[Path]) -> None:
        self._paths = (path, *others)
        self._known = self._look()

    def wait(self) -> None:
        """Return when one of them has changed, or whoever is at the terminal pressed Enter.

        A change counts once the file is there, and all are left alone for a moment.
        """
        while self._settled() == self._known:
            if _pressed_enter(LOOK_S):
                break
        self._known = self._settled()

    def _settled(self) -> _State:
        """Return how they are; an editor may write one in pieces, or put another in its place."""
        state = self._look()
        if state == self._known:
            return state
        while True:
            time.sleep(SETTLED_S)
            before, state = state, self._look()
            if state == before and state[0] is not None:
                return state

    def _look(self) -> _State:
        return tuple(_state(path) for path in self._paths)


def _state(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _pressed_enter(seconds: float) -> bool:
    if not sys.stdin.isatty():
        time.sleep(seconds)
        return False
    ready, _, _ = select.select([sys.stdin], [], [], seconds)
    return bool(ready and sys.stdin.readline())
