"""Whole lines on a descriptor that several processes write to."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

__all__ = ["SharedOutput"]

#: Orders the threads of this process, which record locks do not tell apart. One for all
#: descriptors, as there is one standard output in a process.
_turn: Final = threading.Lock()


class SharedOutput:
    """Writes lines that no other writer of the service tears.

    A pipe takes at most 4,096 bytes at once; of a longer line the rest follows later, with another
    process's lines between. So every line is written under a record lock on the file behind the
    descriptor: all gunicorn workers have the same one, and the kernel frees it when one is killed.
    """

    def __init__(self, descriptor: int = 1) -> None:
        self._descriptor = descriptor
        self._torn = ""
        #: Why the last write ended early, ``None`` when it did not.
        self.error: Exception | None = None

    def write(self, lines: Iterable[str]) -> int:
        """Write each line and its end; return how many went out whole before the first error.

        Waits for a slow reader. The error itself is :attr:`error`.
        """
        self.error = None
        done = 0
        try:
            with _turn, self._locked():
                for line in lines:
                    # After an error in the middle of a line the next one must not continue it.
                    rest = memoryview(f"{self._torn}{line}\n".encode())
                    while rest:
                        rest = rest[self._write(rest) :]
                        self._torn = "\n" if rest else ""
                    done += 1
        except Exception as error:  # the pipe's, or of whoever makes the lines
            self.error = error
        return done

    def _is_nowhere(self) -> bool:
        """Tell whether nobody reads it: every service of a host would wait for one lock there."""
        try:
            return os.path.samestat(os.fstat(self._descriptor), Path(os.devnull).stat())
        except OSError:
            return False

    def _write(self, data: memoryview) -> int:
        try:
            return os.write(self._descriptor, data)
        except BlockingIOError:
            # Whoever shares the terminal or pipe may have made it non-blocking for all.
            poll = select.poll()
            poll.register(self._descriptor, select.POLLOUT)
            poll.poll()
            return 0

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        if self._is_nowhere():
            yield
            return
        try:
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX)
        except OSError:
            # Some files know no locks (a network share, a closed pipe): lines go out all the same.
            yield
            return
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                fcntl.lockf(self._descriptor, fcntl.LOCK_UN)
