"""Ends sandboxes off the request path and reports each end once it is certain."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue

from lowcode_faas_core.sandbox.instance import Instance

__all__ = ["Undertaker"]

_log = logging.getLogger(__name__)

#: A sandbox whose end is not confirmed after this long is reported, in seconds; it stays counted.
REPORT_S = 10.0
#: How long one unconfirmed sandbox is waited for before the next is looked at, in seconds.
TURN_S = 0.01


class Undertaker:
    """One thread that kills what it is given and waits until it is dead.

    A sandbox whose end cannot be confirmed stays with it, and so stays counted as ending: what
    may still run keeps its place under the cap.
    """

    def __init__(self, on_end: Callable[[], None]) -> None:
        self._on_end = on_end
        self._queue: SimpleQueue[Instance | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def open(self) -> None:
        """Begin; may be called again.

        :raises RuntimeError: no thread can be had.
        """
        with self._lock:
            if self._thread is None:
                thread = threading.Thread(target=self._work, name="undertaker", daemon=True)
                thread.start()
                self._thread = thread

    def take(self, instance: Instance) -> None:
        """End this one; returns at once."""
        self._queue.put(instance)
        if self._thread is None:
            try:
                self.open()
            except RuntimeError:
                _log.warning("no thread can be had to end sandboxes; the next one tries again")

    def close(self) -> None:
        """End the thread; what is unconfirmed then is left to the launcher's reaper."""
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is not None:
            self._queue.put(None)
            thread.join(5)

    def _work(self) -> None:
        pending: list[tuple[Instance, float]] = []
        while True:
            while not pending or not self._queue.empty():
                instance = self._queue.get()
                if instance is None:
                    return
                self._do(instance.sandbox.shutdown)
                self._do(instance.sandbox.kill)
                pending.append((instance, time.monotonic()))
            pending = [entry for entry in pending if not self._is_over(*entry)]

    def _is_over(self, instance: Instance, since: float) -> bool:
        try:
            end = instance.ended(TURN_S)
        except Exception:  # for want of descriptors, say: they come back
            end = None
            time.sleep(TURN_S)
        if end is None:
            waited = time.monotonic() - since
            if waited > REPORT_S and waited % REPORT_S < TURN_S * 2:
                _log.warning(
                    "the end of sandbox %s is not confirmed after %.0f s; it stays counted",
                    instance.sandbox.name,
                    waited,
                )
            return False
        self._do(self._on_end)
        return True

    def _do(self, step: Callable[[], object]) -> None:
        """Do what must not end this thread: nothing else ends sandboxes, or frees their places."""
        try:
            step()
        except Exception:
            _log.exception("ending a sandbox failed in part")
