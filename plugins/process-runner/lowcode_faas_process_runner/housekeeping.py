"""One thread for what no request should wait for, such as removing folders."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from typing import Final

__all__ = ["Housekeeper"]

#: How often unfinished work is tried again.
_PERIOD_S: Final = 0.1
_log = logging.getLogger(__name__)


class Housekeeper:
    """Starts its thread on the first work; every method may be called from any thread."""

    def __init__(self) -> None:
        self._work: queue.SimpleQueue[Callable[[], bool] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def do(self, work: Callable[[], bool]) -> None:
        """Have ``work`` done soon, and again every 0.1 s for as long as it answers False."""
        self._work.put(work)
        with self._lock:
            if self._thread is None:
                thread = threading.Thread(
                    target=self._run, name="faas-process-housekeeper", daemon=True
                )
                try:
                    thread.start()
                except RuntimeError:  # none can be had: whoever comes next tries again
                    _log.warning("no thread can be had to tidy up after sandboxes")
                else:
                    self._thread = thread

    def close(self) -> None:
        """Do what was asked for and end the thread; what fails a last time is left to a reaper."""
        with self._lock:
            thread, self._thread = self._thread, None
        self._work.put(None)
        if thread is None:
            self._run()
        else:
            thread.join()

    def _run(self) -> None:
        unfinished: list[Callable[[], bool]] = []
        next_try = time.monotonic()
        while True:
            timeout = max(0.0, next_try - time.monotonic()) if unfinished else None
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
            # However much new work there is.
            if time.monotonic() >= next_try:
                unfinished = [again for again in unfinished if not _try(again)]
                next_try = time.monotonic() + _PERIOD_S


def _try(work: Callable[[], bool]) -> bool:
    try:
        return work()
    except Exception:
        # One failure must not end the thread that all others wait for.
        _log.exception("housekeeping of the process runner failed")
        return True
