"""Execution records in memory, for tests."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

from lowcode_faas_core.errors import ExecutionIdTaken, FaasError, NotFound, StorageUnavailable
from lowcode_faas_core.interfaces.executions import ExecutionStore
from lowcode_faas_core.model import FunctionRef, Page
from lowcode_faas_core.paging import decode_cursor, encode_cursor
from lowcode_faas_core.records import (
    FINAL,
    FunctionStats,
    Measured,
    Record,
    RecordedLine,
    RecordFilter,
    RecordStatus,
    stats_of,
)

__all__ = ["MemoryExecutionStore"]

#: Ids that may be of interest at a time.
MOST_INTERESTS = 1000


class _Shelf:
    """What several handles share."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.records: dict[str, Record] = {}
        self.owners: dict[str, object] = {}
        self.closed: set[object] = set()
        self.lines: dict[str, dict[int, RecordedLine]] = {}
        self.interests: dict[str, float] = {}

    def weight(self, execution_id: str) -> int:
        lines = list(self.lines.get(execution_id, {}).values())
        return len(msgspec.json.encode([self.records[execution_id], lines]))

    def drop(self, execution_id: str) -> None:
        self.records.pop(execution_id, None)
        self.lines.pop(execution_id, None)
        self.owners.pop(execution_id, None)


