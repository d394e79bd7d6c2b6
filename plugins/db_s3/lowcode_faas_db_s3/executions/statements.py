"""The statements that write and delete, apart from who runs them.

A batch is a few statements over JSON, sent as one message: they are one transaction, and one round
trip. Rows are written and locked in the order of their ids, so that no two writers wait for each
other. Each statement counts what it adds to, or takes from, the account of its own owner.
"""

from __future__ import annotations

from typing import Final

from lowcode_faas_core.records import FINAL

__all__ = [
    "BEGIN",
    "CLOSE_OWNER",
    "DELETE_EXCHANGES",
    "DELETE_EXECUTIONS",
    "DELETE_LINES",
    "EXCHANGES",
    "EXCHANGE_BYTES",
    "EXECUTION_BYTES",
    "FOLD_OWNERS",
    "FORGET_INTERESTS",
    "FORGET_OVER",
    "FORGET_SOURCES",
    "INTEREST",
    "LINES",
    "LINE_BYTES",
    "LOSE",
    "OLDEST",
    "RECORDS",
    "SEEN",
    "SOURCES",
    "STATE",
    "WEIGHED",
    "WITHDRAW",
]

#: What a row takes beside its document: its other columns, its header, and its part of the indexes.
EXECUTION_BYTES: Final = 650
EXCHANGE_BYTES: Final = 60
LINE_BYTES: Final = 90

_VERDICTS: Final = ", ".join(f"'{status.value}'" for status in sorted(FINAL))

_TYPES: Final = {
    "execution_id": "text",
    "run_id": "text",
    "started_us": "bigint",
    "status": "text",
    "start": "text",
    "owner": "text",
    "run_ms": "float8",
    "total_ms": "float8",
    "cpu_ms": "float8",
    "max_rss_bytes": "bigint",
    "has_error": "boolean",
    "bytes": "int",
    "grown": "int",
    "document": "text",
}
_NAMES: Final = ", ".join(_TYPES)
_GIVEN: Final = ", ".join(f"{name} {kind}" for name, kind in _TYPES.items())
_SOURCE: Final = "collection_path text, function_name text, deployment_id text"

#: Adds what the statement before it, ``kept (n)``, counted. Parameter: owner.
_ACCOUNT: Final = """
INSERT INTO execution_owners AS o (owner, seen_at, bytes)
SELECT %(owner)s, now(), coalesce(sum(kept.n), 0) FROM kept
ON CONFLICT (owner) DO UPDATE SET seen_at = excluded.seen_at, bytes = o.bytes + excluded.bytes"""

#: Parameter: owner.
SEEN: Final = """
INSERT INTO execution_owners (owner, seen_at, bytes) VALUES (%(owner)s, now(), 0)
ON CONFLICT (owner) DO UPDATE SET seen_at = excluded.seen_at"""

#: Parameter: a JSON array of sources. Those used lately are only looked at.
SOURCES: Final = f"""
INSERT INTO execution_sources (collection_path, function_name, deployment_id)
SELECT j.collection_path, j.function_name, j.deployment_id
FROM json_to_recordset(%(sources)s) AS j({_SOURCE})
WHERE NOT EXISTS (
    SELECT 1 FROM execution_sources s
    WHERE s.collection_path = j.collection_path AND s.function_name = j.function_name
    AND s.deployment_id = j.deployment_id AND s.used_on >= current_date - 1)
ORDER BY 1, 2, 3
ON CONFLICT (collection_path, function_name, deployment_id) DO UPDATE SET used_on = current_date"""

_INSERT: Final = f"""
INSERT INTO executions AS e (source_id, {_NAMES})
SELECT s.id, {", ".join(f"j.{name}" for name in _TYPES)}
FROM json_to_recordset(%(records)s) AS j({_SOURCE}, {_GIVEN})
JOIN execution_sources s USING (collection_path, function_name, deployment_id)
ORDER BY j.execution_id
ON CONFLICT (execution_id)"""

#: Parameter: a JSON array of rows. Taken ids make no row, unless it is the very same record.
BEGIN: Final = f"""
WITH begun AS ({_INSERT} DO NOTHING RETURNING 1)
SELECT 1 FROM begun UNION ALL
SELECT 1 FROM executions e JOIN json_to_recordset(%(records)s) AS j({_GIVEN})
    USING (execution_id) WHERE e.owner = j.owner AND e.document = j.document AND %(again)s"""

