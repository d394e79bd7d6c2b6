"""How often a token may call, over processes that share a map, with a clock of the test's own."""

from __future__ import annotations

import os
import threading
import time

import pytest

from lowcode_faas_core.errors import RateLimited
from lowcode_faas_core.rates import CELLS_OF_RATES, ENTRIES, Rates
from lowcode_faas_core.shared_map import SharedMap, SharedRow


class Clock:
    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def let_through(rates: Rates, token: str, tries: int) -> int:
    through = 0
    for _ in range(tries):
        try:
            rates.spend(token)
        except RateLimited:
            continue
        through += 1
    return through


def test_each_token_has_its_own_rate(clock: Clock) -> None:
    rates = Rates(5, clock)
    assert let_through(rates, "one", 20) == 5
    assert let_through(rates, "two", 3) == 3


def test_without_a_rate_everything_passes() -> None:
    assert let_through(Rates(0), "one", 1000) == 1000


def test_the_window_slides(clock: Clock) -> None:
    rates = Rates(10, clock)
    clock.now = 1000.9
    assert let_through(rates, "one", 20) == 10
    # Half of the last second's ten still count in the middle of this one: none of it is doubled
    # by a second that happens to begin.
    clock.now = 1001.0
    assert let_through(rates, "one", 20) == 0
    clock.now = 1001.5
    assert let_through(rates, "one", 20) == 5
    clock.now = 1003.0
    assert let_through(rates, "one", 20) == 10


def test_what_was_refused_does_not_count(clock: Clock) -> None:
    rates = Rates(4, clock)
    let_through(rates, "one", 1000)
    clock.now += 1.5
    assert let_through(rates, "one", 10) == 2


def test_many_tokens_have_a_rate_each(clock: Clock) -> None:
    rates = Rates(2, clock)
    tokens = [f"token-{n}" for n in range(ENTRIES // 8)]
    assert [let_through(rates, token, 4) for token in tokens] == [2] * len(tokens)


def test_a_full_neighbourhood_forgets_the_longest_unused(clock: Clock) -> None:
    rates = Rates(1, clock)
    for n in range(3 * ENTRIES):
        rates.spend(f"token-{n}")
    # As many again, later: the table has room for those that call now
    clock.now += 5
    assert let_through(rates, "token-0", 3) == 1


def test_processes_count_together(clock: Clock) -> None:
    rows = SharedMap(4, CELLS_OF_RATES)
    processes = []
    for _ in range(3):
        number = rows.assign()
        assert number is not None
        processes.append(Rates(7, clock))
        processes[-1].share(rows.enter(number))
    assert sum(let_through(rates, "one", 5) for rates in processes) == 7


def test_a_rate_is_never_exceeded_by_processes_in_a_race() -> None:
    # Given four real processes that spend as fast as they can, for a second and a half
    rows = SharedMap(4, CELLS_OF_RATES)
    pipes = []
    begin = time.monotonic() + 0.2
    for _ in range(4):
        number = rows.assign()
        assert number is not None
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                read = [0.0]

                def clock(read: list[float] = read) -> float:
                    # The second that counts is that of the rate's own look at the clock.
                    read[0] = time.monotonic()
                    return read[0]

                rates = Rates(50, clock)
                rates.share(rows.enter(number))
                while time.monotonic() < begin:
                    pass
                times = []
                while time.monotonic() < begin + 1.5:
                    try:
                        rates.spend("one")
                    except RateLimited:
                        continue
                    times.append(read[0])
                os.write(writer, "".join(f"{now}\n" for now in times).encode())
            finally:
                os._exit(0)
        os.close(writer)
        pipes.append((pid, reader))
    times: list[float] = []
    for pid, reader in pipes:
        with os.fdopen(reader) as stream:
            times += map(float, stream.read().split())
        os.waitpid(pid, 0)
    # Then no second of the clock has more than the rate, and they were not all turned away
    seconds = [int(now) for now in times]
    assert max(seconds.count(second) for second in set(seconds)) <= 50
    assert len(times) >= 25


def test_threads_count_together(clock: Clock) -> None:
    rates = Rates(100, clock)
    through: list[int] = []
    threads = [
        threading.Thread(target=lambda: through.append(let_through(rates, "one", 50)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # Two that meet at the last places may both be turned away
    assert 80 <= sum(through) <= 100


def test_rows_of_another_layout_are_not_joined() -> None:
    with pytest.raises(ValueError, match="cells"):
        Rates(1).share(SharedRow.alone(CELLS_OF_RATES - 1))