class MemoryExecutionStore(ExecutionStore):
    """Keeps everything within this process; while ``fail_with`` is set, everything raises it."""

    def __init__(self, other: MemoryExecutionStore | None = None) -> None:
        """Begin empty, or as one more handle on what ``other`` keeps."""
        self._shelf: _Shelf = _Shelf() if other is None else other._shelf
        self._closed = False
        self.fail_with: FaasError | None = None

    def begin(self, record: Record) -> None:
        """Take an id."""
        with self._shelf.lock:
            self._check_open()
            if record.execution_id in self._shelf.records:
                raise ExecutionIdTaken(f"there is an execution {record.execution_id}")
            self._keep(record)

    def withdraw(self, execution_id: str) -> None:
        """Forget what never started."""
        with self._shelf.lock:
            self._check_open()
            if self._shelf.owners.get(execution_id) is self:
                self._shelf.drop(execution_id)

    def record(self, records: Sequence[Record], lines: Sequence[RecordedLine]) -> None:
        """Keep these."""
        with self._shelf.lock:
            self._check_open()
            for record in records:
                kept = self._shelf.records.get(record.execution_id)
                if kept is None or _replaces(record.status, kept.status):
                    self._keep(record)
            for line in lines:
                if line.execution_id in self._shelf.records:
                    kept_lines = self._shelf.lines.setdefault(line.execution_id, {})
                    kept_lines.setdefault(line.seq, line)

    def execution(self, execution_id: str) -> Record:
        """Return one record."""
        with self._shelf.lock:
            self._check_open()
            try:
                return self._shelf.records[execution_id]
            except KeyError:
                raise NotFound(f"no execution {execution_id} is kept") from None

    def executions(
        self, wanted: RecordFilter, limit: int, cursor: str | None = None
    ) -> Page[Record]:
        """List records, newest first."""
        before = decode_cursor(cursor) if cursor is not None else None
        with self._shelf.lock:
            self._check_open()
            found = [each for each in self._shelf.records.values() if _matches(each, wanted)]
        found.sort(key=_key, reverse=True)
        if before is not None:
            found = [each for each in found if _key(each) < before]
        page = [
            msgspec.structs.replace(
                each, input=None, input_cut=False, output=None, output_cut=False
            )
            for each in found[:limit]
        ]
        return Page(page, encode_cursor(_key(page[-1])) if len(found) > limit else None)

    def lines(self, execution_id: str, after_seq: int, limit: int) -> list[RecordedLine]:
        """Return lines in order."""
        with self._shelf.lock:
            self._check_open()
            kept = self._shelf.lines.get(execution_id, {})
            return [kept[seq] for seq in sorted(kept) if seq > after_seq][:limit]

    def stats(self, ref: FunctionRef, since: str) -> FunctionStats:
        """Add up."""
        with self._shelf.lock:
            self._check_open()
            found = [
                each
                for each in self._shelf.records.values()
                if (each.collection_path, each.function_name) == (ref.collection_path, ref.name)
                and each.started_at >= since
            ]
        failed = [each for each in found if each.error is not None]
        return stats_of(map(_measured, found), max(failed, key=_key, default=None))

    def show_interest(self, execution_id: str, seconds: float) -> bool:
        """Remember it."""
        with self._shelf.lock:
            self._check_open()
            interests = self._shelf.interests
            now = time.monotonic()
            news = interests.pop(execution_id, 0.0) <= now
            interests[execution_id] = now + seconds
            if len(interests) > MOST_INTERESTS:
                del interests[next(iter(interests))]
            return news

    def interests(self) -> frozenset[str]:
        """Return what is of interest."""
        with self._shelf.lock:
            self._check_open()
            now = time.monotonic()
            return frozenset(key for key, until in self._shelf.interests.items() if until > now)

    def tend(self, max_age_s: float, max_bytes: int) -> bool:
        """Close what was lost, delete what is too old or too much."""
        with self._shelf.lock:
            self._check_open()
            shelf = self._shelf
            for key, owner in list(shelf.owners.items()):
                if owner in shelf.closed:
                    lost = msgspec.structs.replace(shelf.records[key], status=RecordStatus.LOST)
                    self._keep(lost)
            oldest = datetime.fromtimestamp(time.time() - max_age_s, UTC)
            edge = f"{oldest:%Y-%m-%dT%H:%M:%S.%f}Z"
            size = self.size()
            for record in sorted(shelf.records.values(), key=_key):
                if record.execution_id in shelf.owners:
                    continue
                if record.started_at >= edge and size <= max_bytes:
                    break
                size -= shelf.weight(record.execution_id)
                shelf.drop(record.execution_id)
        return False

    def size(self) -> int:
        """Return what it would take as JSON."""
        with self._shelf.lock:
            self._check_open()
            return sum(map(self._shelf.weight, self._shelf.records))

    def check(self) -> None:
        """Raise when closed."""
        with self._shelf.lock:
            self._check_open()

    def close(self) -> None:
        """Refuse from now on."""
        with self._shelf.lock:
            self._closed = True
            self._shelf.closed.add(self)

    def _keep(self, record: Record) -> None:
        self._shelf.records[record.execution_id] = record
        if record.status is RecordStatus.RUNNING:
            self._shelf.owners[record.execution_id] = self
        else:
            self._shelf.owners.pop(record.execution_id, None)

    def _check_open(self) -> None:
        if self._closed:
            raise StorageUnavailable("the store is closed")
        if self.fail_with is not None:
            raise self.fail_with


def _replaces(new: RecordStatus, old: RecordStatus) -> bool:
    if old is RecordStatus.RUNNING:
        return new is not RecordStatus.RUNNING
    return old is RecordStatus.LOST and new in FINAL


def _key(record: Record) -> str:
    return f"{record.started_at} {record.execution_id}"


def _matches(record: Record, wanted: RecordFilter) -> bool:
    return (
        (not wanted.collection_path or _within(record.collection_path, wanted.collection_path))
        and wanted.function_name in (None, record.function_name)
        and wanted.status in (None, record.status)
        and wanted.start in (None, record.start)
        and wanted.deployment_id in (None, record.deployment_id)
        and wanted.run_id in (None, record.run_id)
        and (wanted.since is None or record.started_at >= wanted.since)
        and (wanted.until is None or record.started_at < wanted.until)
    )


def _within(path: str, subtree: str) -> bool:
    return path == subtree or path.startswith(f"{subtree}/")


def _measured(record: Record) -> Measured:
    timings, usage = record.timings_ms, record.usage
    return Measured(
        record.status,
        record.start,
        None if timings is None else timings.run,
        None if timings is None else timings.total,
        None if usage is None else usage.cpu_ms,
        None if usage is None else usage.max_rss_bytes,
    )
