"""Drives the pool through every order of start, end, crash, eviction and close.

No draw depends on the pool's state, which threads decide: a rule that does not apply does nothing.
"""

from __future__ import annotations

import threading
import time
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from lowcode_faas_core.errors import CapacityError, Draining, RunnerUnavailable
from lowcode_faas_core.interfaces.launcher import End, Isolation, Launcher, Sandbox, Stream
from lowcode_faas_core.model import FunctionRef, SandboxLimits
from lowcode_faas_core.sandbox.instance import Bounds
from lowcode_faas_core.sandbox.pool import Pool
from lowcode_faas_core.sandbox.shelves import PoolCaps, Want

LIMITS = SandboxLimits(memory_mb=64, cpus=1, pids=64, tmp_mb=16)
OTHER_LIMITS = SandboxLimits(memory_mb=128, cpus=1, pids=64, tmp_mb=16)
CAP, PER_FUNCTION = 4, 3


class HandSandbox(Sandbox):
    """Ends only when the test says so."""

    token = b"t" * 16

    def __init__(self, name: str) -> None:
        self.name = name
        self.killed = False
        self.confirmed = threading.Event()

    def fileno(self) -> int:
        return -1

    def read(self, size: int) -> tuple[Stream, bytes]:
        return Stream.CHANNEL, b""

    def write(self, data: bytes | memoryview) -> int:
        return len(data)

    def receive_timeout(self, seconds: float) -> None:
        pass

    def shutdown(self) -> None:
        pass

    def kill(self) -> None:
        self.killed = True

    def ended(self, timeout_s: float) -> End | None:
        return End(signal=9) if self.confirmed.wait(min(timeout_s, 0.001)) else None


