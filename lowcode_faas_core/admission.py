"""How many invocations may occupy the threads of this process: the rest serve everything else."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from lowcode_faas_core.errors import CapacityError

__all__ = ["RESERVED_THREADS", "Admission"]

#: Threads of a gunicorn worker that no invocation gets: health and administration stay served.
RESERVED_THREADS: Final = 2


class Admission:
    """Permits to occupy a thread. Taking and giving back are single atomic deque operations."""

    def __init__(self, threads: int) -> None:
        self.permits: Final = max(1, threads - RESERVED_THREADS)
        self._free: deque[None] = deque([None] * self.permits)
        #: Places taken from somebody who was turned away and has not left yet.
        self._owed: deque[None] = deque()

    def enter(self, make_room: Callable[[], bool]) -> None:
        """Take a permit; :meth:`leave` gives it back.

        With none left, ``make_room`` may turn away somebody who only waits; it says whether it
        did, and that one's place is ours.

        :raises CapacityError: at once, when there is no place.
        """
        try:
            self._free.pop()
        except IndexError:
            if not make_room():
                raise CapacityError(
                    f"{self.permits} invocations occupy this process; the next is not taken in"
                ) from None
            self._owed.append(None)

    def leave(self) -> None:
        """Give a permit back, or pay with it for a place that was taken ahead."""
        try:
            self._owed.pop()
        except IndexError:
            self._free.append(None)

    @property
    def occupied(self) -> int:
        """How many permits are out."""
        return self.permits - len(self._free)
