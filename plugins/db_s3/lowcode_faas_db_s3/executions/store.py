"""The store of executions: records, lines and interest in tables beside the storage's."""

# ruff: noqa: D102  # the interface says what each method does

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from lowcode_faas_core.errors import ExecutionIdTaken, InvalidValue, NotFound
from lowcode_faas_core.interfaces.executions import ExecutionStore
from lowcode_faas_core.model import FunctionRef, Page
from lowcode_faas_core.paging import decode_cursor, encode_cursor
from lowcode_faas_core.records import (
    FINAL,
    FunctionStats,
    Percentiles,
    Record,
    RecordedLine,
    RecordFilter,
    RecordStatus,
)
from lowcode_faas_db_s3.executions import queries, statements
from lowcode_faas_db_s3.executions.link import Link
from lowcode_faas_db_s3.executions.owner import LEASE_S, Owner
from lowcode_faas_db_s3.executions.upkeep import Upkeep
from lowcode_faas_db_s3.settings import PostgresSettings

__all__ = ["PostgresExecutions"]

#: Ids that may be of interest at a time.
MOST_INTERESTS: Final = 1000
#: Seconds for an answer that an invocation, or a follower, waits for.
HASTE_S: Final = 1.0
#: After every moment and every row.
_END: Final = (2**62, 2**62)

_encode = msgspec.json.Encoder().encode
_record = msgspec.json.Decoder(Record).decode
_exchange = msgspec.json.Decoder(tuple[str | None, bool, str | None, bool]).decode
_line = msgspec.json.Decoder(tuple[str, str, str, str, bool, bool]).decode


class _Row(msgspec.Struct):
    """What the statements take of a record: its source, then the columns."""

    collection_path: str
    function_name: str
    deployment_id: str
    execution_id: str
    run_id: str | None
    started_us: int
    status: str
    start: str | None
    owner: str | None
    run_ms: float | None
    total_ms: float | None
    cpu_ms: float | None
    max_rss_bytes: int | None
    has_error: bool
    bytes: int
    grown: int
    document: str


class PostgresExecutions(ExecutionStore):
    """Keeps executions in PostgreSQL; the package's README says how."""

    def __init__(self, postgres: PostgresSettings, *, lease_s: float = LEASE_S) -> None:
        postgres.require()
        self._link = Link(postgres.dsn, postgres.executions_pool)
        self._owner = Owner(self._link, lease_s)
        self._upkeep = Upkeep(self._link, self._owner)

    def begin(self, record: Record) -> None:
        given = {
            "owner": self._owner.name,
            "sources": _text([_source(record)]),
            "records": _text([_row(record, self._owner.name)]),
        }
        # That it lives is said now only when nothing else has said so lately: whoever writes a
        # batch holds its row, and an invocation would wait.
        seen = [] if self._owner.is_fresh() else [statements.SEEN]
        text = ";".join([*seen, statements.SOURCES, statements.BEGIN])

        def work(cursor: Any, again: bool) -> bool:
            cursor.execute(text, {**given, "again": again})
            return bool(cursor.fetchall())

        begun = self._link.run(work, silence_s=HASTE_S)
        if seen:
            self._owner.was_seen()
        if not begun:
            raise ExecutionIdTaken(f"there is an execution {record.execution_id}")

    def withdraw(self, execution_id: str) -> None:
        given = {"id": execution_id, "owner": self._owner.name}
        if "\0" not in execution_id:
            self._link.rows(statements.WITHDRAW, given, silence_s=HASTE_S)

    def record(self, records: Sequence[Record], lines: Sequence[RecordedLine]) -> None:
        text: list[str] = []
        given: dict[str, str] = {"owner": self._owner.name}
        kept = _distinct(records)
        if kept:
            text += [statements.SOURCES, statements.RECORDS]
            given["sources"] = _text(_sources(kept))
            given["records"] = _text([_row(each, self._owner.name) for each in kept])
        exchanges = [
            {
                "execution_id": each.execution_id,
                "document": _text((each.input, each.input_cut, each.output, each.output_cut)),
            }
            for each in kept
            if each.input is not None or each.output is not None
        ]
        if exchanges:
            text.append(statements.EXCHANGES)
            given["exchanges"] = _text(exchanges)
        if lines:
            text.append(statements.LINES)
            given["lines"] = _text(list(map(_numbered, lines)))
        if text:
            self._link.rows(";".join(text), given)
            self._owner.was_seen()

    def execution(self, execution_id: str) -> Record:
        rows = [] if "\0" in execution_id else self._link.rows(queries.EXECUTION, (execution_id,))
        if not rows:
            raise NotFound(f"no execution {execution_id} is kept")
        [(status, document, exchange)] = rows
        record = _read(status, document)
        if exchange is None:
            return record
        given, given_cut, answered, answered_cut = _exchange(exchange)
        return msgspec.structs.replace(
            record, input=given, input_cut=given_cut, output=answered, output_cut=answered_cut
        )

    def executions(
        self, wanted: RecordFilter, limit: int, cursor: str | None = None
    ) -> Page[Record]:
        before = _END if cursor is None else _place(cursor)
        if any("\0" in part for part in _texts(wanted)):
            return Page([], None)
        sources: list[int] | None = None
        select = queries.sources_of(wanted)
        if select is not None:
            sources = [row[0] for row in self._link.rows(*select)]
            if not sources:
                return Page([], None)
        found = self._link.rows(*queries.listing(wanted, sources, before, limit + 1))
        page = found[:limit]
        more = f"{page[-1][0]} {page[-1][1]}" if len(found) > limit else None
        return Page(
            [_read(status, document) for _, _, status, document in page],
            None if more is None else encode_cursor(more),
        )

    def lines(self, execution_id: str, after_seq: int, limit: int) -> list[RecordedLine]:
        if "\0" in execution_id:
            return []
        rows = self._link.rows(queries.LINES_OF, (execution_id, after_seq, limit))
        return [_line_of(execution_id, seq, document) for seq, document in rows]

    def stats(self, ref: FunctionRef, since: str) -> FunctionStats:
        given = {
            "path": ref.collection_path,
            "name": ref.name,
            "since": queries.microseconds(since),
        }
        [row] = self._link.rows(queries.STATS, given)
        by_status, run_ms, total_ms, cold, cpu_ms, peak, document = row
        failed = None if document is None else _record(document)
        return FunctionStats(
            by_status=by_status,
            run_ms=_percentiles(run_ms),
            total_ms=_percentiles(total_ms),
            cold_share=None if cold is None else round(float(cold), 4),
            cpu_ms=None if cpu_ms is None else round(cpu_ms, 3),
            max_rss_bytes=peak or None,
            last_error_id=None if failed is None else failed.execution_id,
            last_error_at=None if failed is None else failed.started_at,
            last_error=None if failed is None else failed.error,
        )

    def show_interest(self, execution_id: str, seconds: float) -> bool:
        if "\0" in execution_id:
            return False
        given = {"id": execution_id, "seconds": seconds}
        [(holds,)] = self._link.rows(statements.INTEREST, given, silence_s=HASTE_S)
        if not holds:
            self._link.rows(
                statements.FORGET_INTERESTS, {"most": MOST_INTERESTS}, silence_s=HASTE_S
            )
        return not holds

    def interests(self) -> frozenset[str]:
        rows = self._link.rows(queries.INTERESTS, silence_s=HASTE_S)
        return frozenset(execution_id for (execution_id,) in rows)

    def tend(self, max_age_s: float, max_bytes: int) -> bool:
        return self._upkeep.step(max_age_s, max_bytes)

    def size(self) -> int:
        [(size,)] = self._link.rows(queries.SIZE)
        return int(size)

    def check(self) -> None:
        self._link.rows(queries.CHECK, silence_s=HASTE_S)

    def close(self) -> None:
        self._upkeep.close()
        self._owner.close()
        self._link.close()


