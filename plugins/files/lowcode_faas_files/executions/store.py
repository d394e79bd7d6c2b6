"""The store of executions: records, lines and interest in one database."""

# ruff: noqa: D102  # the interface says what each method does

from __future__ import annotations

import contextlib
import heapq
import itertools
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from lowcode_faas_core.errors import CapacityError, ExecutionIdTaken, InvalidValue, NotFound
from lowcode_faas_core.interfaces.executions import ExecutionStore
from lowcode_faas_core.model import FunctionRef, Page
from lowcode_faas_core.paging import decode_cursor, encode_cursor
from lowcode_faas_core.records import (
    FunctionStats,
    Record,
    RecordedLine,
    RecordFilter,
    RecordStatus,
)
from lowcode_faas_files.executions import statements
from lowcode_faas_files.executions.adding_up import AddedUp
from lowcode_faas_files.executions.database import Database
from lowcode_faas_files.executions.owners import Owners
from lowcode_faas_files.executions.upkeep import Upkeep

__all__ = ["SqliteExecutions"]

#: Ids that may be of interest at a time.
MOST_INTERESTS: Final = 1000
#: So long a look at statistics waits for those of others, in seconds: each takes memory.
ADD_UP_S: Final = 5.0
#: After every moment and every row.
_END: Final = (2**62, 2**62)

_encode = msgspec.json.Encoder().encode
_record = msgspec.json.Decoder(Record).decode
_line = msgspec.json.Decoder(RecordedLine).decode
_exchange = msgspec.json.Decoder(tuple[str | None, bool, str | None, bool]).decode
_rows = msgspec.json.Decoder(list[tuple[Any, ...]]).decode

_Row = tuple[int, int, str, str]


class SqliteExecutions(ExecutionStore):
    """Keeps executions below the data folder; the README says how."""

    @staticmethod
    def place(data_dir: Path) -> Path:
        """Return where the database of a data folder is."""
        return data_dir / "executions" / "executions.sqlite"

    def __init__(self, data_dir: Path) -> None:
        folder = data_dir / "executions"
        self._database = Database(self.place(data_dir))
        self._owners = Owners(folder / "owners")
        self._upkeep = Upkeep(self._database, self._owners)
        self._adding_up = threading.Lock()

    def begin(self, record: Record) -> None:
        fields = _fields(record, self._owners.own())
        with self._database.writing() as connection:
            [source] = _sources(connection, [record])
            if connection.execute(statements.BEGIN, (source, *fields)).rowcount == 0:
                raise ExecutionIdTaken(f"there is an execution {record.execution_id}")

    def withdraw(self, execution_id: str) -> None:
        with self._database.writing() as connection:
            connection.execute(
                "DELETE FROM executions WHERE execution_id = ? AND owner = ?",
                (execution_id, self._owners.own()),
            )

    def record(self, records: Sequence[Record], lines: Sequence[RecordedLine]) -> None:
        owner: str | None = None
        if any(record.status is RecordStatus.RUNNING for record in records):
            owner = self._owners.own()
        with self._database.writing(upkeep=True) as connection:
            sources = _sources(connection, records)
            for start in range(0, len(records), statements.TOGETHER):
                some = records[start : start + statements.TOGETHER]
                given: list[Any] = []
                for source, record in zip(sources[start:], some, strict=False):
                    given.append(source)
                    given += _fields(record, owner)
                connection.execute(statements.records(len(some)), given)
            exchanges = [
                (
                    each.execution_id,
                    _text((each.input, each.input_cut, each.output, each.output_cut)),
                )
                for each in records
                if each.input is not None or each.output is not None
            ]
            if exchanges:
                connection.execute(statements.EXCHANGES, (_text(exchanges),))
            if lines:
                rows = [
                    (line.execution_id, line.seq, _text(line))
                    for line in lines
                    if line.seq < 1 << statements.LINE_BITS
                ]
                connection.execute(statements.LINES, (_text(rows),))

    def execution(self, execution_id: str) -> Record:
        with self._database.reading() as connection:
            row = connection.execute(statements.EXECUTION, (execution_id,)).fetchone()
        if row is None:
            raise NotFound(f"no execution {execution_id} is kept")
        status, document, exchange = row
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
        with self._database.reading() as connection:
            sources: list[int] | None = None
            select = statements.sources_of(wanted)
            if select is not None:
                sources = [row[0] for row in connection.execute(*select)]
                if not sources:
                    return Page([], None)
            found = list(itertools.islice(_merged(connection, wanted, sources, before), limit + 1))
        page = found[:limit]
        more = f"{page[-1][0]} {page[-1][1]}" if len(found) > limit else None
        return Page(
            [_read(status, document) for _, _, status, document in page],
            None if more is None else encode_cursor(more),
        )

    def lines(self, execution_id: str, after_seq: int, limit: int) -> list[RecordedLine]:
        with self._database.reading() as connection:
            rows = connection.execute(
                statements.LINES_OF, (after_seq, execution_id, limit)
            ).fetchall()
        return [_line(document) for (document,) in rows]

    def stats(self, ref: FunctionRef, since: str) -> FunctionStats:
        if not self._adding_up.acquire(timeout=ADD_UP_S):
            raise CapacityError("statistics of others are being added up")
        try:
            added = AddedUp(self._database, ref, statements.microseconds(since))
            last_error: Record | None = None
            if added.failed_id:
                with contextlib.suppress(NotFound):  # deleted a moment ago
                    last_error = self.execution(added.failed_id)
            return added.stats(last_error)
        finally:
            self._adding_up.release()

    def show_interest(self, execution_id: str, seconds: float) -> bool:
        now = time.time()
        with self._database.writing() as connection:
            connection.execute("DELETE FROM interests WHERE until <= ?", (now,))
            known = connection.execute(
                "SELECT 1 FROM interests WHERE execution_id = ?", (execution_id,)
            ).fetchone()
            connection.execute(
                "INSERT OR REPLACE INTO interests VALUES (?, ?)", (execution_id, now + seconds)
            )
            connection.execute(statements.FORGET_INTERESTS, (MOST_INTERESTS,))
        return known is None

    def interests(self) -> frozenset[str]:
        with self._database.reading() as connection:
            rows = connection.execute(
                "SELECT execution_id FROM interests WHERE until > ?", (time.time(),)
            ).fetchall()
        return frozenset(row[0] for row in rows)

    def tend(self, max_age_s: float, max_bytes: int) -> bool:
        return self._upkeep.step(max_age_s, max_bytes)

    def size(self) -> int:
        self.check()
        return self._database.size()

    def check(self) -> None:
        with self._database.reading() as connection:
            connection.execute("SELECT count(*) FROM interests").fetchone()

    def close(self) -> None:
        self._upkeep.close()
        self._database.close()
        self._owners.close()


