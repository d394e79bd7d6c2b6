"""The statements, apart from who runs them, so that the tests explain the very text that runs.

A batch is a few statements, over rows of values or a JSON array: each step of a statement gives the
interpreter's lock away and waits for it again, which on a busy process takes longer than the writing.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from lowcode_faas_core.model import StartKind
from lowcode_faas_core.records import FINAL, Record, RecordFilter, RecordStatus

__all__ = [
    "BEGIN",
    "DELETE",
    "DELETE_LINES",
    "EXCHANGES",
    "EXECUTION",
    "FORGET_INTERESTS",
    "LINES",
    "LINES_OF",
    "LINE_BITS",
    "LOSE",
    "OLDEST",
    "RUNNING_OWNERS",
    "SOURCES",
    "SOURCES_OF",
    "SOURCE_IDS",
    "STATS",
    "TOGETHER",
    "branches",
    "fields_of",
    "microseconds",
    "records",
    "source_of",
    "sources_of",
]

#: Bits of a line's key that hold its number in its execution.
LINE_BITS: Final = 27
#: Sources up to which each is looked through by its own index.
FEW_SOURCES: Final = 500

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_VERDICTS: Final = ", ".join(f"'{status.value}'" for status in sorted(FINAL))

_COLUMNS: Final = (
    "execution_id",
    "run_id",
    "started_us",
    "status",
    "start",
    "owner",
    "run_ms",
    "total_ms",
    "cpu_ms",
    "max_rss_bytes",
    "has_error",
    "document",
)
_NAMES: Final = ", ".join(_COLUMNS)
_ROW: Final = f"(?{', ?' * len(_COLUMNS)})"

#: Parameter: a JSON array of sources. Makes those that are not there.
SOURCES: Final = """
INSERT OR IGNORE INTO sources (collection_path, function_name, deployment_id)
SELECT j.value ->> 0, j.value ->> 1, j.value ->> 2 FROM json_each(?) j"""

#: Parameter: the same. One row: a JSON array of [place in the given array, source's id].
SOURCE_IDS: Final = """
SELECT json_group_array(json_array(j.key, s.id)) FROM json_each(?) j
CROSS JOIN sources s ON s.collection_path = j.value ->> 0
    AND s.function_name = j.value ->> 1 AND s.deployment_id = j.value ->> 2"""

#: Parameters: a source's id and :func:`fields_of`. A taken id makes no row.
BEGIN: Final = f"INSERT INTO executions (source_id, {_NAMES}) VALUES {_ROW} ON CONFLICT DO NOTHING"

#: Records of one statement: few enough for its parameters, whose number SQLite limits.
TOGETHER: Final = 100


def records(count: int) -> str:
    """Return the statement that keeps so many; parameters as for ``BEGIN``, one after the other.

    Rows of values take half the time of rows out of a JSON array.
    """
    return f"""
INSERT INTO executions (source_id, {_NAMES}) VALUES {", ".join([_ROW] * count)}
ON CONFLICT (execution_id) DO UPDATE SET source_id = excluded.source_id,
    {", ".join(f"{name} = excluded.{name}" for name in _COLUMNS[1:])}
WHERE executions.status = 'running' AND excluded.status <> 'running'
    OR executions.status = 'lost' AND excluded.status IN ({_VERDICTS})"""


#: Parameter: a JSON array of [execution id, document].
EXCHANGES: Final = """
INSERT OR IGNORE INTO exchanges (id, document)
SELECT e.id, j.value ->> 1 FROM json_each(?) j
CROSS JOIN executions e ON e.execution_id = j.value ->> 0"""

#: Parameter: a JSON array of [execution id, number, document].
LINES: Final = f"""
INSERT OR IGNORE INTO lines (key, document)
SELECT (e.id << {LINE_BITS}) | (j.value ->> 1), j.value ->> 2 FROM json_each(?) j
CROSS JOIN executions e ON e.execution_id = j.value ->> 0"""

#: Parameter: a JSON array of owners.
LOSE: Final = """
UPDATE executions INDEXED BY executions_by_status SET status = 'lost', owner = NULL
WHERE status = 'running' AND status <> 'succeeded' AND owner IN (SELECT value FROM json_each(?))"""

#: Who owns what runs.
RUNNING_OWNERS: Final = """
SELECT DISTINCT owner FROM executions INDEXED BY executions_by_status
WHERE status = 'running' AND status <> 'succeeded'"""

#: Parameters: before which moment, how many. The oldest, and how many lines each has.
OLDEST: Final = f"""
SELECT e.id, (
    SELECT count(*) FROM lines l
    WHERE l.key >= e.id << {LINE_BITS} AND l.key < (e.id + 1) << {LINE_BITS})
