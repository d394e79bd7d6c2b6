"""Looks at something slow on behalf of callers that must be answered at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

__all__ = ["Probe"]

#: Seconds for which an answer is taken to hold.
HOLDS_S: Final = 5.0
#: Seconds that a caller waits for a look under way: below the interval of a balancer's checks.
WAIT_S: Final = 0.25


class Probe:
    """The answer of ``look``, at most a few seconds old; used by many threads at once.

    A look runs in a thread of its own, one at a time, and ends by the time limits of what it calls.
    One that takes long is answered as ``silent``.
    """

    def __init__(self, look: Callable[[], str | None], silent: str) -> None:
        self._look = look
        self._silent = silent
        self._answer: str | None = None
        self._answered = float("-inf")
        self._looking: threading.Thread | None = None
        self._lock = threading.Lock()

    def answer(self) -> str | None:
        """Return what the newest look found, ``None`` when all was well."""
        with self._lock:
            if time.monotonic() - self._answered < HOLDS_S:
                return self._answer
            if self._looking is None or not self._looking.is_alive():
                self._looking = threading.Thread(
                    target=self._run, name="faas-s3-probe", daemon=True
                )
                self._looking.start()
            looking = self._looking
        looking.join(WAIT_S)
        return self._silent if looking.is_alive() else self._answer

    def _run(self) -> None:
        self._answer = self._look()
        self._answered = time.monotonic()
