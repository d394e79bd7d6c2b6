"""The part of the execution stores' contract about owners, interest, upkeep and statistics."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

import pytest

from lowcode_faas_core.errors import ExecutionIdTaken, NotFound
from lowcode_faas_core.interfaces.executions import EVERY, ExecutionStore
from lowcode_faas_core.model import (
    ErrorCode,
    ExecutionError,
    FunctionRef,
    Phase,
    StartKind,
    Timings,
    Usage,
)
from lowcode_faas_core.records import Percentiles, Record, RecordFilter, RecordStatus
from lowcode_faas_core.testing.samples import sample_line, sample_record, sample_running

__all__ = ["ExecutionUpkeepContract", "Reopen"]

#: Makes one more object on the same records; picklable where another process can use them.
Reopen = Callable[[], ExecutionStore]

WEEK_S: Final = 7 * 86_400.0
MUCH: Final = 1 << 30
#: Longest wait for something that happens within seconds, on a machine that has other things to do.
PATIENCE_S: Final = 60.0


def ago(**parts: float) -> str:
    """Return a moment in the past as records have it."""
    return f"{datetime.now(UTC) - timedelta(**parts):%Y-%m-%dT%H:%M:%S.%f}Z"


def tended(store: ExecutionStore, max_age_s: float = WEEK_S, max_bytes: int = MUCH) -> None:
    """Do the upkeep until nothing is due at once."""
    end = time.monotonic() + PATIENCE_S
    while store.tend(max_age_s, max_bytes):
        assert time.monotonic() < end, "the upkeep does not come to an end"


def begin_and_die(reopen: Reopen, record: Record) -> None:
    """Begin a run in a process of its own, and be killed."""
    reopen().begin(record)
    os.kill(os.getpid(), signal.SIGKILL)


class ExecutionUpkeepContract:
    """See ``ExecutionStoreContract``, which has the fixtures."""

    @pytest.fixture
    def reopen(self) -> Reopen | None:
        """**Optional.** Return what makes one more object on what ``store`` keeps."""
        return None

    @pytest.fixture
    def second(self, store: ExecutionStore, reopen: Reopen | None) -> ExecutionStore:
        """Return another object on what ``store`` keeps, or skip."""
        if reopen is None:
            pytest.skip("the fixture `reopen` is not given")
        return reopen()

    def test_an_id_is_taken_once(self, store: ExecutionStore) -> None:
        """Of many who begin the same id one may; the others raise ExecutionIdTaken."""
        outcomes: list[str] = []

        def attempt() -> None:
            try:
                store.begin(sample_running(execution_id="the-same-id"))
            except ExecutionIdTaken:
                outcomes.append("taken")
            else:
                outcomes.append("begun")

        threads = [threading.Thread(target=attempt) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(outcomes) == ["begun", *["taken"] * 7]
        assert store.execution("the-same-id").status is RecordStatus.RUNNING

    def test_an_id_with_a_verdict_is_taken(self, store: ExecutionStore) -> None:
        """An id is used once, not once at a time."""
        record = sample_record()
        store.record([record], [])
        with pytest.raises(ExecutionIdTaken):
            store.begin(sample_running(execution_id=record.execution_id))

    def test_what_never_started_gives_its_id_back(self, store: ExecutionStore) -> None:
        """After ``withdraw`` the id is free; a verdict is not withdrawn."""
        begun, done = sample_running(), sample_record()
        store.begin(begun)
        store.record([done], [])
        for execution_id in (begun.execution_id, done.execution_id, "nobody-knows"):
            store.withdraw(execution_id)
        with pytest.raises(NotFound):
            store.execution(begun.execution_id)
        store.begin(begun)
        assert store.execution(done.execution_id) == done

    def test_what_runs_is_not_lost(self, store: ExecutionStore, second: ExecutionStore) -> None:
        """Upkeep by anybody leaves alone what an open store has running, and its id taken."""
        begun = sample_running()
        store.begin(begun)
        with pytest.raises(ExecutionIdTaken):
            second.begin(begun)
        second.withdraw(begun.execution_id)
        for each in (store, second):
            tended(each)
            assert each.execution(begun.execution_id).status is RecordStatus.RUNNING
        second.close()

    def test_what_a_closed_store_ran_is_lost(
        self, store: ExecutionStore, second: ExecutionStore
    ) -> None:
        """Upkeep closes as ``lost`` what nobody runs any more; a verdict that comes late counts."""
        begun = sample_running()
        second.begin(begun)
        second.close()
        self.wait_until_lost(store, begun.execution_id)
        found = store.executions(RecordFilter(status=RecordStatus.LOST), 10).items
        assert [each.execution_id for each in found] == [begun.execution_id]
        assert store.executions(RecordFilter(status=RecordStatus.RUNNING), 10).items == []
        store.record([sample_record(execution_id=begun.execution_id)], [])
        assert store.execution(begun.execution_id).status is RecordStatus.SUCCEEDED

    def test_what_a_killed_process_ran_is_lost(
        self, store: ExecutionStore, reopen: Reopen | None
    ) -> None:
        """SIGKILL leaves nothing ``running`` for ever."""
        try:
            pickle.dumps(reopen)
        except (pickle.PicklingError, AttributeError, TypeError):
            reopen = None
        if reopen is None:
            pytest.skip("the fixture `reopen` is not given, or cannot be pickled")
        begun, own = sample_running(), sample_running()
        store.begin(own)
        child = multiprocessing.get_context("spawn").Process(
            target=begin_and_die, args=(reopen, begun)
        )
        child.start()
        child.join(PATIENCE_S)
        assert child.exitcode == -signal.SIGKILL
        assert store.execution(begun.execution_id).status in (
            RecordStatus.RUNNING,
            RecordStatus.LOST,
        )
        self.wait_until_lost(store, begun.execution_id)
        assert store.execution(own.execution_id).status is RecordStatus.RUNNING

    def wait_until_lost(self, store: ExecutionStore, execution_id: str) -> None:
        """Do the upkeep as the core does until the record is closed."""
        end = time.monotonic() + PATIENCE_S
        while store.execution(execution_id).status is not RecordStatus.LOST:
            assert time.monotonic() < end, "it is not found out that nobody runs it"
            if not store.tend(WEEK_S, MUCH):
                time.sleep(0.1)

    def test_interest_is_seen_and_expires(self, store: ExecutionStore) -> None:
        """Interest holds for as long as it was shown for, renewed or not; the first is news."""
        assert store.interests() == frozenset()
        assert store.show_interest("execution-1", 30)
        assert not store.show_interest("execution-1", 30)
        assert store.show_interest("execution-2", 0.05)
        assert store.show_interest(EVERY, 30)
        time.sleep(0.1)
        assert store.interests() == {"execution-1", EVERY}
        assert store.show_interest("execution-2", 30)
        assert store.interests() == {"execution-1", "execution-2", EVERY}

    def test_interest_is_bounded(self, store: ExecutionStore) -> None:
        """Whoever asks for many ids fills no disk: the oldest interest is forgotten."""
        for n in range(1003):
            store.show_interest(f"execution-{n}", 300 + n)
        found = store.interests()
        assert len(found) <= 1000
        assert "execution-1002" in found
        assert "execution-0" not in found

    def test_interest_reaches_others(self, store: ExecutionStore, second: ExecutionStore) -> None:
        """What one process is asked for, another finds."""
        store.show_interest("execution-1", 30)
        assert second.interests() == {"execution-1"}
        second.close()

    def test_what_is_too_old_goes(self, store: ExecutionStore) -> None:
        """Records older than the bound go with their lines; younger ones and running ones stay."""
        old = sample_record(started_at=ago(hours=2))
        young = sample_record(started_at=ago(minutes=30))
        running = sample_running(started_at=ago(hours=3))
        store.record(
            [old, young, running], [sample_line(each.execution_id) for each in (old, young)]
        )
        tended(store, max_age_s=3600)
        with pytest.raises(NotFound):
            store.execution(old.execution_id)
        assert store.lines(old.execution_id, 0, 10) == []
        assert store.execution(young.execution_id) == young
        assert len(store.lines(young.execution_id, 0, 10)) == 1
        assert store.execution(running.execution_id) == running

    def test_what_is_too_much_goes_oldest_first(self, store: ExecutionStore) -> None:
        """Beyond the bound on size the oldest go, until what is left is within 10 % of it."""
        records = [sample_record(started_at=ago(minutes=500 - n)) for n in range(400)]
        for n in range(0, 400, 50):
            batch = records[n : n + 50]
            lines = [
                sample_line(each.execution_id, seq, "x" * 1000)
                for each in batch
                for seq in range(1, 51)
            ]
            store.record(batch, lines)
        before = store.size()
        bound = before // 2
        tended(store, max_bytes=bound)
        assert store.size() <= bound * 1.1
        found = store.executions(RecordFilter(), 1000).items
        assert 100 < len(found) < 300
        newest = [each.execution_id for each in reversed(records)]
        assert [each.execution_id for each in found] == newest[: len(found)]
        gone = newest[len(found) :]
        assert all(store.lines(each, 0, 1) == [] for each in gone)
        assert all(len(store.lines(each.execution_id, 0, 100)) == 50 for each in found[:-1])

    def test_statistics_add_up(self, store: ExecutionStore) -> None:
        """Counts, nearest-rank percentiles, cold share, CPU, memory and the last error."""
        ref = FunctionRef("org/team", "greet")
        records = [
            sample_record(
                started_at=ago(minutes=59 - n / 4),
                timings_ms=Timings(0, 0, float(n), float(n + 1000)),
                usage=Usage(0.5, n) if n % 2 else Usage(None, None),
                start=StartKind.COLD if n <= 25 else StartKind.WARM,
            )
            for n in range(1, 101)
        ]
        error = ExecutionError(code=ErrorCode.TIMEOUT, message="too slow", phase=Phase.RUN)
        failures = [
            sample_record(started_at=ago(minutes=m), status=RecordStatus.TIMEOUT, error=error)
            for m in (50, 5, 20)
        ]
        others = [
            sample_record(started_at=ago(minutes=90), status=RecordStatus.FAILED),
            sample_record(function_name="other"),
            sample_record(collection_path="org"),
            sample_record(collection_path="org/team/x"),
        ]
        store.record([*others, *records, sample_running(), *failures], [])
        found = store.stats(ref, ago(hours=1))
        assert found.by_status == {"succeeded": 100, "timeout": 3, "running": 1}
        assert found.last_error == error
        assert found.last_error_id == failures[1].execution_id
        assert found.last_error_at == failures[1].started_at
        assert found.cold_share == pytest.approx(25 / 103, abs=1e-3)
        assert found.cpu_ms == pytest.approx(50 * 0.5 + 3 * 0.5)
        assert found.max_rss_bytes == 1 << 20
        # 103 runs: 1, 1, 1, 1, 2, 3 ... 100; the 52nd, 98th and 102nd of them.
        assert found.run_ms == Percentiles(49.0, 95.0, 99.0)

    def test_statistics_of_nothing(self, store: ExecutionStore) -> None:
        """A function that did not run has nothing to add up."""
        found = store.stats(FunctionRef("org", "idle"), ago(hours=1))
        assert found.by_status == {}
        assert found.run_ms == found.total_ms == Percentiles(None, None, None)
        assert (found.cold_share, found.cpu_ms, found.max_rss_bytes) == (None, None, None)
        assert (found.last_error, found.last_error_id, found.last_error_at) == (None, None, None)