FROM executions e INDEXED BY executions_by_time
WHERE e.started_us < :before AND e.status <> 'running' ORDER BY e.started_us LIMIT :most"""

#: Parameters: a JSON array of rows, how many lines.
DELETE_LINES: Final = f"""
DELETE FROM lines WHERE key IN (
    SELECT l.key FROM json_each(:ids) j
    CROSS JOIN lines l
        ON l.key >= j.value << {LINE_BITS} AND l.key < (j.value + 1) << {LINE_BITS}
    LIMIT :most)"""

#: Parameter: a JSON array of rows whose lines are gone. Sources nothing is left of go first.
DELETE: Final = (
    "DELETE FROM exchanges WHERE id IN (SELECT value FROM json_each(:ids))",
    """
DELETE FROM sources WHERE id IN (
    SELECT e.source_id FROM executions e WHERE e.id IN (SELECT value FROM json_each(:ids)))
AND NOT EXISTS (
    SELECT 1 FROM executions o INDEXED BY executions_by_source
    WHERE o.source_id = sources.id AND o.id NOT IN (SELECT value FROM json_each(:ids)))""",
    "DELETE FROM executions WHERE id IN (SELECT value FROM json_each(:ids))",
)

#: Parameter: execution id. One record, and what was kept of input and output.
EXECUTION: Final = """
SELECT e.status, e.document, x.document FROM executions e
LEFT JOIN exchanges x ON x.id = e.id WHERE e.execution_id = ?"""

#: Parameters: after which number, execution id, how many.
LINES_OF: Final = f"""
SELECT l.document FROM executions e
CROSS JOIN lines l ON l.key > (e.id << {LINE_BITS}) + ? AND l.key < (e.id + 1) << {LINE_BITS}
WHERE e.execution_id = ? ORDER BY l.key LIMIT ?"""

#: Parameter: how many interests may stay; the oldest go.
FORGET_INTERESTS: Final = """
DELETE FROM interests WHERE execution_id IN (
    SELECT execution_id FROM interests ORDER BY until
    LIMIT max(0, (SELECT count(*) FROM interests) - ?))"""

#: Parameters: collection, name. One row: a JSON array of the ids of its sources.
SOURCES_OF: Final = """
SELECT json_group_array(id) FROM sources INDEXED BY sources_by_name
WHERE collection_path = ? AND function_name = ?"""

#: Parameters: a source, after which moment and row, how many. One row: a JSON array of their sums.
STATS: Final = """
WITH slice AS MATERIALIZED (
    SELECT id, execution_id, started_us, status, start, run_ms, total_ms, cpu_ms, max_rss_bytes, has_error
    FROM executions INDEXED BY executions_by_source
    WHERE source_id = :source AND (started_us, id) > (:us, :row)
    ORDER BY started_us, id LIMIT :most)
SELECT json_array(
    json((SELECT json_group_object(status, count)
        FROM (SELECT status, count(*) AS count FROM slice GROUP BY status))),
    json(json_group_array(run_ms) FILTER (WHERE run_ms IS NOT NULL)),
    json(json_group_array(total_ms) FILTER (WHERE total_ms IS NOT NULL)),
    count(start), count(*) FILTER (WHERE start = 'cold'), sum(cpu_ms), max(max_rss_bytes),
    (SELECT started_us FROM slice WHERE has_error ORDER BY started_us DESC, execution_id DESC LIMIT 1),
    (SELECT execution_id FROM slice WHERE has_error
        ORDER BY started_us DESC, execution_id DESC LIMIT 1),
    (SELECT started_us FROM slice ORDER BY started_us DESC, id DESC LIMIT 1),
    (SELECT id FROM slice ORDER BY started_us DESC, id DESC LIMIT 1))
