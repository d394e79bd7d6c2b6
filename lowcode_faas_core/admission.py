"""Whether an invocation is taken in: a thread of this process, and the caps of the whole service.

What is not taken in is told so at once, and nothing of it was executed. What is taken in may still
wait for a sandbox: the pool's queue is bounded and fair by itself.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from lowcode_faas_core.configuration import AdmissionSettings
from lowcode_faas_core.errors import CapacityError
from lowcode_faas_core.in_flight import InFlight
from lowcode_faas_core.model import FunctionRef
from lowcode_faas_core.names import ancestors
from lowcode_faas_core.shared_map import SharedRow
from lowcode_faas_core.turns import invocation_threads, may_have, plenty, seats_of

__all__ = ["SOURCES", "Admission"]

#: Whom checks of sources are booked to, which occupy threads as well; no function can be called that.
SOURCES: Final = FunctionRef("", "(sources)")


class Admission:
    """Takes invocations in and lets them go; for many threads. Taking a permit is one atomic step."""

    def __init__(self, threads: int, caps: AdmissionSettings | None = None) -> None:
        self._caps = caps or AdmissionSettings()
        self._collections = dict(self._caps.max_inflight_per_collection)
        self._capped = bool(
            self._collections
            or self._caps.max_inflight is not None
            or self._caps.max_inflight_per_function is not None
        )
        self.permits: Final = invocation_threads(threads)
        #: With so many free ones nobody's share is looked at.
        self._plenty = plenty(self.permits)
        self._free: deque[None] = deque([None] * self.permits)
        #: Places taken from somebody who was turned away and has not left yet.
        self._owed: deque[None] = deque()
        self.in_flight: Final = InFlight(seats_of(threads), self._collections)

    def share(self, row: SharedRow) -> None:
        """Count with the other processes of the service from now on; nothing was taken in yet."""
        self.in_flight.share(row)

    def enter(self, ref: FunctionRef, make_room: Callable[[], bool]) -> int:
        """Take an invocation in; :meth:`leave` gives back what this returns.

        With no place left for this function, ``make_room`` may turn away somebody who only waits;
        it says whether it did, and that one's place is ours.

        :raises CapacityError: at once, when there is no place, or a cap is reached.
        """
        if len(self._free) < self._plenty:
            self._take_permit(ref, make_room)
        else:
            try:
                self._free.pop()
            except IndexError:  # others took them since
                self._take_permit(ref, make_room)
        try:
            seat = self.in_flight.take(ref)
        except IndexError:
            self._give_permit()
            raise self._no_place() from None
        if self._capped:
            try:
                self._check_caps(ref)
            except CapacityError:
                self.leave(seat)
                raise
        return seat

    def leave(self, seat: int) -> None:
        """Let an invocation go."""
        self.in_flight.leave(seat)
        if self._owed:
            self._give_permit()
        else:
            self._free.append(None)

    @property
    def occupied(self) -> int:
        """How many permits are out."""
        return self.permits - len(self._free)

    def _take_permit(self, ref: FunctionRef, make_room: Callable[[], bool]) -> None:
        free = len(self._free)
        if may_have(self.in_flight.of_function_here(ref) + 1, free):
            try:
                self._free.pop()
            except IndexError:
                pass
            else:
                return
        if not make_room():
            raise self._no_place()
        self._owed.append(None)

    def _give_permit(self) -> None:
        """Give a permit back, or pay with it for a place that was taken ahead."""
        try:
            self._owed.pop()
        except IndexError:
            self._free.append(None)

    def _check_caps(self, ref: FunctionRef) -> None:
        """Look at the caps, with this invocation among what is counted.

        Two that come at once may both be turned away by the last place of a cap; none is exceeded.
        Those who come are counted while they look: a wider cap may seem reached by what a narrower
        one turns away, so of several the lowest is told.
        """
        caps, seats = self._caps, self.in_flight
        reached: list[tuple[int, str]] = []
        top = caps.max_inflight
        if top is not None and seats.total() > top and seats.total(exact=True) > top:
            reached.append((top, f"the service has {top} invocations in flight, its cap"))
        top = caps.max_inflight_per_function
        if (
            top is not None
            and seats.of_function(ref) > top
            and seats.of_function(ref, exact=True) > top
        ):
            reached.append((top, f"{ref} has {top} invocations in flight, the cap of a function"))
        if self._collections:
            for path in ancestors(ref.collection_path):
                cap = self._collections.get(path)
                if (
                    cap is not None
                    and seats.below(path) > cap
                    and seats.below(path, exact=True) > cap
                ):
                    reached.append((cap, f"{path} has {cap} invocations in flight, its cap"))
        if reached:
            raise CapacityError(min(reached)[1])

    def _no_place(self) -> CapacityError:
        return CapacityError(
            f"{self.occupied} invocations occupy this process; the next is not taken in"
        )
