"""What the recorder writes and when, whatever the store does meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from lowcode_faas_core import record_queue, recording
from lowcode_faas_core.configuration import ExecutionSettings
from lowcode_faas_core.errors import (
    CapacityError,
    ExecutionIdTaken,
    NotFound,
    StorageUnavailable,
    UnconfirmedEnd,
)
from lowcode_faas_core.interfaces.executions import EVERY
from lowcode_faas_core.model import Invocation, LogEvent, RunResult, Status
from lowcode_faas_core.recording import Recorder
from lowcode_faas_core.records import Record, RecordFilter, RecordStatus
from lowcode_faas_core.testing.memory_executions import MemoryExecutionStore
from lowcode_faas_core.testing.samples import sample_event, sample_invocation, sample_result

ALL = RecordFilter()
#: Longest wait for what takes a tenth of a second, on a machine that has other things to do.
PATIENCE_S = 10.0


class Counting(MemoryExecutionStore):
    """Counts what it is asked, and holds up its writers while it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.open = threading.Event()
        self.open.set()
        #: What happens while a batch is written.
        self.meanwhile: Callable[[], object] = lambda: None

    def record(self, records: Any, lines: Any) -> None:
        self.asked.append("record")
        self.open.wait()
        self.meanwhile()
        super().record(records, lines)

    def interests(self) -> frozenset[str]:
        self.asked.append("interests")
        return super().interests()


@pytest.fixture
def store() -> Counting:
    return Counting()


Make = Callable[..., Recorder]


@pytest.fixture
def make(store: Counting) -> Iterator[Make]:
    made: list[Recorder] = []

    def build(**settings: Any) -> Recorder:
        made.append(Recorder(store, ExecutionSettings(**settings)))
        return made[-1]

    yield build
    store.open.set()
    for recorder in made:
        recorder.close()
    assert "executions" not in {thread.name for thread in threading.enumerate()}


def result_of(invocation: Invocation, **changes: Any) -> RunResult:
    return sample_result(execution_id=invocation.execution_id, run_id=invocation.run_id, **changes)


def event_of(invocation: Invocation, seq: int = 1) -> LogEvent:
    return sample_event(seq, execution_id=invocation.execution_id)


def until(holds: Callable[[], Any]) -> Any:
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            found = holds()
        except NotFound:
            found = None
        if found:
            return found
        assert time.monotonic() < end, "it never held"
        time.sleep(0.005)


def chosen(**changes: Any) -> Invocation:
    return msgspec.structs.replace(sample_invocation(), chosen=True, **changes)


def test_a_verdict_is_recorded_with_its_lines(make: Make, store: Counting) -> None:
    passed: list[LogEvent] = []
    invocation = msgspec.structs.replace(sample_invocation(), replay_of="an-earlier-one")
    run = make().open(invocation, time.time_ns(), passed.append)
    run.emit(event_of(invocation))
    result = result_of(invocation)
    run.finish(result)
    run.emit(event_of(invocation, 2))
    record = until(lambda: store.execution(invocation.execution_id))
    assert record.status is RecordStatus.SUCCEEDED
    assert (record.started_at, record.timings_ms) == (result.started_at, result.timings_ms)
    assert record.replay_of == "an-earlier-one"
    assert (record.input, record.output) == (None, None)
    lines = until(lambda: len(store.lines(invocation.execution_id, 0, 9)) == 2)
    assert lines
    assert [event.seq for event in passed] == [1, 2]


def test_nothing_is_asked_of_the_store_on_the_way_of_an_invocation(
    make: Make, store: Counting
) -> None:
    recorder = make()
    store.open.clear()
    begun = time.monotonic()
    for _ in range(500):
        invocation = sample_invocation()
        recorder.open(invocation, time.time_ns()).finish(result_of(invocation))
    assert time.monotonic() - begun < 5  # one wait for the store would be endless
    store.open.set()
    until(lambda: len(store.executions(ALL, 1000).items) == 500)
    assert store.asked.count("record") < 20
    assert recorder.counts() == {"recorded": 500, "dropped": 0}


def test_what_ends_while_a_batch_is_written_waits_for_the_next_one(
    make: Make, store: Counting
) -> None:
    """A store plans and commits each batch anew: one record each would cost it many times as much."""
    recorder = make()

    def end_one() -> None:
        invocation = sample_invocation()
        recorder.open(invocation, time.time_ns()).finish(result_of(invocation))

    store.meanwhile = end_one
    begun = time.monotonic()
    end_one()
    until(lambda: len(store.executions(ALL, 1000).items) >= 3)
    store.meanwhile = lambda: None
    batches = store.asked.count("record")
    assert batches <= (time.monotonic() - begun) / recording.FLUSH_S + 2


