"""Size under load, who is lost and who only was out of touch, and no two that wait for each other."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable

import pytest
from lowcode_faas_db_s3.executions.statements import LINE_BYTES
from lowcode_faas_db_s3.executions.store import PostgresExecutions

from lowcode_faas_core.records import RecordFilter
from lowcode_faas_core.testing.executions_upkeep import WEEK_S, ago, tended
from lowcode_faas_core.testing.samples import sample_line, sample_record, sample_running

MUCH = 1 << 40
BOUND = 64 << 20
TABLES = ("executions", "execution_exchanges", "execution_lines", "execution_sources")
TEXT = "x" * 1000

Open = Callable[..., PostgresExecutions]


def occupied(backend) -> int:
    """Return what the files of the tables and their indexes take."""
    sizes = " + ".join(f"pg_total_relation_size('{table}')" for table in TABLES)
    return int(backend.sql(f"SELECT {sizes}")[0][0])


def batch(count: int = 100, lines: int = 10, **changes: object) -> tuple[list, list]:
    records = [sample_record(**changes) for _ in range(count)]
    return records, [
        sample_line(each.execution_id, n, TEXT) for each in records for n in range(1, lines + 1)
    ]


@pytest.mark.slow
def test_the_size_keeps_to_its_bound_under_constant_load(backend, open_store: Open) -> None:
    # Given two that write twice the bound, and after each batch do the upkeep that is due, for a
    # while, as the recorders of two processes do; and a vacuum for each few megabytes, since the
    # server's own comes by the minute, in which a machine's speed would tell
    counted: list[int] = []
    files: list[int] = []
    steps: list[float] = []

    def run(store: PostgresExecutions, vacuums: bool) -> None:
        for n in range(45):
            store.record(*batch())
            end = time.monotonic() + 0.1
            due = True
            while due and time.monotonic() < end:
                begun = time.perf_counter()
                due = store.tend(WEEK_S, BOUND)
                steps.append(time.perf_counter() - begun)
            counted.append(store.size())
            files.append(occupied(backend))
            if vacuums and n % 2:
                backend.sql(f"VACUUM {', '.join(TABLES)}")

    threads = [
        threading.Thread(target=run, args=(open_store(past_proxy=True), vacuums))
        for vacuums in (True, False)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # Then what is counted stays near the bound, and what the files take stays near that
    shown = [f"{size / 2**20:.1f}" for size in (max(counted), counted[-1], max(files), files[-1])]
    print(
        f"bound {BOUND >> 20} MiB; counted: most {shown[0]}, at the end {shown[1]}; files: most "
        f"{shown[2]}, at the end {shown[3]}; {len(steps)} steps, median "
        f"{statistics.median(steps) * 1000:.0f} ms, longest {max(steps) * 1000:.0f} ms"
    )
    assert max(counted) <= BOUND * 1.1
    assert counted[-1] >= BOUND * 0.8
    assert max(files) <= BOUND * 1.4  # with what is dead until the next vacuum
    # And the accounts are right to the byte
    [(rows,)] = backend.sql(f"""
        SELECT (SELECT coalesce(sum(bytes), 0) FROM executions)
            + (SELECT coalesce(sum(octet_length(document) + {LINE_BYTES}), 0) FROM execution_lines)
        """)
    assert open_store().size() == rows


@pytest.mark.slow
def test_whoever_writes_waits_for_no_deletion(backend, open_store: Open) -> None:
    # Given much that is too old
    cleaner, writer = open_store(past_proxy=True), open_store(past_proxy=True)
    for _ in range(100):
        cleaner.record(*batch(started_at=ago(hours=2)))
    waits: dict[bool, list[float]] = {False: [], True: []}
    steps = 0
    # When it is deleted as fast as can be, every other moment, while another writes
    deleting, done = threading.Event(), threading.Event()

    def clean() -> None:
        nonlocal steps
        while not done.is_set():
            if deleting.is_set():
                steps += 1
                if not cleaner.tend(3600, MUCH):
                    done.set()
            else:
                time.sleep(0.001)

    thread = threading.Thread(target=clean)
    thread.start()
    while not done.is_set():
        for now in (False, True):
            (deleting.set if now else deleting.clear)()
            end = time.monotonic() + 0.3
            while time.monotonic() < end:
                records, lines = batch(20, 5)
                begun = time.perf_counter()
                writer.record(records, lines)
                writer.begin(sample_running())
                waits[now].append(time.perf_counter() - begun)
    thread.join()
    # Then it takes longer by no more than the machine's share that the other takes
    shown = {
        now: [each[len(each) // 2], each[int(len(each) * 0.95)], each[-1]]
        for now, each in ((now, sorted(each)) for now, each in waits.items())
    }
    print(
        f"{steps} steps; median, 95 %, longest in ms: "
        + ", ".join(
            f"{'beside' if now else 'without'} {[f'{x * 1000:.0f}' for x in each]}"
            for now, each in shown.items()
        )
    )
    assert cleaner.executions(RecordFilter(until=ago(hours=1)), 1).items == []
    assert steps >= 40
    assert shown[True][0] < shown[False][0] * 3 + 0.02
    assert shown[True][1] < shown[False][1] * 5 + 0.05


def test_what_nobody_uses_any_more_is_forgotten(backend, open_store: Open) -> None:
    """Sources of nothing, owners long gone and interests that are over go; the account stays."""
    gone, store = open_store(), open_store()
    kept, deleted = sample_record(), sample_record(started_at=ago(hours=2))
    gone.record([kept, deleted], [])
    gone.begin(sample_running(deployment_id=deleted.deployment_id))
    gone.show_interest("execution-1", 0.01)
    tended(store, max_age_s=3600)
    gone.close()
    backend.sql("UPDATE execution_sources SET used_on = current_date - 10")
    backend.sql("UPDATE execution_owners SET seen_at = seen_at - interval '2 hours'")
    size = store.size()
    assert size > 0
    tended(open_store())  # whose first step looks at everything
    # Closed as lost, it counts, and what it ran from is still used
    assert store.size() > size
    sources = {row[0] for row in backend.sql("SELECT deployment_id FROM execution_sources")}
    assert sources == {kept.deployment_id, deleted.deployment_id}
    size = store.size()
    backend.sql("DELETE FROM executions WHERE status = 'lost'")
    backend.sql("UPDATE execution_owners SET seen_at = seen_at - interval '2 hours'")
    tended(open_store())
    assert store.size() == size
    assert len(backend.sql("SELECT 1 FROM execution_owners")) == 1
    assert backend.sql("SELECT 1 FROM execution_interests") == []
    assert [row[0] for row in backend.sql("SELECT deployment_id FROM execution_sources")] == [
        kept.deployment_id
    ]
    # And a source that is used again after days is not taken for unused
    backend.sql("UPDATE execution_sources SET used_on = current_date - 10")
    store.record([sample_record(deployment_id=kept.deployment_id)], [])
    assert backend.sql("SELECT used_on = current_date FROM execution_sources") == [(True,)]
