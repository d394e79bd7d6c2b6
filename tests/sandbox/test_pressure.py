"""Operators learn that there are more functions in use than sandboxes for them."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from lowcode_faas_core.configuration import LimitSettings
from lowcode_faas_core.limits import OperatorLimits
from lowcode_faas_core.model import FunctionRef, Limits
from lowcode_faas_core.sandbox.instance import Bounds
from lowcode_faas_core.sandbox.pool import Pool
from lowcode_faas_core.sandbox.pressure import MANY, SPAN_NS
from lowcode_faas_core.sandbox.shelves import Want
from lowcode_faas_core.testing.stub_launcher import StubLauncher, StubSandbox

LIMITS = OperatorLimits(LimitSettings()).resolve(Limits())
FAR = 1 << 62


class Crowd:
    """A pool without a keeper, and a clock that stands still between two runs."""

    def __init__(self, caps, **given: int) -> None:
        self.now_ns = 1 << 40
        self.pool = Pool(
            StubLauncher(), caps(**given), LIMITS, Bounds(1000, 1000), lambda: self.now_ns
        )

    def use(self, name: str, *, request_env: bool = False) -> None:
        # Whoever finds all places taken waits for one that ends, in a thread of the pool's.
        want = Want(FunctionRef("", name), (name,), LIMITS, False, request_env)
        lease = self.pool.lease(want, FAR)
        self.pool.release(lease.instance, reusable=True)

    def take_turns(self, functions: int, calls: int, pause_ns: int, **more: bool) -> list[str]:
        for number in range(calls):
            self.use(f"f{number % functions}", **more)
            self.now_ns += pause_ns
        return self.pool.degraded()


@pytest.fixture
def crowd(caps) -> Iterator:
    made: list[Crowd] = []

    def make(**given: int) -> Crowd:
        made.append(Crowd(caps, **given))
        return made[-1]

    yield make
    for each in made:
        each.pool.close()


#: So long that equals take each other's, and so short that they were in use a moment ago.
PAUSE_NS = 1_000_000_001


def test_functions_that_take_turns_in_too_few_places_are_told_of(crowd, caplog):
    found = crowd(instances=2)
    assert found.take_turns(3, MANY, PAUSE_NS) == []
    (said,) = found.take_turns(3, 3, PAUSE_NS)
    assert "31 that ran within the last minute" in said
    assert "LOWCODE_FAAS_MAX_INSTANCES" in said
    assert "here 2" in said
    # The log has it once
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            found.pool.tend()
    assert [record.getMessage() for record in caplog.records] == [said]
    # It is over a minute after it was
    found.now_ns += SPAN_NS
    assert found.pool.degraded() == []


@pytest.mark.parametrize(
    ("functions", "pause_ns", "request_env"),
    [(2, PAUSE_NS, False), (3, SPAN_NS, False), (3, PAUSE_NS, True)],
    ids=["there is room", "nobody called them for long", "they rarely come again"],
)
def test_nothing_is_told_where_it_does_no_harm(crowd, functions, pause_ns, request_env):
    found = crowd(instances=2)
    assert found.take_turns(functions, 3 * MANY, pause_ns, request_env=request_env) == []


def test_a_budget_of_memory_that_is_too_small_is_told_of(crowd, monkeypatch):
    monkeypatch.setattr(StubSandbox, "own_memory", lambda _: 50 << 20)
    found = crowd(instances=8, memory_bytes=1)
    for number in range(MANY):
        assert found.pool.degraded() == []
        found.use(f"f{number % 3}")
        found.pool.tend()
    (said,) = found.pool.degraded()
    assert "LOWCODE_FAAS_MEMORY_BUDGET_MB" in said