def _sources(connection: sqlite3.Connection, records: Sequence[Record]) -> list[int]:
    """Return the id of each record's source, in the transaction that uses it."""
    wanted = [statements.source_of(record) for record in records]
    if not wanted:
        return []
    distinct = list(dict.fromkeys(wanted))
    given = (_text(distinct),)
    connection.execute(statements.SOURCES, given)
    [(found,)] = connection.execute(statements.SOURCE_IDS, given)
    ids = {distinct[place]: source for place, source in _rows(found)}
    return [ids[each] for each in wanted]


def _fields(record: Record, owner: str | None) -> tuple[Any, ...]:
    if record.input is not None or record.output is not None:
        bare = msgspec.structs.replace(
            record, input=None, input_cut=False, output=None, output_cut=False
        )
    else:
        bare = record
    own = owner if record.status is RecordStatus.RUNNING else None
    return statements.fields_of(record, own, _text(bare))


def _text(value: object) -> str:
    return _encode(value).decode()


def _read(status: str, document: str) -> Record:
    record = _record(document)
    if record.status == status:
        return record
    return msgspec.structs.replace(record, status=RecordStatus(status))


def _place(cursor: str) -> tuple[int, int]:
    moment, _, row = decode_cursor(cursor).partition(" ")
    row = row or "0"
    if all(part.isascii() and part.isdigit() and len(part) < 19 for part in (moment, row)):
        return int(moment), int(row)
    raise InvalidValue("the cursor is of another list", "cursor", where="query")


def _merged(
    connection: sqlite3.Connection,
    wanted: RecordFilter,
    sources: list[int] | None,
    before: tuple[int, int],
) -> Iterator[_Row]:
    """Return rows of all branches in one order; each is read only as far as it is needed."""
    found: list[Iterator[_Row]] = [
        connection.execute(text, given)
        for text, given in statements.branches(wanted, sources, before)
    ]
    if len(found) == 1:
        return found[0]
    return heapq.merge(*found, key=lambda row: row[:2], reverse=True)
