"""Execution records in memory, for tests."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from lowcode_faas_core.errors import NotFound, StorageUnavailable
from lowcode_faas_core.interfaces.executions import ExecutionStore
from lowcode_faas_core.model import LogEvent, Page, RunResult
from lowcode_faas_core.paging import decode_cursor, encode_cursor

__all__ = ["MemoryExecutionStore"]


class MemoryExecutionStore(ExecutionStore):
    """Keeps everything until the process ends."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._results: dict[str, RunResult] = {}
        self._lines: dict[str, dict[int, LogEvent]] = {}
        self._closed = False

    def record(self, results: Sequence[RunResult], lines: Sequence[LogEvent]) -> None:
        """Keep these."""
        with self._lock:
            self._check_open()
            for result in results:
                self._results.setdefault(result.execution_id, result)
            for line in lines:
                self._lines.setdefault(line.execution_id, {}).setdefault(line.seq, line)

    def execution(self, execution_id: str) -> RunResult:
        """Return one record."""
        with self._lock:
            self._check_open()
            try:
                return self._results[execution_id]
            except KeyError:
                raise NotFound(f"no execution {execution_id} is kept") from None

    def executions(
        self, collection_path: str | None, name: str | None, limit: int, cursor: str | None = None
    ) -> Page[RunResult]:
        """List records, newest first."""
        before = decode_cursor(cursor) if cursor is not None else None
        with self._lock:
            self._check_open()
            found = [
                result
                for result in self._results.values()
                if (name is None or result.function_name == name)
                and _within(result.collection_path, collection_path)
            ]
        found.sort(key=_order, reverse=True)
        if before is not None:
            found = [result for result in found if _key(result) < before]
        page = found[:limit]
        more = len(found) > limit
        return Page(page, encode_cursor(_key(page[-1])) if more else None)

    def lines(self, execution_id: str, after_seq: int, limit: int) -> list[LogEvent]:
        """Return lines in order."""
        with self._lock:
            self._check_open()
            kept = self._lines.get(execution_id, {})
            return [kept[seq] for seq in sorted(kept) if seq > after_seq][:limit]

    def check(self) -> None:
        """Raise when closed."""
        with self._lock:
            self._check_open()

    def close(self) -> None:
        """Refuse from now on."""
        self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise StorageUnavailable("the store is closed")


def _order(result: RunResult) -> tuple[str, str]:
    return result.started_at, result.execution_id


def _key(result: RunResult) -> str:
    return f"{result.started_at} {result.execution_id}"


def _within(path: str, subtree: str | None) -> bool:
    return subtree is None or subtree in ("", path) or path.startswith(f"{subtree}/")
