"""One more instance is started when waiting for it costs less than the waiting goes on to cost."""

from __future__ import annotations

import threading

import pytest

from lowcode_faas_core.errors import RunnerUnavailable
from lowcode_faas_core.model import FunctionRef, SandboxLimits, StartKind
from lowcode_faas_core.sandbox.growth import SURPLUS_NS, Growth, is_surplus
from lowcode_faas_core.sandbox.shelves import Group, Shelf, Waiter, Want

MS = 1_000_000
REF = FunctionRef("", "f")


@pytest.fixture
def group():
    return Group(REF)


@pytest.fixture
def growth():
    growth = Growth()
    growth.note_start(300 * MS)
    return growth


def waiting(group, since_ns=0):
    limits = SandboxLimits(memory_mb=64, cpus=1, pids=64, tmp_mb=16)
    return Waiter(Want(REF, ("k",), limits, fresh=False, request_env=False), group, since_ns)


def test_a_start_is_learned_up_at_once_and_down_slowly():
    growth = Growth()
    growth.note_start(300 * MS)
    assert growth.start_ns == 300 * MS
    growth.note_start(100 * MS)
    assert growth.start_ns == 275 * MS
    growth.note_start(60_000 * MS)  # an engine that hung
    assert growth.start_ns == 2000 * MS


def test_while_the_only_instance_starts_nobody_waits_less_than_a_start(group, growth):
    group.count = group.starting = 1
    assert growth.due_ns(waiting(group, 7 * MS)) == 457 * MS


def test_as_many_as_there_are_may_start_at_once(group, growth):
    group.count, group.starting = 5, 2
    assert growth.due_ns(waiting(group)) == 5 * MS
    group.count, group.starting = 6, 3
    assert growth.due_ns(waiting(group)) == 450 * MS


def test_waiting_counts_anew_once_a_start_has_ended(group, growth):
    group.count, group.grown_ns = 1, 310 * MS
    assert growth.due_ns(waiting(group)) == 315 * MS
    assert growth.due_ns(waiting(group, 400 * MS)) == 405 * MS


def test_a_third_for_short_handlers_is_weighed_against_its_start(group, growth):
    group.count, group.typical_run_ns = 2, MS
    assert growth.due_ns(waiting(group)) == 300 * MS
    of_processes = Growth()
    of_processes.note_start(25 * MS)
    assert of_processes.due_ns(waiting(group)) == 100 * MS


@pytest.mark.parametrize(
    ("count", "run_ns", "idle_ns", "surplus"),
    [
        (3, MS, SURPLUS_NS, True),
        (2, MS, SURPLUS_NS, False),
        (3, 20 * MS, SURPLUS_NS, False),
        (3, MS, SURPLUS_NS - 1, False),
        (3, MS, None, False),
    ],
)
def test_what_short_handlers_do_without_is_surplus(group, count, run_ns, idle_ns, surplus):
    group.count, group.typical_run_ns = count, run_ns
    shelf = Shelf(("k",), group, request_env=False)
    if idle_ns is not None:
        shelf.idle.append(type("Idle", (), {"idle_since_ns": 1})())
    assert is_surplus(shelf, 2 + (idle_ns or 0)) is surplus


def test_a_burst_of_short_runs_starts_few(bench, deployment, invocation):
    # Given starts that take a while, as one has shown
    b = bench(instances=16, per_function=16)
    b.launcher.start_delay_s = 0.6
    b.run(invocation(deployment()))
    # When many come at once for a function that has no instance
    burst = deployment(deployment_id="another")
    threads = [threading.Thread(target=b.run, args=(invocation(burst),)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # Then they share what the first of them began, and what one more was thought to bring
    assert 2 <= len(b.launcher.started) <= 4


def test_a_burst_of_long_runs_gets_an_instance_each(bench, deployment, invocation, until):
    # Given handlers that wait for something else until all of them do
    together = threading.Barrier(9)

    def wait(_talk, _context, _value):
        together.wait(30)
        return {"ok": True, "data": None}

    b = bench(wait, instances=16, per_function=16)
    b.launcher.start_delay_s = 0.02
    burst = deployment()
    threads = [threading.Thread(target=b.run, args=(invocation(burst),)) for _ in range(8)]
    for thread in threads:
        thread.start()
    # Then none of them waits for another one's end
    together.wait(30)
    for thread in threads:
        thread.join()
    assert len(b.launcher.started) == 8


@pytest.fixture
def busy(bench, deployment, invocation, until):
    """A function whose only instance is in a run, until told; its next starts do as ``then`` does."""
    go, begun, then = threading.Event(), threading.Event(), []

    def wait(_talk, _context, value):
        if value.get("wait"):
            begun.set()
            go.wait(30)
        return {"ok": True, "data": None}

    b = bench(wait)
    function = deployment()
    b.run(invocation(function))
    start = b.launcher.start

    def start_then(*given):
        for each in then:
            each()
        return start(*given)

    b.launcher.start = start_then
    first = threading.Thread(target=b.run, args=(invocation(function, {"wait": True}),))
    first.start()
    begun.wait(30)
    found = []
    second = threading.Thread(target=lambda: found.append(b.run(invocation(function))))
    yield b, go, then, second, found
    go.set()
    first.join()
    second.join()


def test_who_had_a_start_begun_takes_what_comes_free_before_it_ends(busy, until):
    b, go, then, second, found = busy
    hung = threading.Event()
    then.append(lambda: hung.wait(30))
    second.start()
    until(lambda: b.runner.stats()["starting"] == 1)
    go.set()
    second.join(20)
    assert [each.start for each in found] == [StartKind.WARM]
    assert b.runner.stats()["starting"] == 1
    hung.set()
    until(lambda: b.runner.stats()["idle"] == 2)


def test_a_start_that_fails_beside_an_instance_fails_nobody(busy, until):
    b, go, then, second, found = busy
    tried = []

    def fail():
        tried.append(1)
        raise RunnerUnavailable("no engine")

    then.append(fail)
    second.start()
    until(lambda: tried)
    go.set()
    second.join(20)
    assert [each.start for each in found] == [StartKind.WARM]
    assert b.runner.stats()["starting"] == 0


def test_who_gets_what_was_started_meanwhile_started_cold(busy):
    b, _, _, second, found = busy
    second.start()
    second.join(20)
    assert [each.start for each in found] == [StartKind.COLD]
    assert found[0].queue_ns > 0
    assert len(b.launcher.started) == 2


def test_after_a_failed_start_none_is_begun_for_a_while(group, growth):
    group.count = 1
    growth.note_failure(7 * MS)
    assert growth.due_ns(waiting(group)) == 1007 * MS
