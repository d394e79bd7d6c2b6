"""Notices when functions take each other's instances away, and says so to operators.

More functions in use than there is room for cost each call a start: a hundred times what it takes
otherwise, and nothing else shows why.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import Final

from lowcode_faas_core.sandbox.instance import Instance

__all__ = ["Pressure"]

#: An instance that ran so shortly before it had to end was likely to run again, in nanoseconds; and
#: time over which those are counted.
SPAN_NS: Final = 60_000_000_000
#: Fewer of them within that time are nothing to speak of.
MANY: Final = 30
#: More are not counted: the sentence says "at least".
_MOST: Final = 10_000
_log = logging.getLogger(__name__)


class Pressure:
    """Counts what had to end for want of one thing. Noted under the pool's lock, read without."""

    def __init__(self, clock: Callable[[], int], remedy: str) -> None:
        self._clock = clock
        self._remedy = remedy
        self._ended: deque[int] = deque(maxlen=_MOST)
        self._warned_ns = clock() - SPAN_NS

    def note(self, instance: Instance) -> None:
        """Count an instance that ends for want of room, if it was in use until a moment ago."""
        now_ns = self._clock()
        if instance.idle_since_ns and now_ns - instance.idle_since_ns <= SPAN_NS:
            self._ended.append(now_ns)

    def warn(self) -> None:
        """Log it once in a while as long as it goes on; may block, so not under the lock."""
        now_ns = self._clock()
        if now_ns - self._warned_ns >= SPAN_NS and (said := self.degraded()):
            self._warned_ns = now_ns
            _log.warning("%s", said[0])

    def degraded(self) -> list[str]:
        """Return a sentence while it happens often."""
        since_ns = self._clock() - SPAN_NS
        count = sum(1 for at in list(self._ended) if at > since_ns)
        if count < MANY:
            return []
        least = "at least " if count == _MOST else ""
        return [
            f"sandboxes: {least}{count} that ran within the last minute were ended to make room for "
            f"others, and their functions start anew at the next call; {self._remedy}"
        ]