#: Parameters: a JSON array of rows, no id twice; owner.
RECORDS: Final = f"""
WITH kept AS ({_INSERT} DO UPDATE SET source_id = excluded.source_id,
    {", ".join(f"{name} = excluded.{name}" for name in _TYPES if name not in ("execution_id", "grown"))},
    grown = excluded.bytes - e.bytes
WHERE e.status = 'running' AND excluded.status <> 'running'
    OR e.status = 'lost' AND excluded.status IN ({_VERDICTS})
RETURNING grown AS n) {_ACCOUNT}"""

# Whoever deletes an execution holds it FOR UPDATE: what is written to it waits, and finds it gone.
_KNOWN: Final = """
known AS MATERIALIZED (
    SELECT e.id, e.execution_id FROM executions e
    WHERE e.execution_id IN (SELECT execution_id FROM given)
    ORDER BY e.execution_id FOR KEY SHARE)"""

#: Parameters: a JSON array of documents by execution id; owner.
EXCHANGES: Final = f"""
WITH given AS MATERIALIZED (
    SELECT * FROM json_to_recordset(%(exchanges)s) AS j(execution_id text, document text)),
{_KNOWN},
kept AS (
    INSERT INTO execution_exchanges (execution, document)
    SELECT k.id, g.document FROM given g JOIN known k USING (execution_id) ORDER BY 1
    ON CONFLICT DO NOTHING RETURNING octet_length(document) + {EXCHANGE_BYTES} AS n)
{_ACCOUNT}"""

#: Parameters: a JSON array of numbered documents by execution id; owner.
LINES: Final = f"""
WITH given AS MATERIALIZED (
    SELECT * FROM json_to_recordset(%(lines)s) AS j(execution_id text, seq bigint, document text)),
{_KNOWN},
kept AS (
    INSERT INTO execution_lines (execution, seq, document)
    SELECT k.id, g.seq, g.document FROM given g JOIN known k USING (execution_id) ORDER BY 1, 2
    ON CONFLICT DO NOTHING RETURNING octet_length(document) + {LINE_BYTES} AS n)
{_ACCOUNT}"""

#: Parameters: execution id, owner.
WITHDRAW: Final = """
DELETE FROM executions WHERE execution_id = %(id)s AND owner = %(owner)s AND status = 'running'"""

#: Parameters: execution id, seconds. Returns whether an earlier interest holds.
INTEREST: Final = """
WITH kept AS (
    INSERT INTO execution_interests (execution_id, until)
    VALUES (%(id)s, now() + %(seconds)s * interval '1 second')
    ON CONFLICT (execution_id) DO UPDATE SET until = excluded.until)
SELECT EXISTS (
    SELECT 1 FROM execution_interests WHERE execution_id = %(id)s AND until > now())"""

#: Parameter: how many interests may stay; the oldest go.
FORGET_INTERESTS: Final = """
DELETE FROM execution_interests WHERE execution_id IN (
    SELECT execution_id FROM execution_interests ORDER BY until DESC, execution_id DESC
    OFFSET %(most)s FOR UPDATE SKIP LOCKED)"""

FORGET_OVER: Final = """
DELETE FROM execution_interests WHERE execution_id IN (
    SELECT execution_id FROM execution_interests WHERE until <= now()
    ORDER BY until LIMIT 1000 FOR UPDATE SKIP LOCKED)"""

#: Parameters: seconds an owner is believed to live, whether silence counts; owner. One whose row is
#: gone, or who said goodbye, is gone in any case.
LOSE: Final = f"""
WITH gone AS MATERIALIZED (
    SELECT e.id FROM executions e
    WHERE e.status = 'running' AND e.status <> 'succeeded' AND e.owner IS DISTINCT FROM %(owner)s
    AND NOT EXISTS (
        SELECT 1 FROM execution_owners o WHERE o.owner = e.owner
        AND o.seen_at > CASE WHEN %(judge)s
            THEN now() - %(lease)s * interval '1 second' ELSE '-infinity' END)
    ORDER BY e.execution_id LIMIT 1000 FOR UPDATE OF e SKIP LOCKED),
kept AS (
    UPDATE executions e SET status = 'lost', owner = NULL,
        bytes = octet_length(e.document) + {EXECUTION_BYTES}, grown = 0
    FROM gone WHERE e.id = gone.id RETURNING e.bytes AS n)
{_ACCOUNT}"""

