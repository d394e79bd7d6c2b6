"""Which instance that nobody uses ends: to make room for others, or for its age, state or memory.

Called under the pool's lock only. The hot path leases without it, so that each is taken from where
it waits before it is ended: whoever takes it has it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Mapping
from typing import Final

from lowcode_faas_core.sandbox.growth import is_surplus
from lowcode_faas_core.sandbox.instance import Instance
from lowcode_faas_core.sandbox.memory import MemoryBudget
from lowcode_faas_core.sandbox.pressure import Pressure
from lowcode_faas_core.sandbox.shelves import Group, PoolCaps, Shelf, Want

__all__ = ["Eviction"]

#: So long an idle instance is kept from functions that hold as much as its own or more, in
#: nanoseconds: with many waiting they would take it after each run, and each would start cold.
KEPT_FROM_RICHER_NS: Final = 1_000_000_000


class Eviction:
    """Ends idle instances and the stock, never what is leased. The caller holds the pool's lock."""

    def __init__(
        self,
        caps: PoolCaps,
        shelves: Mapping[tuple[object, ...], Shelf],
        stock: deque[Instance],
        end: Callable[[Instance], None],
        clock: Callable[[], int],
    ) -> None:
        self._idle_ttl_ns = caps.idle_ttl_ns
        #: The books' own, which change under it.
        self._shelves = shelves
        self._stock = stock
        #: Takes what was taken from its shelf or the stock out of the books, and has it killed.
        self._end = end
        self._clock = clock
        self.memory = MemoryBudget(caps.memory_bytes)
        self._crowded = Pressure(
            clock,
            "raise LOWCODE_FAAS_MAX_INSTANCES (each gunicorn worker has its part of it, here "
            f"{caps.instances}), or lower LOWCODE_FAAS_WORKERS",
        )
        self._short_of_memory = Pressure(clock, "raise LOWCODE_FAAS_MEMORY_BUDGET_MB")

    def make_room(self, taker: Group) -> None:
        """End what nobody uses, to make room: stock first, then the longest idle of who holds most.

        Who holds as much as ``taker`` or less keeps what it used a moment ago.
        """
        if self._stock:
            self._end(self._stock.pop())
            return
        recent_ns = self._clock() - KEPT_FROM_RICHER_NS
        idle = [
            (shelf, since)
            for shelf in self._shelves.values()
            if (since := shelf.idle_since())
            and (
                since <= recent_ns
                or shelf.request_env
                or shelf.group is taker
                or shelf.group.count > taker.count
            )
        ]
        idle.sort(key=lambda e: (not e[0].request_env, -e[0].group.count, e[1]))
        for shelf, _ in idle:
            if self.end_longest_idle(shelf, self._crowded):
                return

    def make_room_within(self, group: Group, want: Want) -> None:
        """Make room within a function's own cap: another version's idle instance gives way."""
        for shelf in sorted(group.shelves, key=lambda s: not s.request_env):
            if shelf.key != want.key and self.end_longest_idle(shelf):
                return

    def keep_one_of_request_env(self, group: Group) -> None:
        """End all but the newest idle instance whose env has a request's part: they rarely match."""
        idle = [
            (since, index)
            for index, shelf in enumerate(group.shelves)
            if shelf.request_env and (since := shelf.idle_since())
        ]
        shelves = [group.shelves[index] for _, index in sorted(idle)]
        for shelf in shelves[:-1]:
            self.end_longest_idle(shelf)

    def end_longest_idle(self, shelf: Shelf, pressure: Pressure | None = None) -> bool:
        """End the longest idle instance of a shelf; tell whether there was one."""
        try:
            instance = shelf.idle.popleft()
        except IndexError:  # leased by the hot path, which takes no lock
            return False
        # An env with a part of its request would hardly have come again.
        if pressure is not None and not shelf.request_env:
            pressure.note(instance)
        self._end(instance)
        return True

    def degraded(self) -> list[str]:
        """Return a sentence for each thing of which there is too little; needs no lock."""
        return self._crowded.degraded() + self._short_of_memory.degraded()

    def end_unused(self) -> None:
        """End idle instances and the stock; leased ones are left to whoever holds them."""
        while self._stock:
            self._end(self._stock.popleft())
        for shelf in list(self._shelves.values()):
            while self.end_longest_idle(shelf):
                pass

    def warn(self) -> None:
        """Log what :meth:`degraded` says, once in a while; needs no lock and may block."""
        self._crowded.warn()
        self._short_of_memory.warn()

    def sweep(self, alive: Collection[Instance]) -> None:
        """End what is unfit, idle for too long, or too much for the memory that ``alive`` may take."""
        self._end_unfit()
        now_ns = self._clock()
        oldest_ns = now_ns - self._idle_ttl_ns
        for shelf in list(self._shelves.values()):
            while (since := shelf.idle_since()) and since < oldest_ns:
                self.end_longest_idle(shelf)
            if is_surplus(shelf, now_ns):
                self.end_longest_idle(shelf)
        for instance in self.memory.surplus(alive, self._idle(), list(self._stock)):
            if self._take_and_end(instance):
                self._short_of_memory.note(instance)

    def _end_unfit(self) -> None:
        """End what died, or went on working, while nobody used it: it holds a place for nothing."""
        for instance in [*self._stock, *self._idle()]:
            if _is_unfit(instance):
                self._take_and_end(instance)

    def _idle(self) -> list[Instance]:
        return [each for shelf in self._shelves.values() for each in list(shelf.idle)]

    def _take_and_end(self, instance: Instance) -> bool:
        unused = self._stock if instance.shelf is None else instance.shelf.idle
        try:
            unused.remove(instance)
        except (ValueError, IndexError):  # the hot path took one meanwhile: next time
            return False
        self._end(instance)
        return True


def _is_unfit(unused: Instance) -> bool:
    return unused.sandbox.gone() or unused.worked_while_idle(unused.sandbox.cpu_ns())