def test_inputs_and_outputs_are_kept_where_wanted_and_cut(make: Make, store: Counting) -> None:
    recorder = make(keep_io=True, io_bytes=256)
    large = msgspec.json.encode({"text": "ü" * 300})
    for given in (b'{"a":1}', large):
        invocation = msgspec.structs.replace(sample_invocation(), input=msgspec.Raw(given))
        result = result_of(invocation, output=msgspec.Raw(given))
        recorder.open(invocation, time.time_ns()).finish(result)
        record = until(lambda execution_id=invocation.execution_id: store.execution(execution_id))
        assert record.input == record.output
        assert record.input_cut is record.output_cut is (given is large)
        assert given.decode().startswith(record.input)
        assert 250 <= len(record.input.encode()) <= 256 or record.input == given.decode()


def test_what_runs_is_written_only_when_somebody_asks(make: Make, store: Counting) -> None:
    # Given two runs, one of which somebody asks for
    recorder = make()
    invocations = [sample_invocation(), sample_invocation()]
    runs = [recorder.open(each, time.time_ns()) for each in invocations]
    for run in runs:
        run.emit(event_of(run.invocation))
    time.sleep(0.3)
    assert "record" not in store.asked
    store.show_interest(invocations[0].execution_id, 30)
    # Then it is there, with what it has printed, and what it prints follows soon
    wanted = invocations[0].execution_id
    assert until(lambda: store.execution(wanted)).status is RecordStatus.RUNNING
    until(lambda: len(store.lines(wanted, 0, 9)) == 1)
    runs[0].emit(event_of(invocations[0], 2))
    until(lambda: len(store.lines(wanted, 0, 9)) == 2)
    # And the other is not, until all are asked for; its lines are still nobody's
    other = invocations[1].execution_id
    with pytest.raises(NotFound):
        store.execution(other)
    store.show_interest(EVERY, 30)
    assert until(lambda: store.execution(other)).status is RecordStatus.RUNNING
    assert store.lines(other, 0, 9) == []
    for run in runs:
        run.finish(result_of(run.invocation))
    for each in (wanted, other):
        until(lambda each=each: store.execution(each).status is RecordStatus.SUCCEEDED)
    until(lambda: len(store.lines(other, 0, 9)) == 1)


def test_short_runs_look_at_no_interest(make: Make, store: Counting) -> None:
    recorder = make()
    for _ in range(20):
        invocation = sample_invocation()
        recorder.open(invocation, time.time_ns()).finish(result_of(invocation))
        time.sleep(0.01)
    until(lambda: len(store.executions(ALL, 100).items) == 20)
    assert "interests" not in store.asked


def test_a_chosen_id_is_there_before_its_run_and_taken_for_good(
    make: Make, store: Counting
) -> None:
    recorder = make()
    invocation = chosen()
    run = recorder.open(invocation, time.time_ns())
    assert store.execution(invocation.execution_id).status is RecordStatus.RUNNING
    with pytest.raises(ExecutionIdTaken):
        recorder.open(invocation, time.time_ns())
    run.finish(result_of(invocation))
    until(lambda: store.execution(invocation.execution_id).status is RecordStatus.SUCCEEDED)
    with pytest.raises(ExecutionIdTaken):
        recorder.open(invocation, time.time_ns())


def test_what_never_started_leaves_nothing(make: Make, store: Counting) -> None:
    recorder = make()
    for invocation in (chosen(), sample_invocation()):
        run = recorder.open(invocation, time.time_ns())
        store.show_interest(invocation.execution_id, 30)
        until(lambda each=invocation: store.execution(each.execution_id))
        run.fail(CapacityError("no place"))
        with pytest.raises(NotFound):
            store.execution(invocation.execution_id)
    again = chosen(execution_id=invocation.execution_id)
    recorder.open(again, time.time_ns()).finish(result_of(again))


def test_what_may_have_run_without_a_verdict_is_lost(make: Make, store: Counting) -> None:
    invocation = sample_invocation()
    make().open(invocation, time.time_ns()).fail(UnconfirmedEnd("it may still run"))
    record = until(lambda: store.execution(invocation.execution_id))
    assert record.status is RecordStatus.LOST


