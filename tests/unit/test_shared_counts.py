"""Numbers in shared memory, told and read by real processes, some of them killed in the middle."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from lowcode_faas_core import shared_counts
from lowcode_faas_core.shared_counts import OFFERED, Counts, SharedCounts

Child = Callable[[Callable[[], None]], int]


@pytest.fixture
def child() -> Iterator[Child]:
    """Fork a process that does something and ends, or is killed at the end of the test."""
    pids: list[int] = []

    def run(do: Callable[[], None]) -> int:
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                do()
                code = 0
            finally:
                os._exit(code)
        pids.append(pid)
        return pid

    yield run
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def ended(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def values(counts: Counts) -> dict[tuple[str, ...], list[float]]:
    return {(each.name, *each.labels): each.values for each in counts.read()}


def placed(counts: Counts, name: str, *labels: str, **more: bool) -> int:
    place = counts.place(name, labels, **more)  # type: ignore[arg-type]
    assert place is not None
    return place


def test_sums_of_all_processes_are_the_same_wherever_they_are_read(child: Child) -> None:
    shared = SharedCounts(5)
    own = shared.enter()

    def work(number: int) -> None:
        counts = shared.enter()
        for _ in range(1000):
            counts.add(((placed(counts, "runs", f"f{number % 2}"), 1.0),))
        counts.add(((placed(counts, f"only {number}"), number),))

    pids = [child(lambda number=number: work(number)) for number in range(1, 5)]  # type: ignore[misc]
    assert [ended(pid) for pid in pids] == [0] * 4
    own.add(((placed(own, "runs", "f0"), 1.0),))
    expected = {("runs", "f0"): [2001], ("runs", "f1"): [2000]}
    expected |= {(f"only {number}",): [number] for number in range(1, 5)}
    assert values(own) == expected


def test_a_killed_process_takes_no_sum_with_it_and_leaves_no_gauge(child: Child) -> None:
    shared = SharedCounts(3)
    own = shared.enter()
    reader, writer = os.pipe()

    def work() -> None:
        counts = shared.enter()
        counts.add(((placed(counts, "runs"), 5.0),))
        counts.set(placed(counts, "in flight", gauge=True), 2)
        os.write(writer, b"x")
        time.sleep(60)

    pid = child(work)
    os.read(reader, 1)
    assert values(own) == {("runs",): [5], ("in flight",): [2]}
    os.kill(pid, signal.SIGKILL)
    ended(pid)
    assert values(own) == {("runs",): [5], ("in flight",): [0]}
    # Who comes next goes on from there, in the same row, with no gauge of the dead one.
    assert shared.free_row() == 1
    assert ended(child(lambda: shared.enter().add(((0, 1.0),)))) == 0
    assert values(own) == {("runs",): [6], ("in flight",): [0]}
    again = child(lambda: (shared.enter(), os.write(writer, b"x"), time.sleep(60)))  # type: ignore[arg-type]
    os.read(reader, 1)
    assert values(own) == {("runs",): [6], ("in flight",): [0]}
    os.kill(again, signal.SIGKILL)
    ended(again)


def test_a_process_killed_while_it_writes_the_directory_stops_nobody(child: Child) -> None:
    shared = SharedCounts(3)
    own = shared.enter()
    reader, writer = os.pipe()

    def work() -> None:
        shared.enter()
        with shared.locked():
            at = shared._directory_at
            shared._memory[at : at + 20] = b"half an entry, torn "
            os.write(writer, b"x")
            time.sleep(60)

    pid = child(work)
    os.read(reader, 1)
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(own.place, "runs")
        time.sleep(0.1)
        assert not waiting.done()
        os.kill(pid, signal.SIGKILL)
        assert waiting.result(5) == 0
    own.add(((0, 1.0),))
    assert values(own) == {("runs",): [1]}


def test_processes_that_name_the_same_at_once_mean_the_same(child: Child) -> None:
    shared = SharedCounts(9)

    def work(seed: int) -> None:
        counts = shared.enter()
        for number in range(200):
            counts.add(((placed(counts, "n", str(number * seed % 200)), 1.0),))

    pids = [child(lambda seed=seed: work(seed)) for seed in (1, 3, 7, 9, 11, 13, 17, 19)]  # type: ignore[misc]
    assert [ended(pid) for pid in pids] == [0] * 8
    assert values(shared.enter()) == {("n", str(number)): [8] for number in range(200)}


def test_threads_of_a_process_lose_nothing() -> None:
    counts = SharedCounts().enter()
    cell = placed(counts, "runs")

    def work(_: int) -> None:
        for _ in range(5000):
            counts.add(((cell, 1.0),))

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(8)))
    assert values(counts) == {("runs",): [40_000]}


def test_a_name_may_have_a_cap_over_all_processes(child: Child) -> None:
    shared = SharedCounts(3)
    own = shared.enter()
    assert own.place("f", ("a",), at_most=2) == 0

    def work() -> None:
        counts = shared.enter()
        assert counts.place("f", ("b",), at_most=2) == 1
        assert counts.place("f", ("c",), at_most=2) is None
        assert counts.place("f", ("a",), at_most=2) == 0

    assert ended(child(work)) == 0
    assert own.place("f", ("c",), at_most=2) is None
    assert own.place("f", ("b",), at_most=2) == 1


def test_what_does_not_fit_is_refused_and_the_rest_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_counts, "DIRECTORY_BYTES", 100)
    counts = SharedCounts().enter()
    assert counts.place("short") == 0
    assert counts.place("x" * 200) is None
    assert counts.place("cells", cells=shared_counts.CELLS) is None
    assert counts.place("short") == 0
    counts.add(((0, 2.0),))
    assert values(counts) == {("short",): [2]}


def test_memory_is_taken_only_for_rows_in_use() -> None:
    shared = SharedCounts(64)
    counts = shared.enter()
    counts.add(((placed(counts, "runs"), 1.0),))
    counts.read()
    kept = os.fstat(shared._descriptor).st_blocks * 512
    assert kept <= 32 << 10


class TestOfService:
    def test_without_an_offer_a_process_counts_alone(self) -> None:
        first, second = Counts.of_service(), Counts.of_service()
        first.add(((placed(first, "runs"), 1.0),))
        assert values(second) == {}

    def test_with_one_it_counts_with_the_others(self) -> None:
        shared = SharedCounts(2)
        token = OFFERED.set(shared)
        try:
            counts = Counts.of_service()
        finally:
            OFFERED.reset(token)
        counts.add(((placed(counts, "runs"), 1.0),))
        assert values(shared.enter()) == {("runs",): [1]}

    def test_with_more_processes_than_rows_it_says_so(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        shared = SharedCounts(1)
        shared.enter()
        token = OFFERED.set(shared)
        try:
            counts = Counts.of_service()
        finally:
            OFFERED.reset(token)
        assert counts.place("runs") == 0
        assert "counts for itself alone" in caplog.text


def test_no_thread_is_started() -> None:
    before = threading.active_count()
    SharedCounts(2).enter().read()
    assert threading.active_count() == before
