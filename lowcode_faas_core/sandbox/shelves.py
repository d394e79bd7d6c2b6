"""What the pool keeps its books in: wants, waiters, shelves of equal instances, groups by function."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import Any, NamedTuple

from lowcode_faas_core.errors import FaasError
from lowcode_faas_core.ids import now
from lowcode_faas_core.lanes import Wait, lane
from lowcode_faas_core.model import FunctionRef, SandboxLimits, StartKind
from lowcode_faas_core.sandbox.instance import Instance

__all__ = ["Group", "Lease", "PoolCaps", "Shelf", "Waiter", "Want"]


@dataclass(frozen=True)
class PoolCaps:
    """One serving process's share of the service's caps; times in nanoseconds."""

    instances: int
    per_function: int
    stock: int
    queue: int
    queue_timeout_ns: int
    idle_ttl_ns: int
    memory_bytes: int | None = None


class Want(NamedTuple):
    """What an invocation needs. Instances with equal ``key`` are interchangeable for it."""

    ref: FunctionRef
    key: tuple[object, ...]
    limits: SandboxLimits
    fresh: bool
    request_env: bool


class Lease(NamedTuple):
    """An instance for one run, or (``instance=None``) leave to start one."""

    instance: Instance | None
    kind: StartKind
    queue_ns: int = 0
    start_ns: int = 0


class Group:
    """All sandboxes and waiters of one function, whatever the version or env."""

    def __init__(self, ref: FunctionRef) -> None:
        self.ref = ref
        #: Sandboxes that exist for it: leased, idle and starting.
        self.count = 0
        self.starting = 0
        #: When the last of its starts ended; a time of the pool's clock.
        self.grown_ns = 0
        self.waiters: deque[Waiter] = deque()
        self.shelves: list[Shelf] = []
        self.cold_starts = 0
        self.last_cold_start: dict[str, str] | None = None
        #: How long its shorter runs take; a hint, so that a lost update does no harm. It begins long:
        #: what is not known to be short gets its instances without waiting for the first to end.
        self.typical_run_ns = 12_000_000

    def note_cold_start(self, reason: str) -> None:
        """Count a start that an invocation had to wait for, and why it had to."""
        self.cold_starts += 1
        self.last_cold_start = {"at": now(), "reason": reason}

    def stats(self) -> dict[str, Any]:
        """Return what exists for this function, as operators see it."""
        warm = sum(len(shelf.idle) for shelf in self.shelves)
        return {
            "instances": self.count,
            "warm": warm,
            "leased": max(0, self.count - self.starting - warm),
            "starting": self.starting,
            "waiting": len(self.waiters),
            "cold_starts": self.cold_starts,
            "last_cold_start": self.last_cold_start,
        }

    def note_run(self, run_ns: int) -> None:
        """Follow the shorter runs: down at once, up by one in 64.

        On a busy machine every run is as long as the wait for a core; only the short ones tell
        how long the handler itself takes.
        """
        above_ns = run_ns - self.typical_run_ns
        self.typical_run_ns += above_ns if above_ns < 0 else above_ns >> 6


class Shelf:
    """The instances of one key; it stays while it has members, so that a push is never lost."""

    def __init__(self, key: tuple[object, ...], group: Group, request_env: bool) -> None:
        self.key = key
        self.group = group
        self.request_env = request_env
        #: Instances of this key that exist: leased, idle and starting.
        self.members = 0
        #: The longest idle is on the left; the last used, still in the caches, on the right.
        self.idle: deque[Instance] = deque()

    def idle_since(self) -> int:
        """Return since when the longest idle is so, 0 when none is; the hot path pops unlocked."""
        try:
            return self.idle[0].idle_since_ns
        except IndexError:
            return 0


class Waiter:
    """A thread that waits for a lease; settled once, by a grant or a refusal."""

    def __init__(self, want: Want, group: Group, since_ns: int) -> None:
        self.want = want
        self.group = group
        self.since_ns = since_ns
        self.settled = False
        self._lease: Lease | None = None
        self._error: FaasError | None = None
        # A lock taken twice is the cheapest thing CPython can wait on with a timeout.
        self._gate = threading.Lock()
        self._gate.acquire()
        self._turn: Wait | None = None

    def wait(self, timeout_s: float) -> bool:
        """Wait until settled; tell whether it is."""
        current = lane()
        if current is None:
            return self._gate.acquire(timeout=timeout_s)
        self._turn = turn = Wait(current.lanes)
        # Announced first, looked second: whoever settles it does so the other way round.
        return self.settled or current.lanes.wait(turn, timeout_s)

    def grant(self, lease: Lease) -> None:
        """Wake it with a lease."""
        self._lease = lease
        self._settle()

    def refuse(self, error: FaasError) -> None:
        """Wake it with an error."""
        self._error = error
        self._settle()

    def _settle(self) -> None:
        self.settled = True
        self._gate.release()
        if self._turn is not None:
            self._turn.lanes.soon(self._turn.end)

    def outcome(self) -> Lease:
        """Return the lease or raise the refusal."""
        if self._error is not None:
            raise self._error
        assert self._lease is not None  # noqa: S101  # settled means one of the two
        return self._lease
