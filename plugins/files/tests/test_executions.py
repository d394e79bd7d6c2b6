"""What SQLite must do beside the contract: use its indexes, keep its size, and fail alone."""

from __future__ import annotations

import math
import os
import sqlite3
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lowcode_faas_files.executions import adding_up, statements
from lowcode_faas_files.executions.adding_up import Ranked
from lowcode_faas_files.executions.store import SqliteExecutions

from lowcode_faas_core.errors import CapacityError, StorageUnavailable
from lowcode_faas_core.model import (
    ErrorCode,
    ExecutionError,
    FunctionRef,
    Phase,
    StartKind,
    Timings,
    Usage,
)
from lowcode_faas_core.records import Record, RecordFilter, RecordStatus
from lowcode_faas_core.testing.executions_upkeep import ago
from lowcode_faas_core.testing.memory_executions import MemoryExecutionStore
from lowcode_faas_core.testing.samples import sample_line, sample_record

MANY = 100_000
BOUND = 64 << 20
WEEK_S = 7 * 86_400.0
ERROR = ExecutionError(code=ErrorCode.HANDLER_ERROR, message="boom", phase=Phase.RUN)


@pytest.fixture
def store(data_dir: Path) -> Iterator[SqliteExecutions]:
    store = SqliteExecutions(data_dir)
    yield store
    store.close()


@pytest.fixture
def database(data_dir: Path) -> Path:
    return data_dir / "executions" / "executions.sqlite"


def fill(store: SqliteExecutions) -> None:
    """Record 100,000 executions of 200 functions in 50 collections, one in ten of them failed."""
    at = time.time() - MANY / 50
    for start in range(0, MANY, 5000):
        store.record([_nth(n, at) for n in range(start, start + 5000)], [])


SAMPLE = sample_record()


def _nth(n: int, at: float) -> Record:
    moment = time.gmtime(int(at + n / 50))
    return msgspec.structs.replace(
        SAMPLE,
        execution_id=f"execution-{n * 7919 % MANY}",
        started_at=f"{time.strftime('%Y-%m-%dT%H:%M:%S', moment)}.{n % 50 * 20_000:06d}Z",
        function_name=f"f{n % 4}",
        collection_path=f"org{n % 5}/team{n % 50}",
        deployment_id=f"deployment-{n % 200}",
        run_id=f"run-{n // 10}",
        status=RecordStatus.FAILED if n % 10 == 0 else RecordStatus.SUCCEEDED,
        start=StartKind.COLD if n % 50 == 0 else StartKind.WARM,
    )


LISTS = {
    "all": (RecordFilter(), "executions_by_time"),
    "since": (RecordFilter(since=ago(minutes=5)), "executions_by_time"),
    "function": (RecordFilter(function_name="f1"), "executions_by_source"),
    "subtree": (RecordFilter(collection_path="org1"), "executions_by_source"),
    "empty subtree": (RecordFilter(collection_path="org9"), None),
    "deployment": (RecordFilter(deployment_id="deployment-7"), "executions_by_source"),
    "run": (RecordFilter(run_id="run-7"), "executions_by_run"),
    "failed": (RecordFilter(status=RecordStatus.FAILED), "executions_by_status"),
    "running": (RecordFilter(status=RecordStatus.RUNNING), "executions_by_status"),
    "succeeded": (RecordFilter(status=RecordStatus.SUCCEEDED), "executions_by_time"),
    "cold": (RecordFilter(start=StartKind.COLD), "executions_by_start"),
    "warm": (RecordFilter(start=StartKind.WARM), "executions_by_time"),
    "failed of a function": (
        RecordFilter(function_name="f0", status=RecordStatus.FAILED),
        "executions_by_status",
    ),
}


