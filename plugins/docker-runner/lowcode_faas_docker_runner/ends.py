"""Threads for what ends containers, apart from those that start them and from requests."""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable
from typing import Final

from lowcode_faas_core.errors import RunnerUnavailable

__all__ = ["Ends"]

_log = logging.getLogger(__name__)

#: Kills and confirmations at a time. Each waits for the engine, which kills in parallel.
SETTLERS: Final = 4
#: Removals at a time: they come after everything that someone waits for.
REMOVERS: Final = 1
#: Between two looks at a container that is not over yet, in seconds: the first, and the longest.
AGAIN_S: Final = 0.01
AGAIN_AT_MOST_S: Final = 1.0

Work = Callable[[], bool]


class _Crew:
    """Some threads that do work until it says it is done, with growing pauses between."""

    def __init__(self, name: str, size: int) -> None:
        self._name = name
        self._size = size
        self._condition = threading.Condition()
        self._due: list[tuple[float, int, Work, float]] = []
        self._numbers = itertools.count()
        self._threads: list[threading.Thread] = []
        self._busy = 0
        self._closed = False

    def do(self, work: Work) -> None:
        with self._condition:
            heapq.heappush(self._due, (0.0, next(self._numbers), work, AGAIN_S))
            # All at once: a later count of threads must not depend on how busy it was.
            while len(self._threads) < self._size:
                name = f"{self._name}-{len(self._threads)}"
                thread = threading.Thread(target=self._run, name=name, daemon=True)
                try:
                    thread.start()
                except RuntimeError:  # none can be had: whoever comes next tries again
                    break
                self._threads.append(thread)
            self._condition.notify()

    def hurry(self) -> None:
        """Have everything that waits for its next try tried now."""
        with self._condition:
            self._due = [(0.0, number, work, AGAIN_S) for _, number, work, _ in self._due]
            heapq.heapify(self._due)
            self._condition.notify_all()

    def close(self, timeout_s: float) -> None:
        """Finish what there is, within the time, and end the threads."""
        deadline = time.monotonic() + timeout_s
        with self._condition:
            while (self._due or self._busy) and (left := deadline - time.monotonic()) > 0:
                self._condition.wait(min(left, 0.05))
            self._closed = True
            self._condition.notify_all()
            threads, self._threads = self._threads, []
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _run(self) -> None:
        while True:
            with self._condition:
                while not self._closed:
                    wait = self._due[0][0] - time.monotonic() if self._due else None
                    if wait is not None and wait <= 0:
                        break
                    self._condition.wait(wait)
                if self._closed:
                    return
                _, number, work, pause = heapq.heappop(self._due)
                self._busy += 1
            done = _attempt(work)
            with self._condition:
                self._busy -= 1
                if not done:
                    at = time.monotonic() + pause
                    heapq.heappush(self._due, (at, number, work, min(pause * 2, AGAIN_AT_MOST_S)))
                self._condition.notify_all()


def _attempt(work: Work) -> bool:
    try:
        return work()
    except RunnerUnavailable as error:
        # Tried again: the engine comes back, or the reaper of a later life does the rest.
        _log.debug("%s", error.detail)
        return False
    except Exception:
        _log.exception("a container could not be ended")
        return False


class Ends:
    """What ends containers: some threads to kill and confirm, others to remove."""

    def __init__(self) -> None:
        self._settlers = _Crew("docker-end", SETTLERS)
        self._removers = _Crew("docker-remove", REMOVERS)

    def settle(self, work: Work) -> None:
        """Kill or confirm: tried again until it answers True."""
        self._settlers.do(work)

    def hurry(self) -> None:
        """Try at once what is waiting: a kill has been asked for."""
        self._settlers.hurry()

    def remove(self, work: Work) -> None:
        """Remove: tried again until it answers True."""
        self._removers.do(work)

    def close(self, timeout_s: float) -> None:
        """Finish within the time and end the threads; the rest is left to a reaper."""
        deadline = time.monotonic() + timeout_s
        self._settlers.close(timeout_s)
        self._removers.close(max(0.1, deadline - time.monotonic()))
