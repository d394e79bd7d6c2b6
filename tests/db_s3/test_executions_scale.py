"""A hundred thousand executions: whatever is asked goes through indexes and reads little."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import psycopg2
import pytest
from lowcode_faas_db_s3.executions import queries, statements
from lowcode_faas_db_s3.executions.store import PostgresExecutions
from lowcode_faas_db_s3.settings import PostgresSettings

from lowcode_faas_core.model import FunctionRef, StartKind
from lowcode_faas_core.records import RecordFilter, RecordStatus
from lowcode_faas_core.testing.executions_upkeep import ago
from lowcode_faas_core.testing.samples import sample_line, sample_record

MANY = 100_000
#: Rows that a page may read for each row it shows: places, then documents, and some on the way.
PER_ROW = 12

# Made by the server from one record of the store's own: what is tried here is the reading. 200
# functions in 50 collections, one in ten failed; and one place in which almost nothing ran.
FILL = f"""
INSERT INTO execution_sources (collection_path, function_name, deployment_id)
SELECT 'org' || n % 5 || '/team' || n % 50, 'f' || n % 4, 'deployment-' || n % 200
FROM generate_series(0, 199) n;
INSERT INTO execution_sources (collection_path, function_name, deployment_id)
VALUES ('quiet/corner', 'rare', 'deployment-rare');
INSERT INTO executions (source_id, execution_id, run_id, started_us, status, start, run_ms, total_ms,
    cpu_ms, max_rss_bytes, has_error, bytes, grown, document)
SELECT s.id, 'execution-' || n, 'run-' || n / 10,
    (extract(epoch FROM now()) * 1000000)::bigint - ({MANY} - n) * 20000,
    CASE WHEN n % 10 = 0 THEN 'failed' ELSE 'succeeded' END,
    CASE WHEN n % 50 = 0 THEN 'cold' ELSE 'warm' END, n % 100, n % 100, 0.5, 1000, n % 10 = 0,
    1000, 0, e.document
FROM generate_series(0, {MANY - 1}) n
JOIN execution_sources s ON s.deployment_id = CASE WHEN n IN (7, 8, 9) THEN 'deployment-rare'
    ELSE 'deployment-' || n % 200 END
