"""Who may write: locks across the threads of a process and the processes of a host."""

from __future__ import annotations

import fcntl
import os
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from lowcode_faas_core.errors import StorageUnavailable
from lowcode_faas_core.model import FunctionRef
from lowcode_faas_files.disk import Folder
from lowcode_faas_files.layout import LOCKS

__all__ = ["Busy", "Locks"]

#: Seconds a writer waits for others before it gives up.
WAIT_S = 30.0
#: Functions share this many lock files, so that none is ever made or removed with a function:
#: removing a lock file lets two holders believe in different files of one name.
STRIPES = 64


class Busy(Exception):  # never leaves the plugin
    """Raised when somebody else holds the lock and the caller would not wait."""


class Locks:
    """``flock`` on files in ``.locks``; the kernel lets go when a process dies.

    Writers of a function share the tree lock and hold their function's alone; whoever adds or
    removes a collection holds the tree lock alone.
    """

    def __init__(self) -> None:
        # Threads queue here, so that only one of them polls the file.
        self._threads = [threading.Lock() for _ in range(STRIPES + 1)]

    @contextmanager
    def function(self, root: Folder, ref: FunctionRef, *, wait: bool = True) -> Iterator[None]:
        """Hold a function for writing.

        :raises Busy: without ``wait``, when another writer is there.
        """
        stripe = zlib.crc32(str(ref).encode()) % STRIPES
        deadline = time.monotonic() + WAIT_S if wait else None
        with ExitStack() as held:
            folder = held.enter_context(root.make(LOCKS))
            with _flock(folder, "gate", fcntl.LOCK_SH, deadline):
                held.enter_context(_flock(folder, "tree", fcntl.LOCK_SH, deadline))
            held.enter_context(self._thread(stripe, deadline))
            held.enter_context(_flock(folder, f"{stripe:02}", fcntl.LOCK_EX, deadline))
            yield

    @contextmanager
    def tree(self, root: Folder) -> Iterator[None]:
        """Hold the whole folder for adding or removing a collection."""
        deadline = time.monotonic() + WAIT_S
        with ExitStack() as held:
            folder = held.enter_context(root.make(LOCKS))
            held.enter_context(self._thread(STRIPES, deadline))
            # Who holds the gate keeps newcomers out: shared holders that overlap without end
            # would otherwise never let go of the tree.
            held.enter_context(_flock(folder, "gate", fcntl.LOCK_EX, deadline))
            held.enter_context(_flock(folder, "tree", fcntl.LOCK_EX, deadline))
            yield

    @contextmanager
    def _thread(self, index: int, deadline: float | None) -> Iterator[None]:
        lock = self._threads[index]
        timeout = 0.0 if deadline is None else max(0.0, deadline - time.monotonic())
        if not lock.acquire(timeout=timeout):
            raise _refusal(deadline)
        try:
            yield
        finally:
            lock.release()


@contextmanager
def _flock(folder: Folder, name: str, kind: int, deadline: float | None) -> Iterator[None]:
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(name, flags, 0o600, dir_fd=folder.fd)
    try:
        if os.fstat(fd).st_mode & 0o777 != 0o600:
            os.fchmod(fd, 0o600)  # whatever the umask took away
        pause = 0.0005
        while True:
            try:
                fcntl.flock(fd, kind | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if deadline is None or time.monotonic() >= deadline:
                    raise _refusal(deadline) from None
            time.sleep(pause)
            pause = min(pause * 2, 0.005)
        yield
    finally:
        os.close(fd)


def _refusal(deadline: float | None) -> Exception:
    if deadline is None:
        return Busy()
    return StorageUnavailable("another writer has held the data folder's lock for too long")
