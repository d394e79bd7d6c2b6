"""What the processes of one service count together, with processes that are forked and killed."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable, Iterator

import pytest

from lowcode_faas_core.admission import Admission
from lowcode_faas_core.configuration import AdmissionSettings
from lowcode_faas_core.errors import CapacityError
from lowcode_faas_core.in_flight import InFlight, cells_of_seats
from lowcode_faas_core.model import FunctionRef
from lowcode_faas_core.shared_map import SharedMap
from lowcode_faas_core.turns import may_have, seats_of

SEATS = 8
GREET = FunctionRef("", "greet")
TEAM = FunctionRef("org/team", "greet")
TEAM_X = FunctionRef("org/teamX", "greet")

Fork = Callable[[Callable[[], object]], int]


def never() -> bool:
    return False


@pytest.fixture
def fork() -> Iterator[Fork]:
    """Run something in a forked process that then sleeps; return its pid once it is done."""
    children: list[int] = []

    def run(action: Callable[[], object]) -> int:
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                action()
                os.write(writer, b"done")
                signal.pause()
            finally:
                os._exit(1)
        os.close(writer)
        try:
            assert select.select([reader], [], [], 10)[0]
            assert os.read(reader, 4) == b"done"
        finally:
            os.close(reader)
        children.append(pid)
        return pid

    yield run
    for pid in children:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def shared(rows: SharedMap, *capped: str) -> InFlight:
    row = rows.assign()
    assert row is not None
    seats = InFlight(SEATS, capped)
    seats.share(rows.enter(row))
    return seats


def a_map() -> SharedMap:
    return SharedMap(4, cells_of_seats(SEATS))


class TestCounting:
    def test_one_process_counts_its_own(self) -> None:
        seats = InFlight(SEATS, ["org", "org/team"])
        taken = [seats.take(ref) for ref in (GREET, GREET, TEAM, TEAM_X)]
        assert seats.total() == seats.here == 4
        assert (seats.of_function(GREET), seats.of_function(TEAM)) == (2, 1)
        assert (seats.below("org"), seats.below("org/team")) == (2, 1)
        for seat in taken:
            seats.leave(seat)
        assert (seats.total(), seats.of_function(GREET), seats.below("org")) == (0, 0, 0)

    def test_there_are_so_many_seats(self) -> None:
        seats = InFlight(SEATS)
        for _ in range(SEATS):
            seats.take(GREET)
        with pytest.raises(IndexError):
            seats.take(GREET)

    def test_processes_see_each_other(self, fork: Fork) -> None:
        rows = a_map()
        own = shared(rows, "org")
        number = rows.assign()
        assert number is not None

        def other() -> None:
            seats = InFlight(SEATS, ["org"])
            seats.share(rows.enter(number))
            for ref in (TEAM, TEAM, GREET):
                seats.take(ref)

        fork(other)
        own.take(TEAM)
        assert own.total() == own.total(exact=True) == 4
        assert (own.of_function(TEAM), own.below("org"), own.here) == (3, 3, 1)

    def test_what_a_killed_process_held_no_longer_counts_whoever_looks(self, fork: Fork) -> None:
        # Given a process with two in flight, that is killed and that nobody has waited for yet
        rows = a_map()
        own = shared(rows, "org")
        number = rows.assign()
        assert number is not None

        def other() -> None:
            seats = InFlight(SEATS, ["org"])
            seats.share(rows.enter(number))
            seats.take(TEAM)
            seats.take(TEAM)

        pid = fork(other)
        own.take(TEAM)
        assert own.of_function(TEAM, exact=True) == 3
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        # Then an exact look leaves it out
        assert (own.total(exact=True), own.of_function(TEAM, exact=True)) == (1, 1)
        assert own.below("org", exact=True) == 1
        # And once the master has taken the row back, any look does
        rows.release(number)
        assert own.total() == 1
        assert rows.assign() == number

    def test_rows_of_another_layout_are_not_joined(self) -> None:
        rows = SharedMap(1, cells_of_seats(SEATS + 1))
        with pytest.raises(ValueError, match="cells"):
            InFlight(SEATS).share(rows.enter(0))

    def test_rows_run_out(self) -> None:
        rows = SharedMap(2, 1)
        assert {rows.assign(), rows.assign()} == {0, 1}
        assert rows.assign() is None


class TestCaps:
    @pytest.mark.parametrize(
        ("caps", "refs", "refused"),
        [
            (AdmissionSettings(max_inflight=2), [GREET, TEAM], "the service has 2"),
            (AdmissionSettings(max_inflight_per_function=2), [TEAM, TEAM], "org/team/greet has 2"),
            (
                AdmissionSettings(max_inflight_per_collection=(("org", 2), ("org/team", 9))),
                [TEAM, TEAM_X],
                "org has 2",
            ),
        ],
    )
    def test_a_cap_holds_over_all_processes(
        self, fork: Fork, caps: AdmissionSettings, refs: list[FunctionRef], refused: str
    ) -> None:
        # Given another process that has as many in flight as the cap allows
        rows = SharedMap(4, cells_of_seats(seats_of(10)))
        own, other = rows.assign(), rows.assign()
        assert own is not None
        assert other is not None

        def fill() -> None:
            there = Admission(10, caps)
            there.share(rows.enter(other))
            for ref in refs:
                there.enter(ref, never)

        pid = fork(fill)
        here = Admission(10, caps)
        here.share(rows.enter(own))
        # Then the next is refused here, and takes no place
        with pytest.raises(CapacityError, match=refused):
            here.enter(TEAM, never)
        assert (here.occupied, here.in_flight.here) == (0, 0)
        # And is taken in when that process is killed
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        here.leave(here.enter(TEAM, never))

    def test_a_collections_cap_is_not_its_neighbours(self) -> None:
        admission = Admission(10, AdmissionSettings(max_inflight_per_collection=(("org/team", 1),)))
        seat = admission.enter(TEAM, never)
        with pytest.raises(CapacityError, match="org/team has 1"):
            admission.enter(FunctionRef("org/team/deep", "other"), never)
        admission.enter(TEAM_X, never)
        admission.enter(GREET, never)
        admission.leave(seat)
        admission.enter(TEAM, never)


class TestTurns:
    def test_one_function_leaves_room_for_another(self) -> None:
        admission = Admission(16)
        for _ in range(12):
            admission.enter(GREET, never)
        with pytest.raises(CapacityError):
            admission.enter(GREET, never)
        admission.enter(TEAM, never)

    def test_two_functions_have_about_the_same_and_leave_room(self) -> None:
        admission = Admission(16)
        taken = {GREET: 0, TEAM: 0}
        for ref in [GREET, TEAM] * 16:
            try:
                admission.enter(ref, never)
            except CapacityError:
                continue
            taken[ref] += 1
        assert sorted(taken.values()) == [6, 7]
        admission.enter(TEAM_X, never)

    @pytest.mark.parametrize("places", [1, 2, 3, 4])
    def test_few_places_may_all_be_one_functions(self, places: int) -> None:
        assert may_have(places, 1)

    def test_somebody_who_waits_gives_way(self) -> None:
        admission = Admission(3)
        first = admission.enter(GREET, never)
        second = admission.enter(TEAM, lambda: True)
        assert admission.occupied == 1
        admission.leave(first)
        assert admission.occupied == 1
        admission.leave(second)
        assert admission.occupied == 0