JOIN executions e ON e.execution_id = 'sample'
ORDER BY n;
DELETE FROM executions WHERE execution_id = 'sample';
INSERT INTO execution_lines (execution, seq, document)
SELECT e.id, n, '["2026-01-02T03:04:05Z","info","stdout","hello",false,false]'
FROM executions e, generate_series(1, 3) n;
INSERT INTO execution_exchanges (execution, document)
SELECT e.id, '[null,false,null,false]' FROM executions e;
"""
LISTS = {
    "all": (RecordFilter(), 100),
    "since": (RecordFilter(since=ago(minutes=5)), 100),
    "until": (RecordFilter(until=ago(minutes=5)), 100),
    "function": (RecordFilter(function_name="f1"), 100),
    "subtree": (RecordFilter(collection_path="org1"), 100),
    "quiet subtree": (RecordFilter(collection_path="quiet"), 3),
    "empty subtree": (RecordFilter(collection_path="org9"), 0),
    "deployment": (RecordFilter(deployment_id="deployment-7"), 100),
    "quiet deployment": (RecordFilter(deployment_id="deployment-rare"), 3),
    "run": (RecordFilter(run_id="run-7"), 10),
    "its own run": (RecordFilter(run_id="execution-7"), 0),
    "failed": (RecordFilter(status=RecordStatus.FAILED), 100),
    "running": (RecordFilter(status=RecordStatus.RUNNING), 0),
    "succeeded": (RecordFilter(status=RecordStatus.SUCCEEDED), 100),
    "cold": (RecordFilter(start=StartKind.COLD), 100),
    "warm": (RecordFilter(start=StartKind.WARM), 100),
    "failed of a function": (
        RecordFilter(function_name="f0", status=RecordStatus.FAILED),
        100,
    ),
    "failed in the quiet": (
        RecordFilter(collection_path="quiet", status=RecordStatus.FAILED),
        0,
    ),
    "cold in the quiet": (RecordFilter(collection_path="quiet", start=StartKind.COLD), 0),
}


@pytest.fixture(scope="module")
def filled(servers) -> str:
    """Return a database with a hundred thousand executions."""
    database = servers.postgres.database()
    dsn = servers.postgres.dsn(database)
    store = _store(dsn)
    store.record([sample_record(execution_id="sample")], [])
    store.close()
    servers.postgres.execute(FILL, database)
    servers.postgres.execute("VACUUM ANALYZE", database)
    return dsn


@pytest.fixture
def store(filled: str) -> Iterator[PostgresExecutions]:
    store = _store(filled)
    yield store
    store.close()


def _store(dsn: str) -> PostgresExecutions:
    return PostgresExecutions(PostgresSettings(dsn=dsn))


def _plan(dsn: str, text: str, given: Any) -> tuple[set[str], int]:
    """Return the kinds of scan of a statement that is undone, and the rows it read from tables."""
    connection = psycopg2.connect(dsn)
    try:
        with connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {text}", given)
            scans: set[str] = set()
            rows = _walk(cursor.fetchone()[0][0]["Plan"], scans)
            return scans, rows
    finally:
        connection.close()


def _walk(node: dict[str, Any], scans: set[str]) -> int:
    rows = 0
    if "Scan" in node["Node Type"] and "Relation Name" in node:
        scans.add(f"{node['Node Type']} of {node['Relation Name']}")
        per_loop = node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
        rows = (per_loop + node.get("Rows Removed by Index Recheck", 0)) * node["Actual Loops"]
    return int(rows + sum(_walk(child, scans) for child in node.get("Plans", ())))


def _assert_indexed(name: str, scans: set[str]) -> None:
    # A row a process, a row a deployment that ran lately, and at most 1,000.
    small = ("execution_owners", "execution_sources", "execution_interests")
    wrong = [
        each
        for each in scans
        if not each.startswith(("Index", "Bitmap", "Tid")) and not each.endswith(small)
    ]
    assert not wrong, (name, scans)


@pytest.mark.slow
@pytest.mark.parametrize("name", LISTS)
def test_a_list_reads_little_more_than_it_shows(
    store: PostgresExecutions, filled: str, name: str
) -> None:
    wanted, expected = LISTS[name]
    sources = None
    select = queries.sources_of(wanted)
    if select is not None:
        sources = [row[0] for row in store._link.rows(*select)]
    before = (2**62, 2**62)
    begun = time.perf_counter()
    page = store.executions(wanted, 100)
    took = time.perf_counter() - begun
    assert len(page.items) == expected
    for place in (before, (time.time_ns() // 1000 - 10**9, 0)):
        scans, rows = _plan(filled, *queries.listing(wanted, sources, place, 101))
        print(f"{name}: {rows} rows, {took * 1000:.1f} ms, {', '.join(sorted(scans))}")
        _assert_indexed(name, scans)
        # Each source is read until the page is full: what is few is not looked for among many.
        assert rows <= 101 * max(PER_ROW, len(sources or ()) + 2)


@pytest.mark.slow
def test_statistics_read_what_they_add_up(store: PostgresExecutions, filled: str) -> None:
    given = {
        "path": "org1/team1",
        "name": "f1",
        "since": queries.microseconds(ago(minutes=10)),
    }
    scans, rows = _plan(filled, queries.STATS, given)
    _assert_indexed("stats", scans)
    begun = time.perf_counter()
    found = store.stats(FunctionRef("org1/team1", "f1"), ago(minutes=10))
    took = time.perf_counter() - begun
    added = sum(found.by_status.values())
    print(f"stats: {rows} rows for {added}, {took * 1000:.1f} ms, {', '.join(sorted(scans))}")
    assert 200 < added <= 300
    assert rows <= added + 300  # and the sources, of which there are few


@pytest.mark.slow
def test_every_other_statement_reads_what_it_returns(
    store: PostgresExecutions, servers, filled: str
) -> None:
    for n in range(1000):
        store.show_interest(f"execution-{n}", 60)
    record = sample_record()
    store.record([record], [sample_line(record.execution_id, n) for n in range(1, 101)])
    servers.postgres.execute("VACUUM ANALYZE", filled.rpartition("=")[2])
    [(row,)] = store._link.rows(
        "SELECT id FROM executions WHERE execution_id = %s", (record.execution_id,)
    )
    owner = {"owner": "somebody"}
    asked: dict[str, tuple[str, Any, int]] = {
        "execution": (queries.EXECUTION, (record.execution_id,), 1),
        "lines": (queries.LINES_OF, (record.execution_id, 50, 20), 21),
        "interests": (queries.INTERESTS, (), 1000),
        "show interest": (statements.INTEREST, {"id": "execution-7", "seconds": 1}, 2),
        "too many interests": (statements.FORGET_INTERESTS, {"most": 1000}, 1001),
        "interests that are over": (statements.FORGET_OVER, {}, 1000),
        "lost": (statements.LOSE, {**owner, "judge": True, "lease": 20}, 1),
        "goodbye": (statements.CLOSE_OWNER, owner, 10),
        "due": (statements.STATE, {"age": 3600}, 10),
        "oldest": (statements.OLDEST, {"before": 2**62, "most": 200}, 200),
        "weighed": (statements.WEIGHED, {"ids": [row], "most": 2001}, 100),
        "delete lines": (statements.DELETE_LINES, {**owner, "ids": [row], "most": 2000}, 300),
        "delete exchanges": (statements.DELETE_EXCHANGES, {**owner, "ids": [row]}, 1),
        "delete executions": (statements.DELETE_EXECUTIONS, {**owner, "ids": [row]}, 2),
        "withdraw": (statements.WITHDRAW, {**owner, "id": record.execution_id}, 1),
    }
    for name, (text, given, most) in asked.items():
        scans, rows = _plan(filled, text, given)
        print(f"{name}: {rows} rows, {', '.join(sorted(scans))}")
        _assert_indexed(name, scans)
        assert rows <= most, name
