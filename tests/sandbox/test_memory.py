"""The memory budget: what nobody uses gives way, the longest idle first, and no request notices."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from lowcode_faas_core.configuration import LimitSettings
from lowcode_faas_core.interfaces.launcher import Sandbox
from lowcode_faas_core.limits import OperatorLimits
from lowcode_faas_core.model import FunctionRef, Limits, SandboxLimits, Status
from lowcode_faas_core.sandbox.instance import Bounds
from lowcode_faas_core.sandbox.pool import Pool
from lowcode_faas_core.sandbox.runner import PooledRunner
from lowcode_faas_core.sandbox.shelves import Want
from lowcode_faas_core.testing.stub_launcher import StubLauncher, StubSandbox

SIZE = 50 << 20
LIMITS = OperatorLimits(LimitSettings()).resolve(Limits())
FAR = 1 << 62


class Heavy(StubLauncher):
    """Its sandboxes say that they take ``SIZE`` bytes each."""

    def start(self, limits: SandboxLimits, deadline_ns: int) -> Sandbox:
        sandbox = super().start(limits, deadline_ns)
        sandbox.peak_rss = lambda: SIZE  # type: ignore[method-assign]
        return sandbox


@pytest.fixture
def made(caps) -> Iterator:
    pools: list[tuple[Pool, Heavy]] = []
    clock = itertools.count(1)

    def make(budget: int | None, stock: int = 0) -> Pool:
        launcher = Heavy()
        settings = caps(instances=32, per_function=32, stock=stock, memory_bytes=budget)
        # It has no keeper: the test tends it. Every look at the clock is 0.1 ms later.
        pools.append(
            (
                Pool(launcher, settings, LIMITS, Bounds(1000, 1000), lambda: next(clock) * 100_000),
                launcher,
            )
        )
        return pools[-1][0]

    yield make
    for pool, launcher in pools:
        pool.close()
        assert launcher.living() == 0


def want(name: str) -> Want:
    return Want(FunctionRef("", name), (name,), LIMITS, fresh=False, request_env=False)


def use(pool: Pool, *names: str) -> None:
    """Have each be warm, the last named used last."""
    leases = [pool.lease(want(name), FAR) for name in names]
    for lease in leases:
        pool.release(lease.instance, reusable=True)


def warm(pool: Pool) -> set[str]:
    return {name for name, stats in pool.stats()["functions"].items() if stats["warm"]}


def test_the_longest_idle_of_all_functions_end_first(made):
    pool = made(3 * SIZE)
    use(pool, "a", "b", "c", "d", "a")
    pool.tend()
    assert warm(pool) == {"c", "d", "a"}


def test_of_a_function_with_many_only_the_longest_idle_end(made):
    pool = made(3 * SIZE)
    use(pool, "a", "a", "a")
    use(pool, "b")
    pool.tend()
    functions = pool.stats()["functions"]
    assert (functions["a"]["warm"], functions["b"]["warm"]) == (2, 1)


def test_what_sandboxes_share_counts_for_none_of_them(made, monkeypatch):
    monkeypatch.setattr(StubSandbox, "own_memory", lambda _: SIZE // 5)
    pool = made(2 * SIZE)
    use(pool, *"abcdefgh")
    pool.tend()
    assert len(warm(pool)) == 8
    use(pool, "i", "j", "k")
    pool.tend()
    assert len(warm(pool)) == 10


def test_what_runs_counts_and_is_never_ended(made):
    pool = made(2 * SIZE)
    held = [pool.lease(want("busy"), FAR) for _ in range(3)]
    use(pool, "idle")
    pool.tend()
    assert warm(pool) == set()
    assert pool.stats()["leased"] == 3
    assert not any(lease.instance.sandbox.gone() for lease in held)
    for lease in held:
        pool.release(lease.instance, reusable=True)
    pool.tend()
    assert pool.stats()["idle"] == 2


def test_the_stock_gives_way_last_and_is_not_refilled_into_a_full_budget(made):
    pool = made(2 * SIZE, stock=2)
    pool.tend()
    pool.tend()
    assert pool.stats()["stock"] == 2
    held = [pool.lease(want("a"), FAR) for _ in range(2)]
    for _ in range(3):
        pool.tend()
    assert pool.stats()["stock"] == 0
    for lease in held:
        pool.discard(lease.instance)


def test_without_a_budget_nothing_gives_way(made):
    pool = made(None)
    use(pool, *"abcdefgh")
    pool.tend()
    assert len(warm(pool)) == 8


def test_no_request_fails_while_everything_is_evicted(caps, deployment, invocation):
    """Every look finds too much, while threads take what it is about to end."""
    launcher = Heavy()
    settings = caps(instances=6, per_function=6, memory_bytes=1)
    runner = PooledRunner(launcher, settings, OperatorLimits(LimitSettings()))
    targets = [deployment(function_name=f"f{number}") for number in range(4)]
    over = threading.Event()

    def sweep() -> None:
        while not over.is_set():
            runner._pool.tend()

    def run(number: int) -> Status:
        return runner.run(invocation(targets[number % 4]), lambda: b"", print).status

    sweeper = threading.Thread(target=sweep)
    sweeper.start()
    try:
        with ThreadPoolExecutor(4) as threads:
            statuses = set(threads.map(run, range(200)))
    finally:
        over.set()
        sweeper.join()
        runner.close()
    assert statuses == {Status.SUCCEEDED}
    assert len(launcher.started) > len(targets), "nothing was evicted"
