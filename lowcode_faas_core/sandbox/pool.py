"""Every sandbox of one serving process: who has it, who waits for one, and which one ends next.

The cap counts every sandbox that exists: leased, idle, stock, starting and ending. The hot path, a
warm lease and its release, is a pop from and a push onto a deque; everything else happens under
one lock that is never held while a sandbox is started, spoken to or waited for.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final

from lowcode_faas_core.errors import CapacityError, Draining, FaasError, RunnerUnavailable
from lowcode_faas_core.interfaces.launcher import Launcher
from lowcode_faas_core.model import FunctionRef, SandboxLimits, StartKind
from lowcode_faas_core.sandbox.instance import Bounds, Instance
from lowcode_faas_core.sandbox.shelves import Group, Lease, PoolCaps, Shelf, Waiter, Want
from lowcode_faas_core.sandbox.undertaker import Undertaker
from lowcode_faas_core.sandbox.verdict import Cause

__all__ = ["Pool"]

#: An invocation that has waited this long for an instance of its own function is the sign that
#: its handlers wait for something else, and that one more instance will help, in nanoseconds.
GROW_AFTER_NS: Final = 5_000_000
#: Of handlers shorter than this, in nanoseconds, two instances a serving process keep the cores
#: busy; who waits for them waits for a core, and more processes would only take turns on it.
SHORT_RUN_NS: Final = 3_000_000
SHORT_RUN_INSTANCES: Final = 2
#: So long must an invocation of such a function wait before it gets a third, in nanoseconds.
SHORT_GROW_AFTER_NS: Final = 100_000_000
#: So long an idle instance is kept from functions that hold as much as its own or more, in
#: nanoseconds: with many waiting they would take it after each run, and each would start cold.
KEPT_FROM_RICHER_NS: Final = 1_000_000_000
#: How often idle instances are looked over, in seconds.
SWEEP_S: Final = 1.0
#: Longest wait for the sandboxes to end at close, in seconds.
CLOSE_S: Final = 5.0
#: Wait before the next attempt to refill the stock after a start failed, in seconds.
REFILL_RETRY_S: Final = 2.0
#: How often what dead serving processes left behind is looked for, in seconds: a minute is promised.
REAP_S: Final = 20.0

_log = logging.getLogger(__name__)


class Pool:
    """Leases instances to invocations. One a serving process; used by many threads."""

    def __init__(
        self,
        launcher: Launcher,
        caps: PoolCaps,
        default_limits: SandboxLimits,
        bounds: Bounds,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._launcher = launcher
        self._caps = caps
        self._default_limits = default_limits
        self._bounds = bounds
        self._clock = clock
        self._lock = threading.Lock()
        self._shelves: dict[tuple[object, ...], Shelf] = {}
        self._groups: dict[FunctionRef, Group] = {}
        self._stock: deque[Instance] = deque()
        self._alive: set[Instance] = set()
        self._starting = 0
        self._ending = 0
        self._waiting = 0
        self._taken_from_stock = 0
        self._closed = False
        self._keeper_wake = threading.Event()
        self._keeper: threading.Thread | None = None
        self._undertaker = Undertaker(self._confirmed_end)

    def lease(self, want: Want, deadline_ns: int) -> Lease:
        """Return an instance for one run; blocks while none can be had.

        :raises CapacityError: the queue is full, or nothing came free in time.
        :raises RunnerUnavailable: a sandbox could not be started.
        :raises Draining: the pool is closed.
        """
        if not want.fresh:
            shelf = self._shelves.get(want.key)
            if shelf is not None:
                try:
                    return Lease(shelf.idle.pop(), StartKind.WARM)
                except IndexError:
                    pass
        return self._lease_slowly(want, deadline_ns)

    def release(self, instance: Instance, *, reusable: bool, run_ns: int = 0) -> None:
        """Give an instance back after its run; one that is not reusable is ended.

        ``run_ns`` is how long the handler took: growth depends on it.
        """
        shelf = instance.shelf
        if not reusable or shelf is None or self._is_closed():
            self.discard(instance)
            return
        instance.idle_since_ns = self._clock()
        shelf.group.note_run(run_ns)
        shelf.idle.append(instance)
        # Pushed first, looked second: a waiter announces itself before its last look at the shelf.
        if self._waiting:
            with self._lock:
                self._pass_on(shelf)
                self._serve()
        elif shelf.request_env:
            with self._lock:
                self._keep_one_of_request_env(shelf.group)

    def discard(self, instance: Instance) -> None:
        """End an instance; it counts as ending until that is confirmed. May be repeated."""
        with self._lock:
            self._end(instance)

    def displace(self, ref: FunctionRef) -> bool:
        """Turn away a waiting invocation of the function that has most of them waiting.

        ``ref`` asks because no thread is left for it. Only a function with at least two more
        waiting than ``ref`` itself has yields, so that equals never displace each other.
        """
        with self._lock:
            own = self._groups.get(ref)
            longest = max(self._groups.values(), key=lambda g: len(g.waiters), default=None)
            if longest is None or longest is own:
                return False
            if len(longest.waiters) < 2 + (len(own.waiters) if own else 0):
                return False
            waiter = longest.waiters[-1]
            self._forget_waiter(waiter)
            waiter.refuse(CapacityError("others with less waiting came first"))
            return True

    def stats(self) -> dict[str, Any]:
        """Return how many sandboxes exist in each state, and why, per function."""
        with self._lock:
            idle = sum(len(shelf.idle) for shelf in self._shelves.values())
            functions = {
                str(ref): {
                    "instances": group.count,
                    "idle": sum(len(shelf.idle) for shelf in group.shelves),
                    "starting": group.starting,
                    "waiting": len(group.waiters),
                    "cold_starts": group.cold_starts,
                    "last_cold_start": group.last_cold_start,
                }
                for ref, group in self._groups.items()
            }
            return {
                "cap": self._caps.instances,
                "leased": len(self._alive) - idle - len(self._stock),
                "idle": idle,
                "stock": len(self._stock),
                "starting": self._starting,
                "ending": self._ending,
                "waiting": self._waiting,
                "functions": functions,
            }

    def open(self) -> None:
        """Begin to keep stock and to look after idle instances."""
        self._keeper = threading.Thread(target=self._keep, name="pool-keeper", daemon=True)
        self._keeper.start()

    def tend(self) -> None:
        """End what has been idle too long and refill the stock; the keeper does it all the time."""
        self._sweep()
        while self._refill():
            pass

    def close(self, *, drain_deadline_ns: int = 0) -> None:
        """End every sandbox and thread; what runs at ``drain_deadline_ns`` is cancelled."""
        with self._lock:
            first, self._closed = not self._closed, True
            for group in list(self._groups.values()):
                for waiter in list(group.waiters):
                    self._forget_waiter(waiter)
                    waiter.refuse(Draining("the service is shutting down"))
        if not first:
            return
        self._keeper_wake.set()
        while self._clock() < drain_deadline_ns and self.stats()["leased"]:
            time.sleep(0.02)
        with self._lock:
            for instance in list(self._alive):
                instance.kill(Cause.CANCELLED)
                if instance.shelf is None or instance in instance.shelf.idle:
                    self._end(instance)
        last = time.monotonic() + CLOSE_S
        while time.monotonic() < last:
            with self._lock:
                if not (self._alive or self._starting or self._ending):
                    break
            time.sleep(0.005)
        self._undertaker.close()
        if self._keeper is not None:
            self._keeper.join(CLOSE_S)

    def _lease_slowly(self, want: Want, deadline_ns: int) -> Lease:
        queued_ns = self._clock()
        with self._lock:
            if self._closed:
                raise Draining("the service is shutting down")
            lease = self._claim(want, waited=False)
            waiter = None
            if lease is None:
                waiter = self._enqueue(want, queued_ns)
                # Announced first, looked once more second: a release in between saw no waiter.
                lease = self._claim(want, waited=False)
                if lease is not None:
                    self._forget_waiter(waiter)
        if lease is None and waiter is not None:
            lease = self._wait(waiter, deadline_ns)
        assert lease is not None  # noqa: S101  # _wait answers or raises
        if lease.instance is None:
            return self._start(want, lease, deadline_ns, self._clock() - queued_ns)
        return lease._replace(queue_ns=self._clock() - queued_ns)

    def _enqueue(self, want: Want, now_ns: int) -> Waiter:
        if self._waiting >= self._caps.queue:
            self._drop_group_if_unused(self._group(want.ref))
            raise CapacityError(f"{self._waiting} invocations are waiting already")
        group = self._group(want.ref)
        waiter = Waiter(want, group, now_ns)
        group.waiters.append(waiter)
        self._waiting += 1
        return waiter

    def _forget_waiter(self, waiter: Waiter) -> None:
        waiter.group.waiters.remove(waiter)
        self._waiting -= 1
        self._drop_group_if_unused(waiter.group)

    def _wait(self, waiter: Waiter, deadline_ns: int) -> Lease:
        last_ns = min(deadline_ns, waiter.since_ns + self._caps.queue_timeout_ns)
        look_ns = waiter.since_ns + self._patience_ns(waiter.group)
        while True:
            now_ns = self._clock()
            until_ns = look_ns if now_ns < look_ns else last_ns
            if waiter.wait(max(0, min(until_ns, last_ns) - now_ns) / 1e9):
                return waiter.outcome()
            with self._lock:
                if waiter.settled:
                    return waiter.outcome()
                now_ns = self._clock()
                lease = self._claim(waiter.want, waited=now_ns >= look_ns)
                if lease is not None:
                    self._forget_waiter(waiter)
                    return lease
                if now_ns >= last_ns:
                    self._forget_waiter(waiter)
                    raise CapacityError(
                        f"no sandbox came free within {(now_ns - waiter.since_ns) // 1_000_000} ms"
                    )

    def _claim(self, want: Want, *, waited: bool) -> Lease | None:
        """Return what ``want`` can have now: an instance, or leave to start one; else ``None``."""
        shelf = self._shelves.get(want.key)
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
        if self._stock and want.limits == self._default_limits:
            instance = self._stock.popleft()
            self._taken_from_stock += 1
            self._keeper_wake.set()
            self._join(instance, want, group)
            return Lease(instance, StartKind.PREWARMED)
        if self._total() < self._caps.instances:
            self._starting += 1
            group.starting += 1
            group.count += 1
            if not want.fresh:
                self._shelf(want, group).members += 1
            return Lease(None, StartKind.COLD)
        if self._ending < self._wanting_capacity():
            self._evict(group)
        return None

    def _start(self, want: Want, lease: Lease, deadline_ns: int, queue_ns: int) -> Lease:
        began_ns = self._clock()
        try:
            sandbox = self._launcher.start(want.limits, deadline_ns)
        except BaseException as error:
            with self._lock:
                self._starting -= 1
                group = self._groups[want.ref]
                group.starting -= 1
                self._leave(group, None if want.fresh else self._shelves[want.key])
                self._serve()
            if isinstance(error, FaasError) or not isinstance(error, Exception):
                raise
            raise RunnerUnavailable(f"a sandbox could not be started: {error}") from error
        instance = Instance(sandbox, self._bounds)
        with self._lock:
            self._starting -= 1
            group = self._groups[want.ref]
            group.starting -= 1
            group.cold_starts += 1
            group.last_cold_start = "no stock" if want.limits == self._default_limits else "limits"
            instance.group = group
            instance.shelf = None if want.fresh else self._shelves[want.key]
            self._alive.add(instance)
            if self._is_closed():
                instance.kill(Cause.CANCELLED)
        return lease._replace(
            instance=instance, queue_ns=queue_ns, start_ns=self._clock() - began_ns
        )

    def _patience_ns(self, group: Group) -> int:
        if group.count >= SHORT_RUN_INSTANCES and group.typical_run_ns < SHORT_RUN_NS:
            return SHORT_GROW_AFTER_NS
        return GROW_AFTER_NS

    def _pass_on(self, shelf: Shelf) -> None:
        """Give up the instance just released where another function waits with less."""
        group = shelf.group
        if self._total() < self._caps.instances or self._ending >= self._wanting_capacity():
            return
        poorer = any(
            other.waiters and other is not group and other.count + 1 < group.count
            for other in self._groups.values()
        )
        if poorer:
            self._end_longest_idle(shelf)

    def _serve(self) -> None:
        """Give what came free to those who wait: the function that holds least first."""
        now_ns = self._clock()
        progress = True
        while progress and self._waiting:
            progress = False
            waiting = [group for group in self._groups.values() if group.waiters]
            waiting.sort(key=lambda g: (g.count, g.waiters[0].since_ns))
            for group in waiting:
                waiter = self._first_served(group, now_ns)
                if waiter is not None:
                    progress = True
                    break

    def _first_served(self, group: Group, now_ns: int) -> Waiter | None:
        refused: set[tuple[object, ...]] = set()
        patience_ns = self._patience_ns(group)
        for waiter in group.waiters:
            want = waiter.want
            if want.key in refused:
                continue
            lease = self._claim(want, waited=now_ns - waiter.since_ns >= patience_ns)
            if lease is None:
                refused.add(want.key)
                continue
            self._forget_waiter(waiter)
            waiter.grant(lease)
            return waiter
        return None

    def _evict(self, taker: Group) -> None:
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
            if self._end_longest_idle(shelf):
                return

    def _end_longest_idle(self, shelf: Shelf) -> bool:
        try:
            self._end(shelf.idle.popleft())
        except IndexError:  # leased by the hot path, which takes no lock
            return False
        return True

    def _yield_own_idle(self, group: Group, want: Want) -> None:
        """Make room within a function's own cap: another version's idle instance gives way."""
        for shelf in sorted(group.shelves, key=lambda s: not s.request_env):
            if shelf.key == want.key or self._ending >= self._wanting_capacity():
                continue
            if self._end_longest_idle(shelf):
                return

    def _keep_one_of_request_env(self, group: Group) -> None:
        idle = [
            (since, index)
            for index, shelf in enumerate(group.shelves)
            if shelf.request_env and (since := shelf.idle_since())
        ]
        shelves = [group.shelves[index] for _, index in sorted(idle)]
        for shelf in shelves[:-1]:
            self._end_longest_idle(shelf)

    def _is_closed(self) -> bool:
        return self._closed

    def _wanting_capacity(self) -> int:
        # The caller of _claim counts as one although it may not be queued yet.
        return max(1, self._waiting)

    def _total(self) -> int:
        return len(self._alive) + self._starting + self._ending

    def _group(self, ref: FunctionRef) -> Group:
        group = self._groups.get(ref)
        if group is None:
            group = self._groups[ref] = Group(ref)
        return group

    def _shelf(self, want: Want, group: Group) -> Shelf:
        shelf = self._shelves.get(want.key)
        if shelf is None:
            shelf = self._shelves[want.key] = Shelf(want.key, group, want.request_env)
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
                del self._shelves[shelf.key]
                group.shelves.remove(shelf)
        self._drop_group_if_unused(group)

    def _drop_group_if_unused(self, group: Group) -> None:
        if group.count == 0 and not group.waiters:
            self._groups.pop(group.ref, None)

    def _end(self, instance: Instance) -> None:
        if instance not in self._alive:
            return
        self._alive.remove(instance)
        if instance.group is not None:
            self._leave(instance.group, instance.shelf)
        self._ending += 1
        self._undertaker.take(instance)

    def _confirmed_end(self, _instance: Instance) -> None:
        with self._lock:
            self._ending -= 1
            self._serve()
        self._keeper_wake.set()

    def _keep(self) -> None:
        next_reap = time.monotonic()
        while True:
            self._keeper_wake.wait(SWEEP_S)
            self._keeper_wake.clear()
            if self._closed:
                return
            self.tend()
            if time.monotonic() >= next_reap:
                self._reap()
                next_reap = time.monotonic() + REAP_S

    def _reap(self) -> None:
        """Remove what a killed serving process could not: nobody else does while we run."""
        try:
            found = self._launcher.adopt_orphans()
        except Exception as error:  # it is tried again; what serves must go on
            _log.warning("what an earlier process left behind could not be removed: %s", error)
            return
        if found:
            _log.warning("removed what %d sandboxes of a killed process had left behind", found)

    def _sweep(self) -> None:
        oldest_ns = self._clock() - self._caps.idle_ttl_ns
        with self._lock:
            for shelf in list(self._shelves.values()):
                while (since := shelf.idle_since()) and since < oldest_ns:
                    self._end_longest_idle(shelf)
            self._keep_within_memory()
            # What was used a moment ago may be taken by now, and no release need come to say so.
            self._serve()

    def _keep_within_memory(self) -> None:
        budget = self._caps.memory_bytes
        if budget is None:
            return
        shelves = [(since, s) for s in self._shelves.values() if (since := s.idle_since())]
        shelves.sort(key=lambda entry: entry[0])
        used = sum(i.sandbox.peak_rss() or 0 for _, s in shelves for i in list(s.idle))
        for _, shelf in shelves:
            while used > budget:
                try:
                    instance = shelf.idle.popleft()
                except IndexError:
                    break
                used -= instance.sandbox.peak_rss() or 0
                self._end(instance)

    def _refill(self) -> bool:
        """Start one sandbox for the stock where that delays nobody; tell whether to go on."""
        with self._lock:
            # The cap's last place is for a function that has no instance at all.
            room = self._total() < self._caps.instances - (1 if self._caps.instances > 1 else 0)
            busy = self._starting or self._waiting
            if self._closed or busy or not room or len(self._stock) >= self._caps.stock:
                return False
            self._starting += 1
        try:
            deadline_ns = time.monotonic_ns() + 30_000_000_000
            sandbox = self._launcher.start(self._default_limits, deadline_ns)
        except Exception:  # the stock is a convenience: whoever starts next sees the error
            with self._lock:
                self._starting -= 1
                self._serve()
            self._keeper_wake.wait(REFILL_RETRY_S)
            return False
        instance = Instance(sandbox, self._bounds)
        with self._lock:
            self._starting -= 1
            self._alive.add(instance)
            if self._is_closed():
                self._end(instance)
            else:
                self._stock.append(instance)
                self._serve()
        return True


def describe(stats: Mapping[str, Any]) -> str:
    """Return the counts as one line for the service's log."""
    states = ("leased", "idle", "stock", "starting", "ending", "waiting")
    return " ".join(f"{state}={stats[state]}" for state in states)
