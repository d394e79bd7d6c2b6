"""Every sandbox of one serving process: who has it, who waits for one, and which one ends next.

The cap counts every sandbox that exists: leased, idle, stock, starting and ending. The hot path, a
warm lease and its release, is a pop from and a push onto a deque; everything else happens under
one lock that is never held while a sandbox is started, spoken to or waited for.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from lowcode_faas_core.errors import CapacityError, Draining, FaasError, RunnerUnavailable
from lowcode_faas_core.interfaces.launcher import Launcher, Sandbox
from lowcode_faas_core.lanes import elsewhere
from lowcode_faas_core.meter import Meter
from lowcode_faas_core.model import FunctionRef, SandboxLimits, StartKind
from lowcode_faas_core.sandbox.books import Books
from lowcode_faas_core.sandbox.growth import GROW_AFTER_NS
from lowcode_faas_core.sandbox.instance import Bounds, Instance
from lowcode_faas_core.sandbox.keeper import Keeper
from lowcode_faas_core.sandbox.shelves import Lease, PoolCaps, Shelf, Waiter, Want
from lowcode_faas_core.sandbox.undertaker import Undertaker
from lowcode_faas_core.sandbox.verdict import Cause

__all__ = ["Pool"]

_log = logging.getLogger(__name__)

#: Longest wait for the sandboxes to end at close, in seconds.
CLOSE_S: Final = 5.0
#: Longest start of a sandbox that no invocation waits for alone, in nanoseconds.
STOCK_START_NS: Final = 30_000_000_000
#: How long after a sandbox was taken from the stock the next is started, in seconds: a start is the
#: work of a core for as long as many a first run, which would wait for it.
REFILL_AFTER_S: Final = 0.02


class Pool:
    """Leases instances to invocations. One a serving process; used by many threads."""

    def __init__(
        self,
        launcher: Launcher,
        caps: PoolCaps,
        default_limits: SandboxLimits,
        bounds: Bounds,
        clock: Callable[[], int] = time.monotonic_ns,
        meter: Meter | None = None,
    ) -> None:
        self._launcher = launcher
        self._caps = caps
        self._default_limits = default_limits
        self._bounds = bounds
        self._clock = clock
        self._meter = meter or Meter()
        self._lock = threading.Lock()
        self._closed = False
        self._drain_ns = 0
        self._ended = threading.Event()
        self._undertaker = Undertaker(self._buried)
        self._books = Books(caps, default_limits, clock, self._undertaker.take, self._grow)
        self._keeper = Keeper(self.tend, self._reap)

    def lease(self, want: Want, deadline_ns: int) -> Lease:
        """Return an instance for one run; blocks while none can be had.

        :raises CapacityError: the queue is full, or nothing came free in time.
        :raises RunnerUnavailable: a sandbox could not be started.
        :raises Draining: the pool is closed.
        """
        if not want.fresh:
            shelf = self._books.shelves.get(want.key)
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
        shelf.group.note_run(run_ns)
        self._shelve(instance, shelf)

    def _shelve(self, instance: Instance, shelf: Shelf) -> None:
        books = self._books
        instance.idle_since_ns = self._clock()
        shelf.idle.append(instance)
        # Pushed first, looked second: a waiter announces itself before its last look at the shelf,
        # and close looks at the shelves after it has closed.
        if books.waiting:
            with self._lock:
                books.pass_on(shelf)
                books.serve()
        elif shelf.request_env:
            with self._lock:
                books.eviction.keep_one_of_request_env(shelf.group)
        if self._is_closed():
            with self._lock:
                books.eviction.end_unused()

    def discard(self, instance: Instance) -> None:
        """End an instance that the caller holds; it counts until its end is certain."""
        with self._lock:
            self._books.end(instance)

    def displace(self, ref: FunctionRef) -> bool:
        """Turn away a waiting invocation of the function that has most of them waiting."""
        with self._lock:
            return self._books.displace(ref)

    @property
    def waiting(self) -> int:
        """How many wait for an instance; read without the lock."""
        return self._books.waiting

    def stats(self) -> dict[str, Any]:
        """Return how many sandboxes exist in each state, and why, per function."""
        with self._lock:
            return self._books.stats()

    def degraded(self) -> list[str]:
        """Return a sentence while functions take each other's instances away."""
        return self._books.eviction.degraded()

    def open(self) -> None:
        """Begin to keep stock and to look after idle instances.

        :raises RuntimeError: no thread can be had. Later, when user code may have taken the last
            one, nothing here depends on another.
        """
        self._undertaker.open()
        self._keeper.start()

    def tend(self) -> None:
        """End what has been idle too long and refill the stock; the keeper does it all the time.

        :raises FaasError: when a sandbox for the stock cannot be started.
        """
        with self._lock:
            if self._closed:
                return
            self._books.sweep()
        self._books.eviction.warn()
        while self._refill():
            pass
        self._launcher.prepare(self._default_limits)

    def close(self, *, drain_deadline_ns: int = 0) -> None:
        """End every sandbox and thread; what runs at ``drain_deadline_ns`` is cancelled.

        Whoever calls it a second time may have it end sooner, and waits for the first as well: what
        is released next, the sandboxes still stand on.
        """
        with self._lock:
            first, self._closed = not self._closed, True
            self._drain_ns = (
                min(self._drain_ns, drain_deadline_ns) if not first else drain_deadline_ns
            )
            self._books.refuse_all(_draining)
        if not first:
            self._ended.wait(3 * CLOSE_S)
            return
        try:
            self._end_all()
        finally:
            self._ended.set()

    def _end_all(self) -> None:
        self._keeper.stop()
        while self._clock() < self._drain_ns and self.stats()["leased"]:
            time.sleep(0.02)
        with self._lock:
            self._books.eviction.end_unused()
            # Killed, but not taken: each belongs to a thread that is in the middle of its words.
            for instance in self._books.alive:
                instance.kill(Cause.CANCELLED)
        last = time.monotonic() + CLOSE_S
        while time.monotonic() < last:
            with self._lock:
                if self._books.total() == 0:
                    break
            time.sleep(0.005)
        self._undertaker.close()
        self._keeper.join(CLOSE_S)

    def _lease_slowly(self, want: Want, deadline_ns: int) -> Lease:
        queued_ns = self._clock()
        books = self._books
        with self._lock:
            if self._closed:
                raise _draining()
            lease = books.claim(want, waited=False)
            waiter = None
            if lease is None:
                waiter = books.enqueue(want, queued_ns)
                # Announced first, looked once more second: a release in between saw no waiter.
                lease = books.claim(want, waited=False)
                if lease is not None:
                    books.forget(waiter)
        if lease is None and waiter is not None:
            lease = self._wait(waiter, deadline_ns)
        assert lease is not None  # noqa: S101  # _wait answers or raises
        queue_ns = self._clock() - queued_ns
        if lease.instance is None:
            begun = lease
            return elsewhere(lambda: self._start(want, begun, deadline_ns, queue_ns))
        if lease.kind is StartKind.PREWARMED:
            self._keeper.wake(REFILL_AFTER_S)
        return lease._replace(queue_ns=queue_ns)

    def _wait(self, waiter: Waiter, deadline_ns: int) -> Lease:
        books = self._books
        last_ns = min(deadline_ns, waiter.since_ns + self._caps.queue_timeout_ns)
        while True:
            now_ns = self._clock()
            due_ns = books.growth.due_ns(waiter)
            until_ns = due_ns if now_ns < due_ns else last_ns
            if waiter.wait(max(0, min(until_ns, last_ns) - now_ns) / 1e9):
                return waiter.outcome()
            with self._lock:
                if waiter.settled:
                    return waiter.outcome()
                now_ns = self._clock()
                due = books.growth.is_due(waiter, now_ns)
                lease = books.claim(waiter.want, waited=due)
                if lease is not None:
                    books.forget(waiter)
                    return lease
                if now_ns >= last_ns:
                    books.forget(waiter)
                    waited = f"{(now_ns - waiter.since_ns) // 1_000_000} ms"
                    if now_ns >= deadline_ns:
                        raise CapacityError(
                            f"the deadline passed after {waited} in the queue", phase="queue"
                        )
                    raise CapacityError(f"no sandbox came free within {waited}", phase="queue")

    def _start(self, want: Want, lease: Lease, deadline_ns: int, queue_ns: int) -> Lease:
        began_ns = self._clock()
        try:
            sandbox = self._launch(want.limits, deadline_ns)
        except BaseException as error:
            with self._lock:
                self._books.growth.note_failure(self._clock())
                self._books.start_failed(want)
            if isinstance(error, FaasError) or not isinstance(error, Exception):
                if isinstance(error, FaasError) and self._clock() >= deadline_ns:
                    error.phase = error.phase or "start"
                raise
            raise RunnerUnavailable(f"a sandbox could not be started: {error}") from error
        instance = Instance(sandbox, self._bounds)
        with self._lock:
            self._books.started(want, instance)
            if self._closed:
                instance.kill(Cause.CANCELLED)
        if self._books.waiting:
            # Who waited for this start may be due for another one, and sleeps.
            self._keeper.wake(GROW_AFTER_NS / 1e9)
        start_ns = self._clock() - began_ns
        self._keeper.wake(REFILL_AFTER_S)
        return lease._replace(instance=instance, queue_ns=queue_ns, start_ns=start_ns)

    def _grow(self, want: Want) -> bool:
        """Start one more beside those who wait; called with the lock held. False: no thread for it."""
        start = threading.Thread(
            target=self._start_beside, args=(want,), name="pool-start", daemon=True
        )
        try:
            start.start()
        except RuntimeError as error:
            _log.debug("a function could not get one more sandbox: %s", error)
            return False
        return True

    def _start_beside(self, want: Want) -> None:
        deadline_ns = time.monotonic_ns() + STOCK_START_NS
        try:
            instance = self._start(want, Lease(None, StartKind.COLD), deadline_ns, 0).instance
        except FaasError as error:
            _log.debug("a function could not get one more sandbox: %s", error)
            return
        assert instance is not None  # noqa: S101  # a start has made one
        assert instance.shelf is not None  # noqa: S101  # not for `fresh`
        self._shelve(instance, instance.shelf)
        # Those it was not enough for sleep, and are due for more by then.
        time.sleep(GROW_AFTER_NS / 1e9)
        with self._lock:
            self._books.serve()

    def _refill(self) -> bool:
        """Start one sandbox for the stock where that delays nobody; tell whether to go on."""
        with self._lock:
            if self._closed or not self._books.may_refill():
                return False
        instance = None
        try:
            deadline_ns = time.monotonic_ns() + STOCK_START_NS
            instance = Instance(self._launch(self._default_limits, deadline_ns), self._bounds)
            instance.warm_up()
        finally:
            with self._lock:
                self._books.refilled(instance)
                if self._is_closed():
                    self._books.eviction.end_unused()
        return True

    def _launch(self, limits: SandboxLimits, deadline_ns: int) -> Sandbox:
        began_ns, outcome = time.monotonic_ns(), "error"
        try:
            sandbox = self._launcher.start(limits, deadline_ns)
            outcome = "ok"
            self._books.growth.note_start(time.monotonic_ns() - began_ns)
        finally:
            self._meter.operation("start_sandbox", outcome, time.monotonic_ns() - began_ns)
        return sandbox

    def _reap(self) -> int:
        found = self._launcher.adopt_orphans()
        self._meter.orphans_reaped(found)
        return found

    def _buried(self) -> None:
        with self._lock:
            self._books.buried()
        self._keeper.wake()

    def _is_closed(self) -> bool:
        return self._closed


def _draining() -> FaasError:
    return Draining("the service is shutting down")
