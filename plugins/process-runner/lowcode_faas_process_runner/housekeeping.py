"""One thread for what no request should wait for: removing folders, and watching memory."""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from lowcode_faas_process_runner.sandbox import ProcessSandbox

__all__ = ["Housekeeper"]

#: How often resident memory is read where no cgroup bounds it, and unfinished work is tried again.
#: A sandbox can go over its limit for this long; a read costs about 10 µs.
_PERIOD_S: Final = 0.1
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_log = logging.getLogger(__name__)


class Housekeeper:
    """Starts its thread on the first work; every method may be called from any thread."""

    def __init__(self) -> None:
        self._work: queue.SimpleQueue[Callable[[], bool] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._watched: dict[ProcessSandbox, int] = {}

    def do(self, work: Callable[[], bool]) -> None:
        """Have ``work`` done soon, and again every 0.1 s for as long as it answers False."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="faas-process-housekeeper", daemon=True
                )
                self._thread.start()
        self._work.put(work)

    def watch(self, sandbox: ProcessSandbox, limit_bytes: int) -> None:
        """Kill the sandbox when its own memory passes the limit."""
        with self._lock:
            self._watched[sandbox] = limit_bytes
        # Wakes the thread, which otherwise waits for ever when there is nothing to watch.
        self.do(lambda: True)

    def unwatch(self, sandbox: ProcessSandbox) -> None:
        """Stop watching it."""
        with self._lock:
            self._watched.pop(sandbox, None)

    def close(self) -> None:
        """Do what was asked for and end the thread; what fails a last time is left to a reaper."""
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is not None:
            self._work.put(None)
            thread.join()

    def _run(self) -> None:
        unfinished: list[Callable[[], bool]] = []
        next_look = time.monotonic()
        while True:
            timeout = None
            if unfinished or self._watched:
                timeout = max(0.0, next_look - time.monotonic())
            try:
                work = self._work.get(timeout=timeout)
            except queue.Empty:
                pass
            else:
                if work is None:
                    for last in unfinished:
                        _try(last)
                    return
                if not _try(work):
                    unfinished.append(work)
            # However much there is to do: folders are made by user code, faster than removed.
            if time.monotonic() >= next_look:
                unfinished = [again for again in unfinished if not _try(again)]
                self._look()
                next_look = time.monotonic() + _PERIOD_S

    def _look(self) -> None:
        with self._lock:
            watched = list(self._watched.items())
        for sandbox, limit in watched:
            resident = _own_memory(sandbox.node_pid)
            if resident > limit:
                sandbox.kill_for_memory()


def _try(work: Callable[[], bool]) -> bool:
    try:
        return work()
    except Exception:
        # One failure must not end the thread that bounds everyone's memory.
        _log.exception("housekeeping of the process runner failed")
        return True


def _own_memory(pid: int | None) -> int:
    """Return the resident bytes that are not pages of files such as Node's own program."""
    if pid is None:
        return 0
    with contextlib.suppress(OSError, ValueError):
        _, resident, shared, *_ = Path(f"/proc/{pid}/statm").read_bytes().split()
        return (int(resident) - int(shared)) * _PAGE
    return 0
