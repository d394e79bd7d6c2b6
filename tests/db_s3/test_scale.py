"""A hundred thousand deployments cost an invocation no more rows than a thousand."""

from __future__ import annotations

from typing import Any

import psycopg2
import pytest
from lowcode_faas_db_s3 import queries

from lowcode_faas_core.names import ancestors

#: Collections are c0 … c999, each in a tree of ten; functions f0 … f9 in each, ten versions each.
_FILL = """
INSERT INTO collections (path, parent, created_at)
    SELECT 'c' || n, '', '2026-01-01T00:00:00.000000Z' FROM generate_series({first}, {last}) n;
INSERT INTO functions (collection_path, name, language, latest_version, created_at, updated_at)
    SELECT 'c' || c, 'f' || f, 'javascript', 10, '2026-01-01T00:00:00.000000Z',
        '2026-01-01T00:00:00.000000Z'
    FROM generate_series({first}, {last}) c, generate_series(0, 9) f;
INSERT INTO deployments (deployment_id, function_id, version, sha256, size, reuse, limits,
        created_at, checked, object_key)
    SELECT gen_random_uuid()::text, f.id, v, repeat('0', 64), 1, 'warm', '{{}}',
        '2026-01-01T00:00:00.000000Z', true, f.id || '-' || v
    FROM functions f, generate_series(1, 10) v
    WHERE NOT EXISTS (SELECT 1 FROM deployments d WHERE d.function_id = f.id);
ANALYZE;
"""

ASKED = {
    "resolve": (queries.RESOLVE, (list(ancestors("c7")), None, "c7", "f3")),
    "resolve a version": (queries.RESOLVE, (list(ancestors("c7")), 4, "c7", "f3")),
    "deployment by id": (queries.DEPLOYMENT_BY_ID, ("{id}", "c7", "f3")),
    "functions of a collection": (queries.FUNCTIONS, ("c7", "f2", 6)),
    "versions": (queries.VERSIONS, ("c7", "f3", 9, 6)),
    "function": (queries.FUNCTION, ("c7", "f3")),
    "collections": (queries.COLLECTIONS, ("c3", "", queries.like_prefix(""), 6)),
}


def _plans(dsn: str, *, indexes: bool = False) -> dict[str, tuple[set[str], int]]:
    """Return for each query the kinds of scan and the rows read from tables.

    ``indexes``: have it use them although a table is so small that reading it all is cheaper.
    """
    connection = psycopg2.connect(dsn)
    connection.autocommit = True
    found = {}
    with connection.cursor() as cursor:
        if indexes:
            cursor.execute("SET enable_seqscan = off")
        cursor.execute(
            "SELECT deployment_id FROM deployments d JOIN functions f ON f.id = function_id"
            " WHERE collection_path = 'c7' AND name = 'f3' AND version = 4"
        )
        [wanted] = cursor.fetchone()
        for name, (query, parameters) in ASKED.items():
            given = tuple(wanted if each == "{id}" else each for each in parameters)
            cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {query}", given)
            scans: set[str] = set()
            rows = _walk(cursor.fetchone()[0][0]["Plan"], scans)
            found[name] = (scans, rows)
    connection.close()
    return found


def _walk(node: dict[str, Any], scans: set[str]) -> int:
    rows = 0
    if "Scan" in node["Node Type"] and "Relation Name" in node:
        scans.add(f"{node['Node Type']} of {node['Relation Name']}")
        per_loop = node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
        rows = (per_loop + node.get("Rows Removed by Index Recheck", 0)) * node["Actual Loops"]
    return int(rows + sum(_walk(child, scans) for child in node.get("Plans", ())))


@pytest.mark.slow
def test_the_queries_read_the_same_rows_whatever_is_kept(backend):
    storage = backend.open()
    storage.check()
    dsn = backend.servers.postgres.dsn(backend.database)
    backend.sql(_FILL.format(first=0, last=9))
    few = _plans(dsn, indexes=True)
    backend.sql(_FILL.format(first=10, last=999))
    assert backend.sql("SELECT count(*) FROM deployments") == [(100_000,)]
    many = _plans(dsn)

    for name in ASKED:
        scans, rows = many[name]
        print(f"{name}: {rows} rows, {', '.join(sorted(scans))}")
        assert all(each.startswith(("Index", "Bitmap")) for each in scans), (name, scans)
        assert rows <= few[name][1], (name, few[name], many[name])
