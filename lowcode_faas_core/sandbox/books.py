"""The pool's books: what exists, who holds it and who waits, and what is due to whom.

Nothing here blocks, starts or kills anything; everything but :attr:`Books.waiting`, the shelves
and their deques, which the hot path reads without it, is touched under the pool's lock only.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final

from lowcode_faas_core.errors import CapacityError, FaasError
from lowcode_faas_core.model import FunctionRef, SandboxLimits, StartKind
from lowcode_faas_core.sandbox.eviction import Eviction
from lowcode_faas_core.sandbox.growth import Growth
from lowcode_faas_core.sandbox.instance import Instance
from lowcode_faas_core.sandbox.shelves import Group, Lease, PoolCaps, Shelf, Waiter, Want

__all__ = ["Books"]

#: How long demand is counted before the stock is sized by it, in nanoseconds.
STOCK_LOOK_NS: Final = 1_000_000_000
#: Times the configured stock that demand may raise it to.
STOCK_GROWTH: Final = 4


class Books:
    """Counts and queues of one pool. The caller holds the pool's lock."""

    def __init__(
        self,
        caps: PoolCaps,
        default_limits: SandboxLimits,
        clock: Callable[[], int],
        bury: Callable[[Instance], None],
        grow: Callable[[Want], bool],
    ) -> None:
        self._caps = caps
        self._default_limits = default_limits
        self._clock = clock
        #: Kills an instance elsewhere; :meth:`buried` is called once its end is certain.
        self._bury = bury
        #: Starts one more elsewhere; :meth:`started` or :meth:`start_failed` is called after that,
        #: unless it answers that it cannot.
        self._grow = grow
        self.shelves: dict[tuple[object, ...], Shelf] = {}
        self.groups: dict[FunctionRef, Group] = {}
        self.stock: deque[Instance] = deque()
        #: Leased, idle and stock.
        self.alive: set[Instance] = set()
        self.starting = 0
        self.ending = 0
        self.waiting = 0
        self.stock_target = caps.stock
        self.growth = Growth()
        self.eviction = Eviction(caps, self.shelves, self.stock, self.end, clock)
        self._stock_demand = 0
        self._sized_ns = clock()

    def stats(self) -> dict[str, Any]:
        """Return how many sandboxes exist in each state, and why, per function."""
        functions = {str(ref): group.stats() for ref, group in self.groups.items()}
        idle = sum(function["warm"] for function in functions.values())
        return {
            "cap": self._caps.instances,
            "leased": len(self.alive) - idle - len(self.stock),
            "idle": idle,
            "stock": len(self.stock),
            "starting": self.starting,
            "ending": self.ending,
            "waiting": self.waiting,
            "functions": functions,
        }

    def displace(self, ref: FunctionRef) -> bool:
        """Turn away a waiting invocation of the function that has most of them waiting.

        ``ref`` asks because no thread, or no place in the queue, is left for it. Only a function
        with at least two more waiting than ``ref`` itself has yields, so that equals never displace
        each other.
        """
        own = self.groups.get(ref)
        longest = max(self.groups.values(), key=lambda g: len(g.waiters), default=None)
        if longest is None or longest is own:
            return False
        if len(longest.waiters) < 2 + (len(own.waiters) if own else 0):
            return False
        waiter = longest.waiters[-1]
        self.forget(waiter)
        waiter.refuse(CapacityError("others with less waiting came first"))
        return True

    def enqueue(self, want: Want, now_ns: int) -> Waiter:
        """Announce that somebody waits.

        A full queue is not the first function's: whoever has most waiting yields to the others.

        :raises CapacityError: when too many wait already, and none of them has to yield.
        """
        if self.waiting >= self._caps.queue and not self.displace(want.ref):
            self._drop_if_unused(self._group(want.ref))
            raise CapacityError(f"{self.waiting} invocations are waiting already")
        group = self._group(want.ref)
        waiter = Waiter(want, group, now_ns)
        group.waiters.append(waiter)
        self.waiting += 1
        return waiter

    def forget(self, waiter: Waiter) -> None:
        """Take a waiter out of the queue."""
        waiter.group.waiters.remove(waiter)
        self.waiting -= 1
        self._drop_if_unused(waiter.group)

    def claim(self, want: Want, *, waited: bool) -> Lease | None:
        """Return what ``want`` can have now: an instance, or leave to start one; else ``None``.

        Who has ``waited`` may have one more started, and waits on: one that others have may come
        free sooner.
        """
        shelf = self.shelves.get(want.key)
        if shelf is not None and not want.fresh:
            try:
                return Lease(shelf.idle.pop(), StartKind.WARM)
            except IndexError:
                if shelf.members and not waited:
                    return None
        group = self._group(want.ref)
        if group.count >= self._caps.per_function:
            if self.ending < self._wanting_capacity():
                self.eviction.make_room_within(group, want)
            return None
        if self.stock and want.limits == self._default_limits:
            instance = self.stock.popleft()
            self._stock_demand += 1
            self._join(instance, want, group)
            return Lease(instance, StartKind.PREWARMED)
        if self.total() < self._caps.instances:
            self.starting += 1
            group.starting += 1
            self._stock_demand += want.limits == self._default_limits
            group.count += 1
            if not want.fresh:
                self._shelf(want, group).members += 1
            if shelf is not None and not want.fresh:
                if not self._grow(want):
                    self.growth.note_failure(self._clock())
                    self._undo_start(want)
                return None
            return Lease(None, StartKind.COLD)
        if self.ending < self._wanting_capacity():
            self.eviction.make_room(group)
        return None

    def pass_on(self, shelf: Shelf) -> None:
        """Give up the instance just released where another function waits with less."""
        group = shelf.group
        if self.total() < self._caps.instances or self.ending >= self._wanting_capacity():
            return
        poorer = any(
            other.waiters and other is not group and other.count + 1 < group.count
            for other in self.groups.values()
        )
        if poorer:
            self.eviction.end_longest_idle(shelf)

    def serve(self) -> None:
        """Give what came free to those who wait: the function that holds least first."""
        now_ns = self._clock()
        progress = True
        while progress and self.waiting:
            progress = False
            waiting = [group for group in self.groups.values() if group.waiters]
            waiting.sort(key=lambda g: (g.count, g.waiters[0].since_ns))
            for group in waiting:
                waiter = self._first_served(group, now_ns)
                if waiter is not None:
                    progress = True
                    break

    def _first_served(self, group: Group, now_ns: int) -> Waiter | None:
        refused: set[tuple[object, ...]] = set()
        for waiter in group.waiters:
            want = waiter.want
            if want.key in refused:
                continue
            starting = group.starting
            lease = self.claim(want, waited=self.growth.is_due(waiter, now_ns))
            if lease is None:
                if group.starting == starting:
                    refused.add(want.key)
                continue
            self.forget(waiter)
            waiter.grant(lease)
            return waiter
        return None

    def sweep(self) -> None:
        """End what has been idle too long or takes too much memory, and size the stock."""
        self.eviction.sweep(self.alive)
        self._size_stock()
        # What was used a moment ago may be taken by now, and no release need come to say so.
        self.serve()

    def _wanting_capacity(self) -> int:
        # The caller of claim counts as one although it may not be queued yet.
        return max(1, self.waiting)

    def total(self) -> int:
        """Return how many sandboxes exist; never above the cap."""
        return len(self.alive) + self.starting + self.ending

    def _group(self, ref: FunctionRef) -> Group:
        group = self.groups.get(ref)
        if group is None:
            group = self.groups[ref] = Group(ref)
        return group

    def _shelf(self, want: Want, group: Group) -> Shelf:
        shelf = self.shelves.get(want.key)
        if shelf is None:
            shelf = self.shelves[want.key] = Shelf(want.key, group, want.request_env)
            group.shelves.append(shelf)
        return shelf

    def _join(self, instance: Instance, want: Want, group: Group) -> None:
        group.count += 1
        instance.group = group
        if not want.fresh:
            instance.shelf = self._shelf(want, group)
            instance.shelf.members += 1

    def _leave(self, group: Group, shelf: Shelf | None) -> None:
        group.count -= 1
        if shelf is not None:
            shelf.members -= 1
            if shelf.members == 0:
                del self.shelves[shelf.key]
                group.shelves.remove(shelf)
        self._drop_if_unused(group)

    def _drop_if_unused(self, group: Group) -> None:
        if group.count == 0 and not group.waiters:
            self.groups.pop(group.ref, None)

    def end(self, instance: Instance) -> None:
        """End an instance; it counts as ending until that is certain. May be repeated."""
        if instance not in self.alive:
            return
        self.alive.remove(instance)
        if instance.group is not None:
            self._leave(instance.group, instance.shelf)
        self.ending += 1
        self._bury(instance)

    def started(self, want: Want, instance: Instance) -> None:
        """Note that a start which :meth:`claim` allowed has succeeded."""
        self.starting -= 1
        group = self.groups[want.ref]
        group.starting -= 1
        default = want.limits == self._default_limits
        group.note_cold_start("no stock" if default else "limits of its own")
        group.grown_ns = self._clock()
        instance.group = group
        instance.shelf = None if want.fresh else self.shelves[want.key]
        self.alive.add(instance)

    def start_failed(self, want: Want) -> None:
        """Note that such a start has failed; others may have its place."""
        self._undo_start(want)
        self.serve()

    def _undo_start(self, want: Want) -> None:
        self.starting -= 1
        group = self.groups[want.ref]
        group.starting -= 1
        self._leave(group, None if want.fresh else self.shelves[want.key])

    def may_refill(self) -> bool:
        """Tell whether one more sandbox may be started for the stock: only where nobody waits."""
        # The cap's last place is for a function that has no instance at all.
        room = self._caps.instances - (1 if self._caps.instances > 1 else 0) - self.total()
        if self.starting or self.waiting or room <= 0 or len(self.stock) >= self.stock_target:
            return False
        if self.eviction.memory.is_full:
            return False
        self.starting += 1
        return True

    def refilled(self, instance: Instance | None) -> None:
        """Put what was started for the stock there; ``None``: the start failed."""
        self.starting -= 1
        if instance is not None:
            self.alive.add(instance)
            self.stock.append(instance)
        self.serve()

    def buried(self) -> None:
        """Note that one that was ending has certainly ended; others may have its place."""
        self.ending -= 1
        self.serve()

    def refuse_all(self, error: Callable[[], FaasError]) -> None:
        """Turn everybody away who waits."""
        for group in list(self.groups.values()):
            for waiter in list(group.waiters):
                self.forget(waiter)
                waiter.refuse(error())

    def _size_stock(self) -> None:
        # Up to what was asked for within a second at once, down by one a second.
        if self._clock() - self._sized_ns < STOCK_LOOK_NS:
            return
        self._sized_ns = self._clock()
        demand, self._stock_demand = self._stock_demand, 0
        top = self._caps.stock * STOCK_GROWTH
        self.stock_target = max(self._caps.stock, min(top, max(demand, self.stock_target - 1)))
        while len(self.stock) > self.stock_target:
            self.end(self.stock.popleft())
