"""The thread that looks after a pool: stock, idle instances, and what dead processes left behind."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Final

__all__ = ["Keeper"]

_log = logging.getLogger(__name__)

#: How often idle instances are looked over, in seconds.
SWEEP_S: Final = 1.0
#: Wait before the next attempt after a sandbox for the stock could not be started, in seconds.
RETRY_S: Final = 2.0
#: How often what dead serving processes left behind is looked for, in seconds: a minute is promised.
REAP_S: Final = 20.0


class Keeper:
    """Calls ``tend`` every second and whenever woken, and ``reap`` now and then."""

    def __init__(self, tend: Callable[[], None], reap: Callable[[], int]) -> None:
        self._tend = tend
        self._reap = reap
        self._woken = threading.Event()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        #: ``time.monotonic`` of its next look.
        self._next_look = 0.0

    def start(self) -> None:
        """Begin."""
        self._thread = threading.Thread(target=self._keep, name="pool-keeper", daemon=True)
        self._thread.start()

    def wake(self, after_s: float = 0.0) -> None:
        """Have it look now, or so many seconds later."""
        look = time.monotonic() + after_s
        # Unlocked: of two at once, the later may be taken for the earlier, which is at most that late.
        if look < self._next_look:
            self._next_look = look
            self._woken.set()

    def stop(self) -> None:
        """Have it end after what it is doing."""
        self._stopped.set()
        self._woken.set()

    def join(self, timeout_s: float) -> None:
        """Wait until it has ended."""
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _keep(self) -> None:
        next_reap = time.monotonic()
        while not self._stopped.is_set():
            self._next_look = time.monotonic() + SWEEP_S
            try:
                self._tend()
            except Exception as error:  # the stock is a convenience: whoever starts next sees it
                _log.debug("the stock could not be refilled: %s", error)
                self._stopped.wait(RETRY_S)
            if time.monotonic() >= next_reap:
                self._remove_leftovers()
                next_reap = time.monotonic() + REAP_S
            while (left := self._next_look - time.monotonic()) > 0 and not self._stopped.is_set():
                self._woken.wait(left)
                self._woken.clear()

    def _remove_leftovers(self) -> None:
        try:
            found = self._reap()
        except Exception as error:  # it is tried again; what serves must go on
            _log.warning("what an earlier process left behind could not be removed: %s", error)
            return
        if found:
            _log.warning("removed what %d sandboxes of a killed process had left behind", found)