FROM slice"""


def microseconds(moment: str) -> int:
    """Return a record's time as a number."""
    return (datetime.fromisoformat(moment) - _EPOCH) // _MICROSECOND


def source_of(record: Record) -> tuple[str, str, str]:
    """Return the source of a record."""
    return record.collection_path, record.function_name, record.deployment_id


def fields_of(record: Record, owner: str | None, document: str) -> tuple[Any, ...]:
    """Return the columns of a record, but for its source."""
    timings, usage = record.timings_ms, record.usage
    return (
        record.execution_id,
        None if record.run_id == record.execution_id else record.run_id,
        microseconds(record.started_at),
        record.status,
        record.start,
        owner,
        None if timings is None else timings.run,
        None if timings is None else timings.total,
        None if usage is None else usage.cpu_ms,
        None if usage is None else usage.max_rss_bytes,
        int(record.error is not None),
        document,
    )


def sources_of(wanted: RecordFilter) -> tuple[str, list[Any]] | None:
    """Return the statement that finds the sources a filter selects; ``None`` when it does not."""
    conditions: list[str] = []
    given: list[Any] = []
    if wanted.collection_path:
        # "0" is the character after "/": the range holds what is below, and no namesake.
        conditions.append("(collection_path = ? OR collection_path > ? AND collection_path < ?)")
        path = wanted.collection_path
        given += [path, f"{path}/", f"{path}0"]
    for column, value in (
        ("function_name", wanted.function_name),
        ("deployment_id", wanted.deployment_id),
    ):
        if value is not None:
            conditions.append(f"{column} = ?")
            given.append(value)
    if not conditions:
        return None
    return f"SELECT id FROM sources WHERE {' AND '.join(conditions)}", given


def branches(
    wanted: RecordFilter, sources: list[int] | None, before: tuple[int, int]
) -> list[tuple[str, list[Any]]]:
    """Return statements each of which lists a part, newest first, by an index; merge them.

    ``sources`` are those the filter selects, ``None`` when it does not. ``before`` is the place at
    which the list goes on.
    """
    conditions: list[str] = ["(e.started_us, e.id) < (?, ?)"]
    given: list[Any] = [*before]
    if wanted.since is not None:
        conditions.append("e.started_us >= ?")
        given.append(microseconds(wanted.since))
    if wanted.until is not None:
        conditions.append("e.started_us < ?")
        given.append(microseconds(wanted.until))
    rare_status = wanted.status not in (None, RecordStatus.SUCCEEDED)
    rare_start = wanted.start not in (None, StartKind.WARM)
    if wanted.status is not None:
        conditions.append("e.status = ?")
        given.append(wanted.status.value)
        if rare_status:
            conditions.append("e.status <> 'succeeded'")
    if wanted.start is not None:
        conditions.append("e.start = ?")
        given.append(wanted.start.value)
        if rare_start:
            conditions.append("e.start <> 'warm'")

    def select(index: str, *more: str, values: tuple[Any, ...] = ()) -> tuple[str, list[Any]]:
        return (
            f"SELECT e.started_us, e.id, e.status, e.document FROM executions e {index}"
            f" WHERE {' AND '.join((*more, *conditions))}"
            " ORDER BY e.started_us DESC, e.id DESC",
            [*values, *given],
        )

    if wanted.run_id is not None:
        if sources is not None:
            conditions.append(f"e.source_id IN ({', '.join(map(str, sources))})")
        own = "e.run_id IS NULL"
        return [
            select("INDEXED BY executions_by_run", "e.run_id = ?", values=(wanted.run_id,)),
            select(
                "INDEXED BY sqlite_autoindex_executions_1",
                "e.execution_id = ?",
                own,
                values=(wanted.run_id,),
            ),
        ]
    by_source = sources is not None and len(sources) <= FEW_SOURCES
    if sources is not None and (rare_status or not by_source):
        conditions.append(f"e.source_id IN ({', '.join(map(str, sources))})")
    if rare_status:
        return [select("INDEXED BY executions_by_status")]
    if sources is not None and by_source:
        index = "INDEXED BY executions_by_source"
        return [select(index, "e.source_id = ?", values=(source,)) for source in sources]
    if rare_start:
        return [select("INDEXED BY executions_by_start")]
    return [select("INDEXED BY executions_by_time")]
