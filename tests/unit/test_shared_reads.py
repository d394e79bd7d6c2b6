"""One read for many lanes is never older than a read of each one's own."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from lowcode_faas_db_s3.shared_reads import PATIENCE_S, SharedReads

from lowcode_faas_core.errors import StorageUnavailable
from lowcode_faas_core.lanes import Lanes, pause


class World:
    """Something that is written and read, and the lanes that read it."""

    def __init__(self, lanes: Lanes) -> None:
        self.lanes = lanes
        self.reads: SharedReads[int] = SharedReads()
        self.written = 0
        self.made = 0
        #: How long a read takes, in seconds; what is found is what was written when it began.
        self.takes_s = 0.02
        self.failure: Exception | None = None
        self.told: list[object] = []

    def read(self) -> int:
        self.made += 1
        found = self.written
        pause(self.takes_s)
        if self.failure is not None:
            raise self.failure
        return found

    def come(self, count: int, key: str = "f") -> None:
        def ask() -> None:
            try:
                self.told.append(self.reads.read(key, self.read))
            except StorageUnavailable as error:
                self.told.append(error)

        for _ in range(count):
            self.lanes.start(ask)

    def until(self, done: Callable[[], bool]) -> None:
        last = time.monotonic() + 10
        while not done():
            assert time.monotonic() < last, self.told
            self.lanes.run(0.001)

    def until_told(self, count: int) -> list[object]:
        self.until(lambda: len(self.told) >= count)
        return self.told


@pytest.fixture
def world() -> Iterator[World]:
    with ThreadPoolExecutor(1) as pool:
        lanes = Lanes(pool.submit)
        yield World(lanes)
        lanes.close()


def test_those_who_come_together_share_one_read(world: World) -> None:
    world.come(8)
    world.written = 1
    assert world.until_told(8) == [1] * 8
    assert world.made == 1


def test_who_comes_after_it_has_begun_reads_anew(world: World) -> None:
    world.come(1)
    world.until(lambda: world.made == 1)
    world.written = 1
    world.come(8)
    assert world.until_told(9) == [0] + [1] * 8
    assert world.made == 2


def test_the_next_one_begins_when_the_one_before_has_ended(world: World) -> None:
    world.takes_s = PATIENCE_S / 5
    world.come(1)
    world.until(lambda: world.made == 1)
    world.come(2)
    world.lanes.run(0)
    world.written = 1
    world.come(2)
    assert world.until_told(5) == [0] + [1] * 4
    assert world.made == 2


def test_a_read_that_takes_long_holds_up_nobody_for_long(world: World) -> None:
    world.takes_s = 1.0
    world.come(1)
    world.until(lambda: world.made == 1)
    world.takes_s, world.written = 0.0, 1
    begun = time.monotonic()
    world.come(4)
    assert world.until_told(4) == [1] * 4
    assert time.monotonic() - begun < 0.5
    assert world.until_told(5)[4] == 0


def test_all_it_was_for_are_told_of_a_failure_and_nobody_else(world: World) -> None:
    world.failure = StorageUnavailable("it is down")
    world.come(4)
    assert world.until_told(4) == [world.failure] * 4
    assert world.made == 1
    world.failure = None
    world.come(1)
    assert world.until_told(5)[4] == 0


def test_each_key_is_read_for_itself(world: World) -> None:
    world.come(3, "f")
    world.come(3, "g")
    world.until_told(6)
    assert world.made == 2
    assert not world.reads._coming
    assert not world.reads._under_way


def test_off_a_lane_everybody_reads(world: World) -> None:
    world.takes_s = 0.0
    assert [world.reads.read("f", world.read) for _ in range(2)] == [0, 0]
    assert world.made == 2
