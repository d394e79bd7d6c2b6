"""The statements that read, apart from who runs them, so that the tests explain what runs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from lowcode_faas_core.model import StartKind
from lowcode_faas_core.records import RecordFilter, RecordStatus

__all__ = [
    "CHECK",
    "EXECUTION",
    "INTERESTS",
    "LINES_OF",
    "SIZE",
    "STATS",
    "listing",
    "microseconds",
    "sources_of",
]

#: Sources up to which each is looked through by its own index.
FEW_SOURCES: Final = 500

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)

CHECK: Final = "SELECT 1 FROM execution_owners LIMIT 1"

SIZE: Final = "SELECT coalesce(sum(bytes), 0)::bigint FROM execution_owners"

INTERESTS: Final = "SELECT execution_id FROM execution_interests WHERE until > now()"

#: Parameter: execution id. One record, and what was kept of input and output.
EXECUTION: Final = """
SELECT e.status, e.document, x.document FROM executions e
LEFT JOIN execution_exchanges x ON x.execution = e.id WHERE e.execution_id = %s"""

#: Parameters: execution id, after which number, how many.
LINES_OF: Final = """
SELECT l.seq, l.document FROM execution_lines l
WHERE l.execution = (SELECT id FROM executions WHERE execution_id = %s) AND l.seq > %s
ORDER BY l.seq LIMIT %s"""

_SHARES: Final = "ARRAY[0.5, 0.95, 0.99]::float8[]"

#: Parameters: since, collection, name; since when. One row.
STATS: Final = f"""
WITH chosen AS MATERIALIZED (
    SELECT e.id, e.started_us, e.status, e.start, e.run_ms, e.total_ms, e.cpu_ms, e.max_rss_bytes,
        e.has_error
    FROM execution_sources s
    CROSS JOIN LATERAL (
        SELECT * FROM executions x WHERE x.source_id = s.id AND x.started_us >= %(since)s) e
    WHERE s.collection_path = %(path)s AND s.function_name = %(name)s),
failed AS (
    SELECT id FROM chosen WHERE has_error ORDER BY started_us DESC, id DESC LIMIT 1)
SELECT
    (SELECT coalesce(json_object_agg(c.status, c.n), '{{}}')
        FROM (SELECT status, count(*) AS n FROM chosen GROUP BY status) c),
    percentile_disc({_SHARES}) WITHIN GROUP (ORDER BY run_ms),
    percentile_disc({_SHARES}) WITHIN GROUP (ORDER BY total_ms),
    avg(CASE start WHEN '{StartKind.COLD.value}' THEN 1 ELSE 0 END)
        FILTER (WHERE start IS NOT NULL),
    sum(cpu_ms),
    max(max_rss_bytes),
    (SELECT e.document FROM executions e WHERE e.id = (SELECT id FROM failed))
FROM chosen"""


def microseconds(moment: str) -> int:
    """Return a record's time as a number."""
    return (datetime.fromisoformat(moment) - _EPOCH) // _MICROSECOND


def sources_of(wanted: RecordFilter) -> tuple[str, list[Any]] | None:
    """Return the statement that finds the sources a filter selects; ``None`` when it does not."""
    conditions: list[str] = []
    given: list[Any] = []
    if wanted.collection_path:
        # "0" is the character after "/": the range holds what is below, and no namesake.
        conditions.append("(collection_path = %s OR collection_path > %s AND collection_path < %s)")
        path = wanted.collection_path
        given += [path, f"{path}/", f"{path}0"]
    for column, value in (
        ("function_name", wanted.function_name),
        ("deployment_id", wanted.deployment_id),
    ):
        if value is not None:
            conditions.append(f"{column} = %s")
            given.append(value)
    if not conditions:
        return None
    return f"SELECT id FROM execution_sources WHERE {' AND '.join(conditions)}", given


def listing(
    wanted: RecordFilter, sources: list[int] | None, before: tuple[int, int], limit: int
) -> tuple[str, list[Any]]:
    """Return the statement of one page: places by index, newest first, then their documents.

    ``sources`` are those the filter selects, ``None`` when it does not. ``before`` is the place at
    which the list goes on.
    """
    conditions, given = _conditions(wanted, before)
    by_source = sources is not None and len(sources) <= FEW_SOURCES
    if sources is not None and (wanted.run_id is not None or not by_source):
        conditions.append("e.source_id = ANY(%s::bigint[])")
        given.append(sources)

    def branch(own: str, *values: object) -> tuple[str, list[Any]]:
        where = " AND ".join(filter(None, (own, *conditions)))
        return (
            f"SELECT e.started_us, e.id FROM executions e WHERE {where}"
            " ORDER BY e.started_us DESC, e.id DESC LIMIT %s",
            [*values, *given, limit],
        )

    if wanted.run_id is not None:
        one, values = branch("e.run_id = %s", wanted.run_id)
        other, more = branch("e.execution_id = %s AND e.run_id IS NULL", wanted.run_id)
        places, parameters = f"({one}) UNION ALL ({other})", [*values, *more]
    elif by_source:
        one, values = branch("e.source_id = s.id")
        places = f"SELECT b.* FROM unnest(%s::bigint[]) s(id) CROSS JOIN LATERAL ({one}) b"
        parameters = [sources, *values]
    else:
        places, parameters = branch("")
    return (
        "SELECT e.started_us, e.id, e.status, e.document FROM ("
        f"SELECT * FROM ({places}) u ORDER BY u.started_us DESC, u.id DESC LIMIT %s"
        ") p JOIN executions e ON e.id = p.id ORDER BY p.started_us DESC, p.id DESC",
        [*parameters, limit],
    )


def _conditions(wanted: RecordFilter, before: tuple[int, int]) -> tuple[list[str], list[Any]]:
    conditions = ["(e.started_us, e.id) < (%s, %s)"]
    given: list[Any] = [*before]
    for comparison, moment in ((">=", wanted.since), ("<", wanted.until)):
        if moment is not None:
            conditions.append(f"e.started_us {comparison} %s")
            given.append(microseconds(moment))
    if wanted.status is not None:
        conditions.append("e.status = %s")
        given.append(wanted.status.value)
        if wanted.status != RecordStatus.SUCCEEDED:
            conditions.append("e.status <> 'succeeded'")
    if wanted.start is not None:
        conditions.append("e.start = %s")
        given.append(wanted.start.value)
        if wanted.start != StartKind.WARM:
            conditions.append("e.start <> 'warm'")
    return conditions, given