def plan(connection: sqlite3.Connection, text: str, given: Any) -> list[str]:
    return [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {text}", given)]


def assert_indexed(steps: list[str]) -> None:
    for step in steps:
        assert "TEMP B-TREE" not in step, steps
        if step.startswith("SCAN"):
            assert "j VIRTUAL TABLE" in step, steps


def test_a_hundred_thousand_are_found_through_indexes(
    store: SqliteExecutions, database: Path
) -> None:
    fill(store)
    connection = sqlite3.connect(database)
    took: dict[str, float] = {}
    for name, (wanted, index) in LISTS.items():
        select = statements.sources_of(wanted)
        sources = None
        if select is not None:
            assert_indexed(plan(connection, *select))
            sources = [row[0] for row in connection.execute(*select)]
        for text, values in statements.branches(wanted, sources, (2**62, 2**62)):
            steps = plan(connection, text, values)
            assert_indexed(steps)
            assert len(steps) == 1
            assert index is not None
            assert index in steps[0] or "sqlite_autoindex_executions_1" in steps[0]
        begun = time.perf_counter()
        page = store.executions(wanted, 100)
        took[name] = time.perf_counter() - begun
        expected = [each for each in page.items if index is not None]
        assert len(expected) == {"empty subtree": 0, "run": 10, "running": 0}.get(name, 100)
    before = {"before": 2**62, "most": 200}
    ref = FunctionRef("org1/team1", "f1")
    since = statements.microseconds(ago(hours=1))
    for text, values in (
        (statements.SOURCES_OF, (ref.collection_path, ref.name)),
        (statements.OLDEST, before),
        (statements.EXECUTION, ("x",)),
        (statements.LINES_OF, (0, "x", 10)),
        (statements.LOSE, ("[]",)),
    ):
        steps = plan(connection, text, values)
        assert all("SCAN e" not in step and "SCAN l" not in step for step in steps), steps
        assert all("TEMP B-TREE" not in step for step in steps), steps
    slice_of = {"source": 1, "us": since, "row": -1, "most": 10}
    steps = [step for step in plan(connection, statements.STATS, slice_of) if "executions" in step]
    assert steps == [
        "SEARCH executions USING INDEX executions_by_source (source_id=? AND started_us>?)"
    ]
    begun = time.perf_counter()
    found = store.stats(ref, ago(hours=1))
    took["stats"] = time.perf_counter() - begun
    assert sum(found.by_status.values()) == MANY / 100
    connection.close()
    print({name: f"{seconds * 1000:.1f} ms" for name, seconds in took.items()})


@pytest.mark.parametrize("slice_of", [1, 7, 100, 10_000])
def test_statistics_are_the_same_however_they_are_sliced(
    store: SqliteExecutions, monkeypatch: pytest.MonkeyPatch, slice_of: int
) -> None:
    monkeypatch.setattr(adding_up, "SLICE", slice_of)
    at = time.time() - 1000
    records = [
        msgspec.structs.replace(
            _nth(n, at),
            collection_path="c",
            function_name="f",
            deployment_id=f"deployment-{n % 3}",
            # Several of one moment, and some that have no verdict
            started_at=ago(seconds=100 - n // 20),
            status=RecordStatus.LOST if n % 11 == 5 else _nth(n, at).status,
            start=None if n % 11 == 5 else _nth(n, at).start,
            timings_ms=None if n % 11 == 5 else Timings(0.0, 0.0, n * 7 % 90 / 8, n * 13 % 90 / 8),
            usage=Usage(cpu_ms=n / 7, max_rss_bytes=n) if n % 2 else Usage(None, None),
            error=ERROR if n % 10 == 0 else None,
        )
        for n in range(500)
    ]
    store.record(records, [])
    other = [msgspec.structs.replace(_nth(9, at), collection_path="c", function_name="g")]
    store.record(other, [])
    plain = MemoryExecutionStore()
    plain.record(records, [])
    for since in (ago(hours=1), records[250].started_at, ago(seconds=-9)):
        found, expected = (each.stats(FunctionRef("c", "f"), since) for each in (store, plain))
        assert found == expected


@given(st.lists(st.lists(st.floats(0, 1e9) | st.sampled_from([0.0, 1.5, 2.0]))))
def test_the_one_at_a_rank_is_found_without_sorting_all(pieces: list[list[float]]) -> None:
    ranked = Ranked()
    for piece in pieces:
        ranked.add(list(piece))
    every = sorted(value for piece in pieces for value in piece)
    for share in (0.01, 0.5, 0.95, 0.99, 1.0):
        expected = every[max(0, math.ceil(share * len(every)) - 1)] if every else None
        assert ranked.at(share) == expected


def test_only_one_adds_up_at_a_time(
    store: SqliteExecutions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lowcode_faas_files.executions.store.ADD_UP_S", 0.05)
    ref = FunctionRef("c", "f")
    with store._adding_up, pytest.raises(CapacityError):
        store.stats(ref, ago(hours=1))
    assert store.stats(ref, ago(hours=1)).by_status == {}


def test_the_size_keeps_to_its_bound_under_constant_load(
    store: SqliteExecutions, data_dir: Path
) -> None:
    # Given two that write twice the bound, and after each batch do the upkeep that is due, for a
    # while, as the recorders of two processes do
    text = "x" * 1000
    sizes: list[int] = []
    waits: list[float] = []
    steps: list[float] = []

    def timed(do: Callable[[], Any], times: list[float]) -> Any:
        begun = time.perf_counter()
        while True:
            try:
                done = do()
                break
            except StorageUnavailable:  # the other one had it for too long: recorders try again
                assert time.perf_counter() - begun < 60
        times.append(time.perf_counter() - begun)
        sizes.append(store.size())
        return done

    def run() -> None:
        own = SqliteExecutions(data_dir)
        for _ in range(60):
            records = [sample_record() for _ in range(100)]
            lines = [
                sample_line(each.execution_id, n, text) for each in records for n in range(1, 11)
            ]
            timed(lambda: own.record(records, lines), waits)  # noqa: B023  # called at once
            end = time.monotonic() + 0.1
            while timed(lambda: own.tend(WEEK_S, BOUND), steps) and time.monotonic() < end:
                pass
        own.close()

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # Then the size stays near its bound, and no writer waits for long
    print(
        f"bound {BOUND >> 20} MiB, largest {max(sizes) / 2**20:.1f}, at the end "
        f"{store.size() / 2**20:.1f}; {len(steps)} steps, longest {max(steps) * 1000:.0f} ms; "
        f"longest write of 100 with 1,000 lines {max(waits) * 1000:.0f} ms"
    )
    assert max(sizes) <= BOUND * 1.1
    assert BOUND * 0.7 <= store.size() <= BOUND * 1.1
    # And what is deleted for its age gives its space back
    begun_with = store.size()
    time.sleep(0.01)
    while store.tend(0.0, BOUND):
        pass
    assert store.executions(RecordFilter(), 1).items == []
    assert store.size() < begun_with / 10


def test_one_that_printed_a_great_deal_goes_in_small_steps(store: SqliteExecutions) -> None:
    record = sample_record(started_at=ago(hours=2))
    store.record([record], [sample_line(record.execution_id, n) for n in range(1, 10_001)])
    steps = 0
    while store.tend(3600, BOUND):
        steps += 1
        if steps == 2:
            assert 0 < len(store.lines(record.execution_id, 0, 20_000)) < 10_000
    assert steps >= 5
    assert store.executions(RecordFilter(), 1).items == []


def test_nothing_is_made_before_the_first_use(data_dir: Path) -> None:
    store = SqliteExecutions(data_dir)
    assert not data_dir.exists()
    store.close()
    assert not data_dir.exists()


def test_what_is_printed_is_for_its_owner_only(store: SqliteExecutions, database: Path) -> None:
    previous = os.umask(0)
    try:
        store.record([sample_record()], [])
    finally:
        os.umask(previous)
    for path in (database, Path(f"{database}-wal")):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(database.parent.stat().st_mode) == 0o700


def _corrupt(database: Path) -> Callable[[], None]:
    database.parent.mkdir(parents=True)
    database.write_bytes(b"this is no database" * 1000)
    return lambda: database.unlink()


def _newer(database: Path) -> Callable[[], None]:
    database.parent.mkdir(parents=True)
    with sqlite3.connect(database) as connection:
        connection.execute("PRAGMA user_version = 999")
    connection.close()
    return lambda: database.unlink()


def _file_in_the_way(database: Path) -> Callable[[], None]:
    database.parent.parent.mkdir(parents=True)
    database.parent.write_text("")
    return lambda: database.parent.unlink()


def _locked(database: Path) -> Callable[[], None]:
    SqliteExecutions(database.parent.parent).check()
    connection = sqlite3.connect(database, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    return connection.close


@pytest.mark.parametrize("trouble", [_corrupt, _newer, _file_in_the_way, _locked])
def test_a_store_that_is_down_says_so_soon_and_recovers(
    data_dir: Path, database: Path, trouble: Callable[[Path], Callable[[], None]]
) -> None:
    mend = trouble(database)
    store = SqliteExecutions(data_dir)
    begun = time.monotonic()
    with pytest.raises(StorageUnavailable):
        store.record([sample_record()], [])
    assert time.monotonic() - begun < 5
    mend()
    record = sample_record()
    store.record([record], [])
    assert store.execution(record.execution_id) == record
    store.close()


def test_a_child_of_a_fork_opens_its_own(store: SqliteExecutions) -> None:
    record = sample_record()
    store.record([record], [])
    child = os.fork()
    if child == 0:
        try:
            store.record([sample_record()], [])
            os._exit(0 if store.execution(record.execution_id) == record else 1)
        finally:
            os._exit(2)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert len(store.executions(RecordFilter(), 10).items) == 2
