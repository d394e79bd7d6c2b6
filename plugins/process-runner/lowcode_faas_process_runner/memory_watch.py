"""Bounds memory where no cgroup does it: one thread looks at what each sandbox has."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from pathlib import Path
from typing import Final

from lowcode_faas_process_runner.sandbox import ProcessSandbox

__all__ = ["MemoryWatch"]

#: Between two looks; a sandbox can go over its limit for this long. A look costs about 10 µs.
_PERIOD_S: Final = 0.1
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_log = logging.getLogger(__name__)


class MemoryWatch:
    """Starts its thread with the first sandbox; every method may be called from any thread.

    The thread does nothing else: while it waited, user code could take what the host has.
    """

    def __init__(self) -> None:
        self._limits: dict[ProcessSandbox, int] = {}
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = threading.Event()

    def add(self, sandbox: ProcessSandbox, limit_bytes: int) -> None:
        """Kill the sandbox when its own memory passes the limit.

        :raises RuntimeError: no thread can be had; it is not watched.
        """
        with self._changed:
            if self._thread is None and not self._closed.is_set():
                thread = threading.Thread(target=self._run, name="faas-process-memory", daemon=True)
                thread.start()
                self._thread = thread
            self._limits[sandbox] = limit_bytes
            self._changed.notify()

    def remove(self, sandbox: ProcessSandbox) -> None:
        """Look at it no more."""
        with self._changed:
            self._limits.pop(sandbox, None)

    def close(self) -> None:
        """End the thread; may be called twice."""
        with self._changed:
            self._closed.set()
            self._changed.notify()
            thread, self._thread = self._thread, None
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        while not self._closed.wait(_PERIOD_S):
            with self._changed:
                self._changed.wait_for(lambda: self._limits or self._closed.is_set())
                watched = list(self._limits.items())
            for sandbox, limit in watched:
                try:
                    if _own_memory(sandbox.node_pid) > limit:
                        sandbox.kill_for_memory()
                except Exception:
                    # One failure must not end the thread that bounds everyone's memory.
                    _log.exception("the memory of %s could not be bounded", sandbox.name)


def _own_memory(pid: int | None) -> int:
    """Return the resident bytes that are not pages of files such as Node's own program."""
    if pid is None:
        return 0
    with contextlib.suppress(OSError, ValueError):
        _, resident, shared, *_ = Path(f"/proc/{pid}/statm").read_bytes().split()
        return (int(resident) - int(shared)) * _PAGE
    return 0
