"""Executions while PostgreSQL is down, or silent, or a host is cut off from it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import msgspec
import pytest
from lowcode_faas_db_s3.executions.store import PostgresExecutions

from lowcode_faas_core.configuration import ExecutionSettings
from lowcode_faas_core.errors import NotFound, StorageUnavailable
from lowcode_faas_core.record_queue import MOST_RECORDS
from lowcode_faas_core.recording import Recorder
from lowcode_faas_core.records import RecordFilter, RecordStatus
from lowcode_faas_core.testing.executions_upkeep import WEEK_S, tended
from lowcode_faas_core.testing.samples import (
    sample_invocation,
    sample_line,
    sample_record,
    sample_result,
    sample_running,
)

LEASE_S = 3.0
MUCH = 1 << 40
PATIENCE_S = 30.0

Open = Callable[..., PostgresExecutions]


def until(holds: Callable[[], object], what: str) -> None:
    end = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < end, what
        time.sleep(0.1)


def _refuse(proxy) -> None:
    proxy.refusing = True
    proxy.cut_all()


def _swallow(proxy) -> None:
    proxy.swallowing = True


def _restore(proxy) -> None:
    proxy.refusing = proxy.swallowing = False
    proxy.cut_all()


def running(store: PostgresExecutions) -> list[str]:
    page = store.executions(RecordFilter(status=RecordStatus.RUNNING), 100)
    return [each.execution_id for each in page.items]


@pytest.mark.fault(116)
@pytest.mark.parametrize("hurt", [_refuse, _swallow])
def test_down_every_method_says_so_soon(backend, open_store: Open, hurt) -> None:
    """The first who asks waits for a connection, the others are told at once; then it works again."""
    store = open_store()
    record = sample_record()
    store.record([record], [sample_line(record.execution_id)])
    hurt(backend.to_postgres)
    calls: list[Callable[[], object]] = [
        lambda: store.begin(sample_running()),
        lambda: store.withdraw("execution-1"),
        lambda: store.record([sample_record()], []),
        lambda: store.execution(record.execution_id),
        lambda: store.executions(RecordFilter(), 10),
        lambda: store.lines(record.execution_id, 0, 10),
        lambda: store.show_interest("execution-1", 1),
        lambda: store.interests(),
        lambda: store.tend(WEEK_S, MUCH),
        lambda: store.size(),
        lambda: store.check(),
    ]
    waited = []
    for call in calls:
        begun = time.monotonic()
        with pytest.raises(StorageUnavailable) as refused:
            call()
        waited.append(time.monotonic() - begun)
        assert "127.0.0.1" not in refused.value.detail
    print([f"{each:.2f}" for each in waited])
    assert max(waited) < 6
    assert sorted(waited)[len(waited) // 2] < 0.1
    _restore(backend.to_postgres)
    until(lambda: _works(store), "it works again")
    assert store.execution(record.execution_id) == record


def _works(store: PostgresExecutions) -> bool:
    try:
        store.check()
    except StorageUnavailable:
        return False
    return True


@pytest.mark.fault(116)
@pytest.mark.parametrize("hurt", [_refuse, _swallow])
def test_the_recorder_drops_and_counts_and_goes_on(backend, open_store: Open, hurt) -> None:
    """Runs wait for nothing but the taking of an id; what fits is written once it works again."""
    recorder = Recorder(open_store(), ExecutionSettings())

    def run(*, chosen: bool = False) -> float:
        invocation = msgspec.structs.replace(sample_invocation(), chosen=chosen)
        begun = time.monotonic()
        opened = recorder.open(invocation, time.time_ns())
        took = time.monotonic() - begun
        opened.finish(sample_result(execution_id=invocation.execution_id))
        return took

    try:
        run()
        until(lambda: recorder.recorded == 1, "the first is recorded")
        hurt(backend.to_postgres)
        waited = [run(chosen=n % 1000 == 0) for n in range(MOST_RECORDS + 2000)]
        until(lambda: recorder.trouble, "it tells of the trouble")
        print(f"longest open {max(waited):.2f} s, dropped {recorder.dropped}")
        assert sum(each > 0.5 for each in waited) <= 5
        assert max(waited) < 6
        assert recorder.dropped > 0
        _restore(backend.to_postgres)
        until(
            lambda: recorder.recorded + recorder.dropped == MOST_RECORDS + 2001,
            "everything is recorded, or counted as dropped",
        )
        assert recorder.recorded > 10_000
        assert recorder.trouble is None
    finally:
        recorder.close()


@pytest.mark.fault(115)
@pytest.mark.parametrize("fate", ["before", "after"])
def test_an_id_is_begun_once_when_the_connection_breaks(
    backend, open_store: Open, fate: str
) -> None:
    """Taken by the very same run, the id is not taken: it is asked again, once."""
    store = open_store()
    store.check()
    cut: list[str] = []

    def watch(data: bytes) -> str | None:
        if b"INSERT INTO executions" in data and not cut:
            cut.append(fate)
            return fate
        return None

    backend.to_postgres.watch = watch
    begun = sample_running()
    store.begin(begun)
    assert cut == [fate]
    assert running(store) == [begun.execution_id]


@pytest.mark.fault(115)
@pytest.mark.parametrize("fate", ["before", "after"])
def test_a_batch_whose_answer_was_lost_is_one_batch(backend, open_store: Open, fate: str) -> None:
    """Delivered again, it changes nothing; and it counts once."""
    store = open_store()
    first = sample_record()
    store.record([first], [sample_line(first.execution_id)])
    one = store.size()
    cut: list[str] = []

    def watch(data: bytes) -> str | None:
        if b"INSERT INTO execution_lines" in data and not cut:
            cut.append(fate)
            return fate
        return None

    backend.to_postgres.watch = watch
    record = sample_record()
    store.record([record], [sample_line(record.execution_id)])
    assert cut == [fate]
    assert len(store.executions(RecordFilter(), 10).items) == 2
    assert store.size() == 2 * one


@pytest.mark.fault(98)
def test_a_host_that_is_cut_off_has_lost_what_it_ran(backend, open_store: Open) -> None:
    """Its connections stay open and say nothing; a verdict that comes after all counts."""
    cut_off, other = open_store(), open_store(past_proxy=True)
    theirs, own = sample_running(), sample_running()
    cut_off.begin(theirs)
    other.begin(own)
    backend.to_postgres.swallowing = True
    begun = time.monotonic()
    while other.execution(theirs.execution_id).status is RecordStatus.RUNNING:
        assert time.monotonic() < begun + PATIENCE_S
        other.tend(WEEK_S, MUCH)
        time.sleep(0.1)
    assert time.monotonic() - begun > LEASE_S * 0.8
    assert running(other) == [own.execution_id]
    _restore(backend.to_postgres)
    until(lambda: _works(cut_off), "it is back")
    cut_off.record([sample_record(execution_id=theirs.execution_id)], [])
    assert other.execution(theirs.execution_id).status is RecordStatus.SUCCEEDED


@pytest.mark.fault(116)
def test_after_an_outage_nobody_takes_the_others_for_dead(backend, open_store: Open) -> None:
    """All have been silent for longer than a lease: the first who is back does not judge at once."""
    first, second = open_store(), open_store()
    for store in (first, second):
        store.begin(sample_running())
    end = time.monotonic() + LEASE_S * 1.3
    while time.monotonic() < end:
        for store in (first, second):
            store.tend(WEEK_S, MUCH)
        time.sleep(0.2)
    assert len(running(first)) == 2
    backend.servers.postgres.server.pause()
    time.sleep(LEASE_S * 1.5)
    backend.servers.postgres.server.resume()
    until(lambda: _works(first), "it is back")
    tended(first)
    assert len(running(first)) == 2
    time.sleep(1.1)
    until(lambda: _works(second), "it is back")
    tended(second)
    end = time.monotonic() + LEASE_S * 1.5
    while time.monotonic() < end:
        for store in (first, second):
            store.tend(WEEK_S, MUCH)
        time.sleep(0.2)
    assert len(running(second)) == 2


@pytest.mark.fault(121)
def test_no_two_writers_wait_for_each_other_in_a_circle(backend, open_store: Open) -> None:
    """The same records in every order, from several processes' stores, beside deletion."""
    stores = [open_store(past_proxy=True) for _ in range(3)]
    records = [sample_record() for _ in range(60)]
    lines = [sample_line(each.execution_id, n) for each in records for n in (1, 2)]
    orders = [(records, lines), (records[::-1], lines[::-1]), (records[::2] + records[1::2], lines)]
    failures: list[BaseException] = []

    def write(n: int) -> None:
        try:
            for _ in range(25):
                stores[n].record(*orders[n])
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        stores[0].tend(0.0, MUCH)
    for thread in threads:
        thread.join()
    assert not failures
    [(deadlocks,)] = backend.sql(
        "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    )
    assert deadlocks == 0
    # And nothing is left of what was deleted, nor counted
    tended(stores[0], max_age_s=-60.0)
    for execution in records:
        with pytest.raises(NotFound):
            stores[0].execution(execution.execution_id)
    assert backend.sql("SELECT count(*) FROM execution_lines") == [(0,)]
    assert stores[0].size() == 0