def test_a_store_that_is_down_touches_no_invocation_and_catches_up(
    make: Make, store: Counting, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = make()
    store.fail_with = StorageUnavailable("the disk is gone")
    invocations = [chosen(), sample_invocation()]
    for invocation in invocations:
        recorder.open(invocation, time.time_ns()).finish(result_of(invocation))
    until(recorder.degraded)
    assert recorder.degraded() == ["executions: the disk is gone"]
    until(lambda: "the disk is gone" in caplog.text)
    store.fail_with = None
    for invocation in invocations:
        until(lambda each=invocation: store.execution(each.execution_id))
    until(lambda: not recorder.degraded())
    assert recorder.counts() == {"recorded": 2, "dropped": 0}


def test_a_store_that_is_down_is_not_asked_all_the_time(make: Make, store: Counting) -> None:
    """Nothing runs, and upkeep is due that cannot be done."""
    recorder = make()
    store.fail_with = StorageUnavailable("the disk is gone")
    until(recorder.degraded)
    ident = recorder._thread.ident
    assert ident is not None
    clock = time.pthread_getcpuclockid(ident)
    before = time.clock_gettime(clock)
    time.sleep(0.8)
    assert time.clock_gettime(clock) - before < 0.05
    store.fail_with = None
    until(lambda: not recorder.degraded())


def test_a_full_buffer_drops_the_oldest_and_counts(
    make: Make, store: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record_queue, "MOST_RECORDS", 10)
    recorder = make()
    store.open.clear()
    first = sample_invocation()
    recorder.open(first, time.time_ns()).finish(result_of(first))
    until(lambda: "record" in store.asked)  # it is in hand
    invocations = [sample_invocation() for _ in range(25)]
    for invocation in invocations:
        recorder.open(invocation, time.time_ns()).finish(result_of(invocation))
    store.open.set()
    until(lambda: len(store.executions(ALL, 100).items) == 11)
    assert recorder.counts() == {"recorded": 11, "dropped": 15}
    kept = {each.execution_id for each in store.executions(ALL, 100).items}
    assert kept == {each.execution_id for each in (first, *invocations[-10:])}


def test_many_bytes_are_too_much_as_well(
    make: Make, store: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record_queue, "MOST_BYTES", 20_000)
    recorder = make()
    store.open.clear()
    for _ in range(5):
        invocation = sample_invocation()
        run = recorder.open(invocation, time.time_ns())
        run.emit(msgspec.structs.replace(event_of(invocation), message="x" * 10_000))
        run.finish(result_of(invocation))
    assert recorder.dropped >= 3


def test_a_record_the_store_will_never_take_stops_no_other(make: Make, store: Counting) -> None:
    class Odd(Exception):
        pass

    recorder = make()
    take = store.record
    refused: list[Record] = []

    def refuse(records: list[Record], lines: Any) -> None:
        if any(record.status is RecordStatus.FAILED for record in records):
            refused.extend(records)
            raise Odd("not this one")
        take(records, lines)

    store.record = refuse  # type: ignore[method-assign]
    odd = sample_invocation()
    recorder.open(odd, time.time_ns()).finish(result_of(odd, status=Status.FAILED))
    until(lambda: refused)
    good = sample_invocation()
    recorder.open(good, time.time_ns()).finish(result_of(good))
    until(lambda: store.execution(good.execution_id))
    assert recorder.counts() == {"recorded": 1, "dropped": 1}


def test_close_writes_what_is_left_and_ends_the_thread(make: Make, store: Counting) -> None:
    recorder = make()
    invocation, cancelled = sample_invocation(), sample_invocation()
    recorder.open(invocation, time.time_ns()).finish(result_of(invocation))
    still = recorder.open(cancelled, time.time_ns())
    answering = threading.Timer(
        0.2, lambda: still.finish(result_of(cancelled, status=Status.CANCELLED))
    )
    answering.start()
    recorder.close()
    recorder.close()
    answering.join()
    assert store.execution(invocation.execution_id).status is RecordStatus.SUCCEEDED
    assert store.execution(cancelled.execution_id).status is RecordStatus.CANCELLED


def test_close_writes_what_ends_while_it_writes(make: Make, store: Counting) -> None:
    recorder = make()
    left = [sample_invocation() for _ in range(4)]

    def end_one() -> None:
        if left:
            invocation = left.pop()
            recorder.open(invocation, time.time_ns()).finish(result_of(invocation))

    store.meanwhile = end_one
    end_one()
    recorder.close()
    assert recorder.counts() == {"recorded": 4, "dropped": 0}


def test_a_store_that_hangs_does_not_hold_up_the_end(make: Make, store: Counting) -> None:
    recorder = make()
    store.open.clear()
    invocation = sample_invocation()
    recorder.open(invocation, time.time_ns()).finish(result_of(invocation))
    until(lambda: "record" in store.asked)
    begun = time.monotonic()
    recorder.close()
    assert time.monotonic() - begun < 2 * recording.CLOSE_S
    store.open.set()
    until(lambda: "executions" not in {thread.name for thread in threading.enumerate()})


class Choosy(Counting):
    """Refuses statements of more lines than a database would take in its time."""

    def record(self, records: Any, lines: Any) -> None:
        if len(lines) > 3000 or sum(len(line.message) for line in lines) > 2 << 20:
            raise StorageUnavailable("canceling statement due to statement timeout")
        super().record(records, lines)

    def withdraw(self, execution_id: str) -> None:
        self.asked.append("withdraw")
        super().withdraw(execution_id)


@pytest.fixture
def choosy() -> Iterator[tuple[Choosy, Recorder]]:
    store = Choosy()
    recorder = Recorder(store, ExecutionSettings())
    yield store, recorder
    recorder.close()


@pytest.mark.parametrize(("count", "text"), [(10_000, "x"), (40, "x" * 100_000)])
def test_what_a_followed_run_has_printed_is_handed_over_in_parts(
    choosy: tuple[Choosy, Recorder], count: int, text: str
) -> None:
    store, recorder = choosy
    followed, other = sample_invocation(), sample_invocation()
    store.show_interest(followed.execution_id, 60)
    run = recorder.open(followed, time.time_ns())
    for seq in range(1, count + 1):
        run.emit(msgspec.structs.replace(event_of(followed, seq), message=text))
    # Verdicts of others are written meanwhile
    recorder.open(other, time.time_ns()).finish(result_of(other))
    until(lambda: store.execution(other.execution_id).status is RecordStatus.SUCCEEDED)
    until(lambda: len(store.lines(followed.execution_id, 0, count + 1)) == count)
    assert recorder.trouble is None
    run.finish(result_of(followed))
    until(lambda: store.execution(followed.execution_id).status is RecordStatus.SUCCEEDED)
    assert len(store.lines(followed.execution_id, 0, count + 1)) == count


def test_a_look_that_fails_keeps_no_verdict_from_being_written(
    make: Make, store: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails() -> frozenset[str]:
        raise StorageUnavailable("it is not to be had")

    monkeypatch.setattr(store, "interests", fails)
    tended: list[float] = []
    monkeypatch.setattr(store, "tend", lambda *_: bool(tended.append(0.0)))
    recorder = make()
    running, other = sample_invocation(), sample_invocation()
    run = recorder.open(running, time.time_ns())
    recorder.open(other, time.time_ns()).finish(result_of(other))
    until(lambda: store.execution(other.execution_id).status is RecordStatus.SUCCEEDED)
    until(lambda: tended)
    run.finish(result_of(running))


def test_a_record_nobody_knows_of_goes_when_nothing_ran(
    make: Make, store: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store commits, and its answer is lost; then it does not hear that nothing ran."""
    begin, withdraw = store.begin, store.withdraw
    fail = True

    def lost(do: Callable[[Any], None]) -> Callable[[Any], None]:
        def done(given: Any) -> None:
            if do == begin:
                do(given)
            if fail:
                raise StorageUnavailable("the connection was lost")
            if do == withdraw:
                do(given)

        return done

    monkeypatch.setattr(store, "begin", lost(begin))
    monkeypatch.setattr(store, "withdraw", lost(withdraw))
    recorder = make()
    invocation = chosen()
    run = recorder.open(invocation, time.time_ns())
    assert store.execution(invocation.execution_id).status is RecordStatus.RUNNING
    run.fail(CapacityError("no place"))
    time.sleep(0.3)
    assert store.execution(invocation.execution_id).status is RecordStatus.RUNNING
    fail = False

    def gone() -> bool:
        try:
            store.execution(invocation.execution_id)
        except NotFound:
            return True
        return False

    until(gone)
