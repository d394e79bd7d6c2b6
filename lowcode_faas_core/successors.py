"""Tells a process that a reload ends when the new ones serve: until then it goes on accepting."""

from __future__ import annotations

import array
import contextlib
import fcntl
import os
import termios

__all__ = ["Successors"]


class Successors:
    """Counts how often a process of one master began to serve.

    A pipe that nobody reads, made before the fork: one byte each is added atomically, and goes on
    counting whoever is killed. After 64 Ki of them nobody is waited for any more.
    """

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)

    def note(self) -> None:
        """Say that the calling process serves now."""
        with contextlib.suppress(BlockingIOError):
            os.write(self._writer, b"+")

    def count(self) -> int:
        """Return how many have said so."""
        found = array.array("i", [0])
        fcntl.ioctl(self._reader, termios.FIONREAD, found)
        return found[0]
