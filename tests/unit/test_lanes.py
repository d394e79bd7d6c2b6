"""Lanes take turns on one thread, wait as long as they were told to, and block nobody."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from lowcode_faas_core.lanes import Lanes, Wait, elsewhere, lane, pause


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as made:
        yield made


@pytest.fixture
def lanes(pool: ThreadPoolExecutor) -> Iterator[Lanes]:
    made = Lanes(pool.submit)
    yield made
    made.close()


def run_until(lanes: Lanes, done: list[object], count: int) -> None:
    last = time.monotonic() + 10
    while len(done) < count:
        assert time.monotonic() < last, done
        lanes.run(1.0)


def test_one_that_waits_holds_up_nobody(lanes: Lanes) -> None:
    reader, writer = os.pipe()
    told: list[object] = []

    def first() -> None:
        came = lanes.wait(lanes.arrivals(reader), 10)
        told.append(("first", came, os.read(reader, 10)))

    lanes.start(first)
    lanes.start(lambda: told.append("second"))
    assert told == ["second"]
    os.write(writer, b"x")
    run_until(lanes, told, 2)
    assert told[1] == ("first", True, b"x")
    os.close(reader)
    os.close(writer)


def test_what_came_before_the_wait_counts(lanes: Lanes) -> None:
    reader, writer = os.pipe()
    told: list[object] = []

    def work() -> None:
        by = lanes.arrivals(reader)
        for _ in range(2):
            told.append(lanes.wait(by, 10))
            os.read(reader, 1)

    os.write(writer, b"x")
    lanes.start(work)
    run_until(lanes, told, 1)
    os.write(writer, b"y")
    run_until(lanes, told, 2)
    assert told == [True, True]
    os.close(reader)
    os.close(writer)


def test_a_wait_ends_when_its_time_is_over_and_can_be_begun_again(lanes: Lanes) -> None:
    told: list[object] = []

    def work() -> None:
        by = Wait(lanes)
        told.append(lanes.wait(by, 0.02))
        lanes.soon(by.end)
        told.append(lanes.wait(by, 10))

    lanes.start(work)
    run_until(lanes, told, 2)
    assert told == [False, True]


def test_the_end_of_the_other_side_ends_a_wait(lanes: Lanes) -> None:
    reader, writer = os.pipe()
    told: list[object] = []
    lanes.start(lambda: told.append(lanes.wait(lanes.arrivals(reader), 10)))
    os.close(writer)
    run_until(lanes, told, 1)
    assert told == [True]
    os.close(reader)


def test_a_number_that_was_closed_and_is_used_again_is_attended_to(lanes: Lanes) -> None:
    told: list[object] = []
    numbers = set()
    for _ in range(3):
        reader, writer = os.pipe()
        numbers.add(reader)
        lanes.start(lambda at=reader: told.append(lanes.wait(lanes.arrivals(at), 10)))  # type: ignore[misc]
        os.write(writer, b"x")
        run_until(lanes, told, len(numbers) and len(told) + 1)
        os.close(reader)
        os.close(writer)
    assert told == [True] * 3
    assert len(numbers) == 1


def test_what_may_block_is_done_by_a_thread_while_others_go_on(lanes: Lanes) -> None:
    told: list[object] = []
    begin = threading.Event()

    def slow() -> int:
        assert lane() is None
        assert begin.wait(10)
        return threading.get_ident()

    def work() -> None:
        assert lane() is not None
        told.append(elsewhere(slow) != threading.get_ident())

    lanes.start(work)
    lanes.start(lambda: told.append("other"))
    lanes.start(begin.set)
    run_until(lanes, told, 2)
    assert told == ["other", True]


def test_an_error_elsewhere_is_raised_on_the_lane(lanes: Lanes) -> None:
    told: list[object] = []

    def work() -> None:
        try:
            elsewhere(lambda: int("x"))
        except ValueError as error:
            told.append(str(error))

    lanes.start(work)
    run_until(lanes, told, 1)
    assert "'x'" in str(told[0])


def test_without_threads_the_lane_does_it_itself(lanes: Lanes, pool: ThreadPoolExecutor) -> None:
    pool.shutdown()
    told: list[object] = []
    lanes.start(lambda: told.append(elsewhere(threading.get_ident)))
    run_until(lanes, told, 1)
    assert told == [threading.get_ident()]


def test_work_that_a_pool_takes_and_refuses_is_done_once(pool: ThreadPoolExecutor) -> None:
    # Given a pool that has queued it by the time it finds that no thread can be started
    def submit(work: Callable[[], object]) -> None:
        pool.submit(work)
        raise RuntimeError("can't start new thread")

    lanes = Lanes(submit)  # type: ignore[arg-type]
    done: list[object] = []
    told: list[object] = []
    for number in range(20):
        lanes.start(lambda n=number: told.append(elsewhere(lambda: done.append(n) or n)))  # type: ignore[misc,func-returns-value]
    run_until(lanes, told, 20)
    pool.shutdown()
    lanes.close()
    assert sorted(done) == sorted(told) == list(range(20))  # type: ignore[type-var]


def test_without_a_lane_everything_is_done_here() -> None:
    assert lane() is None
    assert elsewhere(threading.get_ident) == threading.get_ident()
    begun = time.monotonic()
    pause(0.01)
    assert time.monotonic() - begun >= 0.01


def test_one_that_is_started_by_another_waits_for_its_turn(lanes: Lanes) -> None:
    told: list[object] = []

    def first() -> None:
        lanes.start(lambda: told.append("second"))
        pause(0.01)
        told.append("first")

    lanes.start(first)
    run_until(lanes, told, 2)
    assert told == ["second", "first"]


def test_another_thread_ends_a_wait_at_once(lanes: Lanes) -> None:
    told: list[object] = []
    by = Wait(lanes)
    lanes.start(lambda: told.append(lanes.wait(by, 60)))
    threading.Timer(0.05, lambda: lanes.soon(by.end)).start()
    run_until(lanes, told, 1)
    assert told == [True]


def test_lanes_are_used_again(lanes: Lanes) -> None:
    seen: list[object] = []
    for _ in range(5):
        lanes.start(lambda: seen.append(lane()))
    assert len(set(seen)) == 1
