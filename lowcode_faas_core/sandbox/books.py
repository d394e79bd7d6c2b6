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
from lowcode_faas_core.sandbox.growth import Growth, is_surplus
from lowcode_faas_core.sandbox.instance import Instance
from lowcode_faas_core.sandbox.memory import MemoryBudget
from lowcode_faas_core.sandbox.shelves import Group, Lease, PoolCaps, Shelf, Waiter, Want

__all__ = ["Books"]

#: So long an idle instance is kept from functions that hold as much as its own or more, in
#: nanoseconds: with many waiting they would take it after each run, and each would start cold.
KEPT_FROM_RICHER_NS: Final = 1_000_000_000
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
        grow: Callable[[Want], None],
    ) -> None:
        self._caps = caps
        self._default_limits = default_limits
        self._clock = clock
        #: Kills an instance elsewhere; :meth:`buried` is called once its end is certain.
        self._bury = bury
        #: Starts one more elsewhere; :meth:`started` or :meth:`start_failed` is called after that.
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
        self._memory = MemoryBudget(caps.memory_bytes)
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
            self._yield_own_idle(group, want)
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
                self._grow(want)
                return None
            return Lease(None, StartKind.COLD)
        if self.ending < self._wanting_capacity():
            self._evict(group)
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
            self._end_longest_idle(shelf)

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

    def _evict(self, taker: Group) -> None:
        """End what nobody uses, to make room: stock first, then the longest idle of who holds most.

        Who holds as much as ``taker`` or less keeps what it used a moment ago.
        """
        if self.stock:
            self.end(self.stock.pop())
            return
        recent_ns = self._clock() - KEPT_FROM_RICHER_NS
        idle = [
            (shelf, since)
            for shelf in self.shelves.values()
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
            if self._end_longest_idle(shelf):
                return

    def _end_longest_idle(self, shelf: Shelf) -> bool:
        try:
            self.end(shelf.idle.popleft())
        except IndexError:  # leased by the hot path, which takes no lock
            return False
        return True

    def _yield_own_idle(self, group: Group, want: Want) -> None:
        """Make room within a function's own cap: another version's idle instance gives way."""
        for shelf in sorted(group.shelves, key=lambda s: not s.request_env):
            if shelf.key == want.key or self.ending >= self._wanting_capacity():
                continue
            if self._end_longest_idle(shelf):
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
            self._end_longest_idle(shelf)

    def sweep(self) -> None:
        """End what has been idle too long or takes too much memory, and size the stock."""
        self._bury_the_unfit()
        now_ns = self._clock()
        oldest_ns = now_ns - self._caps.idle_ttl_ns
        for shelf in list(self.shelves.values()):
            while (since := shelf.idle_since()) and since < oldest_ns:
                self._end_longest_idle(shelf)
            if is_surplus(shelf, now_ns):
                self._end_longest_idle(shelf)
        self._keep_within_memory()
        self._size_stock()
        # What was used a moment ago may be taken by now, and no release need come to say so.
        self.serve()

    def _bury_the_unfit(self) -> None:
        """End what died, or went on working, while nobody used it: it holds a place for nothing."""
        for instance in [*self.stock, *self._idle()]:
            if _is_unfit(instance):
                self._end_unused(instance)

    def _keep_within_memory(self) -> None:
        for instance in self._memory.surplus(self.alive, self._idle(), list(self.stock)):
            self._end_unused(instance)

    def _idle(self) -> list[Instance]:
        return [each for shelf in self.shelves.values() for each in list(shelf.idle)]

    def _end_unused(self, instance: Instance) -> None:
        unused = self.stock if instance.shelf is None else instance.shelf.idle
        try:
            unused.remove(instance)
        except (ValueError, IndexError):  # the hot path took one meanwhile: next time
            return
        self.end(instance)

    def _wanting_capacity(self) -> int:
        # The caller of _claim counts as one although it may not be queued yet.
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
        self.starting -= 1
        group = self.groups[want.ref]
        group.starting -= 1
        self._leave(group, None if want.fresh else self.shelves[want.key])
        self.serve()

    def may_refill(self) -> bool:
        """Tell whether one more sandbox may be started for the stock: only where nobody waits."""
        # The cap's last place is for a function that has no instance at all.
        room = self._caps.instances - (1 if self._caps.instances > 1 else 0) - self.total()
        if self.starting or self.waiting or room <= 0 or len(self.stock) >= self.stock_target:
            return False
        if self._memory.is_full:
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

    def end_unused(self) -> None:
        """End idle instances and the stock; leased ones are left to whoever holds them."""
        while self.stock:
            self.end(self.stock.popleft())
        for shelf in list(self.shelves.values()):
            while self._end_longest_idle(shelf):
                pass

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


def _is_unfit(unused: Instance) -> bool:
    return unused.sandbox.gone() or unused.worked_while_idle(unused.sandbox.cpu_ns())