#: Parameters: seconds after which a row without a use is removed; owner, who takes its account over.
FOLD_OWNERS: Final = f"""
WITH kept AS (
    DELETE FROM execution_owners WHERE owner IN (
        SELECT o.owner FROM execution_owners o
        WHERE o.seen_at < now() - %(fold)s * interval '1 second' AND o.owner <> %(owner)s
        AND NOT EXISTS (
            SELECT 1 FROM executions e WHERE e.status = 'running' AND e.status <> 'succeeded'
            AND e.owner = o.owner)
        FOR UPDATE SKIP LOCKED)
    RETURNING bytes AS n)
{_ACCOUNT}"""

#: Parameter: owner. What it ran is lost from now on; its account stays.
CLOSE_OWNER: Final = "UPDATE execution_owners SET seen_at = '-infinity' WHERE owner = %(owner)s"

#: Days are far longer than a transaction: nobody is about to use what was not used for three.
FORGET_SOURCES: Final = """
DELETE FROM execution_sources WHERE id IN (
    SELECT s.id FROM execution_sources s
    WHERE s.used_on < current_date - 3
    AND NOT EXISTS (SELECT 1 FROM executions e WHERE e.source_id = s.id)
    ORDER BY s.id LIMIT 1000)"""

#: Parameter: seconds. What all accounts come to, before when is too old, and whether anything is.
STATE: Final = """
SELECT (SELECT coalesce(sum(bytes), 0)::bigint FROM execution_owners), edge, EXISTS (
    SELECT 1 FROM executions e WHERE e.started_us < edge AND e.status <> 'running')
FROM (SELECT (extract(epoch FROM now()) * 1000000 - %(age)s * 1000000.0)::bigint AS edge) a"""

#: Parameters: before which moment, how many.
OLDEST: Final = """
SELECT e.id, e.bytes FROM executions e
WHERE e.started_us < %(before)s AND e.status <> 'running'
ORDER BY e.started_us, e.id LIMIT %(most)s FOR UPDATE SKIP LOCKED"""

#: Parameters: rows, lines at most. For each how many lines it has, and what all of it counts for.
WEIGHED: Final = f"""
SELECT k.id, l.n, l.bytes
    + coalesce((SELECT octet_length(x.document) + {EXCHANGE_BYTES}
        FROM execution_exchanges x WHERE x.execution = k.id), 0)
FROM unnest(%(ids)s::bigint[]) WITH ORDINALITY k(id, place)
CROSS JOIN LATERAL (
    SELECT count(*) AS n, coalesce(sum(octet_length(c.document) + {LINE_BYTES}), 0) AS bytes
    FROM (SELECT document FROM execution_lines WHERE execution = k.id LIMIT %(most)s) c) l
ORDER BY k.place"""

# By their places, which no plan can miss: they are held by their execution, and never updated.
#: Parameters: rows, lines at most; owner.
DELETE_LINES: Final = f"""
WITH kept AS (
    DELETE FROM execution_lines l WHERE l.ctid = ANY(ARRAY(
        SELECT c.ctid FROM unnest(%(ids)s::bigint[]) k(id)
        CROSS JOIN LATERAL (SELECT ctid FROM execution_lines WHERE execution = k.id) c
        LIMIT %(most)s))
    RETURNING -(octet_length(l.document) + {LINE_BYTES}) AS n)
{_ACCOUNT}"""

#: Parameters: rows; owner.
DELETE_EXCHANGES: Final = f"""
WITH kept AS (
    DELETE FROM execution_exchanges WHERE execution = ANY(%(ids)s::bigint[])
    RETURNING -(octet_length(document) + {EXCHANGE_BYTES}) AS n)
{_ACCOUNT}"""

#: Parameters: rows whose lines are gone; owner.
DELETE_EXECUTIONS: Final = f"""
WITH kept AS (
    DELETE FROM executions WHERE id = ANY(%(ids)s::bigint[]) RETURNING -bytes AS n)
{_ACCOUNT}"""