def _source(record: Record) -> dict[str, str]:
    return {
        "collection_path": record.collection_path,
        "function_name": record.function_name,
        "deployment_id": record.deployment_id,
    }


def _sources(records: Iterable[Record]) -> list[dict[str, str]]:
    found = {
        (each.collection_path, each.function_name, each.deployment_id): each for each in records
    }
    return [_source(each) for each in found.values()]


def _distinct(records: Sequence[Record]) -> list[Record]:
    """Return what one batch comes to, in the order of the ids: a statement takes each id once."""
    kept: dict[str, Record] = {}
    for record in records:
        before = kept.get(record.execution_id)
        if before is None or _rank(record) > _rank(before):
            kept[record.execution_id] = record
    return [kept[each] for each in sorted(kept)]


def _rank(record: Record) -> int:
    if record.status in FINAL:
        return 2
    return int(record.status is RecordStatus.LOST)


def _row(record: Record, owner: str) -> _Row:
    timings, usage = record.timings_ms, record.usage
    bare = record
    if record.input is not None or record.output is not None:
        bare = msgspec.structs.replace(
            record, input=None, input_cut=False, output=None, output_cut=False
        )
    document = _encode(bare)
    running = record.status is RecordStatus.RUNNING
    size = 0 if running else len(document) + statements.EXECUTION_BYTES
    return _Row(
        record.collection_path,
        record.function_name,
        record.deployment_id,
        record.execution_id,
        None if record.run_id == record.execution_id else record.run_id,
        queries.microseconds(record.started_at),
        record.status,
        record.start,
        owner if running else None,
        None if timings is None else timings.run,
        None if timings is None else timings.total,
        None if usage is None else usage.cpu_ms,
        None if usage is None else usage.max_rss_bytes,
        record.error is not None,
        size,
        size,
        document.decode(),
    )


def _numbered(line: RecordedLine) -> dict[str, Any]:
    document = (line.ts, line.level, line.log_stream, line.message, line.late, line.truncated)
    return {"execution_id": line.execution_id, "seq": line.seq, "document": _text(document)}


def _line_of(execution_id: str, seq: int, document: str) -> RecordedLine:
    ts, level, log_stream, message, late, truncated = _line(document)
    return RecordedLine(
        execution_id=execution_id,
        seq=seq,
        ts=ts,
        level=level,
        log_stream=log_stream,
        message=message,
        late=late,
        truncated=truncated,
    )


def _text(value: object) -> str:
    return _encode(value).decode()


def _texts(wanted: RecordFilter) -> Iterable[str]:
    given = (wanted.collection_path, wanted.function_name, wanted.deployment_id, wanted.run_id)
    return (part for part in given if part is not None)


def _read(status: str, document: str) -> Record:
    record = _record(document)
    if record.status == status:
        return record
    return msgspec.structs.replace(record, status=RecordStatus(status))


def _percentiles(found: list[float] | None) -> Percentiles:
    return Percentiles(None, None, None) if found is None else Percentiles(*found)


def _place(cursor: str) -> tuple[int, int]:
    moment, _, row = decode_cursor(cursor).partition(" ")
    if all(part.isascii() and part.isdigit() and len(part) < 19 for part in (moment, row)):
        return int(moment), int(row)
    raise InvalidValue("the cursor is of another list", "cursor", where="query")