class HandLauncher(Launcher):
    """Starts only when the test says so, and knows how many sandboxes exist."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.pending: list[tuple[threading.Event, dict[str, Any]]] = []
        self.sandboxes: list[HandSandbox] = []
        self.over_cap = ""
        self.at_once = False

    def existing(self) -> int:
        return len(self.pending) + sum(not s.confirmed.is_set() for s in self.sandboxes)

    def unconfirmed(self) -> list[HandSandbox]:
        return [s for s in self.sandboxes if s.killed and not s.confirmed.is_set()]

    def start(self, limits: SandboxLimits, deadline_ns: int) -> Sandbox:
        gate, answer = threading.Event(), {}
        with self.lock:
            self.pending.append((gate, answer))
            if self.existing() > CAP:
                self.over_cap = f"{self.existing()} sandboxes exist"
        if not self.at_once:
            gate.wait()
        with self.lock:
            self.pending.remove((gate, answer))
            if answer.get("fail"):
                raise RunnerUnavailable("no")
            sandbox = HandSandbox(f"hand-{len(self.sandboxes)}")
            self.sandboxes.append(sandbox)
        return sandbox

    def adopt_orphans(self) -> int:
        return 0

    def isolation(self) -> Isolation:
        return Isolation("none")

    def check(self) -> None:
        pass

    def close(self) -> None:
        pass


class PoolMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.launcher = HandLauncher()
        caps = PoolCaps(
            instances=CAP,
            per_function=PER_FUNCTION,
            stock=1,
            queue=6,
            queue_timeout_ns=60_000_000_000,
            idle_ttl_ns=1_000_000_000,
        )
        self.offset_ns = 0
        self.pool = Pool(
            self.launcher,
            caps,
            LIMITS,
            Bounds(1000, 1000),
            lambda: time.monotonic_ns() + self.offset_ns,
        )
        self.asking: list[threading.Thread] = []
        self.leased: list[Any] = []
        self.errors: list[BaseException] = []
        self.closed = False

    def settle(self) -> None:
        """Wait until every asking thread is served, waits in the queue, or waits for its start."""
        last = time.monotonic() + 5
        while True:
            self.asking = [thread for thread in self.asking if thread.is_alive()]
            stats = self.pool.stats()
            blocked = stats["waiting"] + len(self.launcher.pending)
            if len(self.asking) <= blocked:
                return
            assert time.monotonic() < last, (len(self.asking), stats)
            time.sleep(0.0005)

    @rule(
        name=st.sampled_from("abc"),
        version=st.sampled_from([1, 1, 1, 2]),
        fresh=st.sampled_from([False, False, False, True]),
        limits=st.sampled_from([LIMITS, LIMITS, OTHER_LIMITS]),
        request_env=st.sampled_from([False, False, True]),
    )
    def ask(self, name, version, fresh, limits, request_env) -> None:
        if self.closed or len(self.asking) >= 6:
            return
        key = (name, version, request_env, limits)
        want = Want(FunctionRef("", name), key, limits, fresh, request_env)

        def lease() -> None:
            try:
                got = self.pool.lease(want, time.monotonic_ns() + 3_600_000_000_000)
            except (CapacityError, Draining, RunnerUnavailable):
                return
            except BaseException as error:
                self.errors.append(error)
                return
            self.leased.append(got.instance)

        thread = threading.Thread(target=lease, daemon=True)
        self.asking.append(thread)
        thread.start()
        self.settle()

    @rule(pick=st.integers(0, 11), fail=st.sampled_from([False, False, False, True]))
    def finish_start(self, pick, fail) -> None:
        with self.launcher.lock:
            if not self.launcher.pending:
                return
            gate, answer = self.launcher.pending[pick % len(self.launcher.pending)]
            answer["fail"] = fail
        gate.set()
        last = time.monotonic() + 5
        while (gate, answer) in self.launcher.pending:
            assert time.monotonic() < last
            time.sleep(0.0002)
        self.settle()

    @rule(pick=st.integers(0, 11), reusable=st.sampled_from([True, True, False]))
    def give_back(self, pick, reusable) -> None:
        if not self.leased:
            return
        self.pool.release(self.leased.pop(pick % len(self.leased)), reusable=reusable)
        self.settle()

    @rule(pick=st.integers(0, 11))
    def confirm_an_end(self, pick) -> None:
        dying = self.launcher.unconfirmed()
        if not dying:
            return
        dying[pick % len(dying)].confirmed.set()
        last = time.monotonic() + 5
        # Not "one fewer than before": whoever waits may have another one ended in its place.
        while self.pool.stats()["ending"] > len(self.launcher.unconfirmed()):
            assert time.monotonic() < last
            time.sleep(0.0002)
        self.settle()

    @rule()
    def grow_idle_and_tend(self) -> None:
        self.offset_ns += 2_000_000_000
        self.launcher.at_once = True
        self.pool.tend()
        self.launcher.at_once = False
        self.settle()

    @rule(name=st.sampled_from("abc"))
    def displace(self, name) -> None:
        self.pool.displace(FunctionRef("", name))
        self.settle()

    @invariant()
    def nothing_is_leased_twice(self) -> None:
        assert not self.errors, self.errors
        assert len(set(map(id, self.leased))) == len(self.leased)
        assert not any(instance.sandbox.confirmed.is_set() for instance in self.leased)

    @invariant()
    def the_sum_holds(self) -> None:
        stats = self.pool.stats()
        states = ("leased", "idle", "stock", "starting", "ending")
        assert not self.launcher.over_cap, self.launcher.over_cap
        assert sum(stats[state] for state in states) <= CAP, stats
        assert min(stats[state] for state in states) >= 0, stats
        for function in stats["functions"].values():
            assert 0 <= function["instances"] <= PER_FUNCTION, stats

    def teardown(self) -> None:
        # Everybody gives back, every start and end completes: nobody may be left waiting.
        last = time.monotonic() + 10
        self.launcher.at_once = True
        while True:
            for gate, _ in list(self.launcher.pending):
                gate.set()
            for sandbox in self.launcher.sandboxes:
                if sandbox.killed:
                    sandbox.confirmed.set()
            while self.leased:
                self.pool.release(self.leased.pop(), reusable=True)
            self.asking = [thread for thread in self.asking if thread.is_alive()]
            if not self.asking and not self.leased:
                break
            # As the keeper does, which is not begun here: who waits for what was used a moment ago has
            # nobody else who would look again.
            self.pool.tend()
            assert time.monotonic() < last, self.pool.stats()
            time.sleep(0.0005)
        stats = self.pool.stats()
        assert stats["waiting"] == 0
        assert stats["leased"] == 0, stats
        closer = threading.Thread(target=self.pool.close)
        closer.start()
        while closer.is_alive():
            for sandbox in self.launcher.sandboxes:
                if sandbox.killed:
                    sandbox.confirmed.set()
            time.sleep(0.001)
        assert all(sandbox.killed for sandbox in self.launcher.sandboxes)
        stats = self.pool.stats()
        assert sum(stats[s] for s in ("leased", "idle", "stock", "starting", "ending")) == 0, stats
        assert not self.errors, self.errors


TestPool = PoolMachine.TestCase
TestPool.settings = settings(
    max_examples=300,
    stateful_step_count=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
