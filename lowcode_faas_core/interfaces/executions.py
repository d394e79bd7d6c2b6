"""Where it is kept what ran."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from lowcode_faas_core.model import LogEvent, Page, RunResult

__all__ = ["ExecutionStore"]


class ExecutionStore(ABC):
    """Keeps execution records and their log lines, bounded by age and size.

    Written by the process that ran the code, after the answer was sent; it may be absent and it
    may be down: neither touches an invocation. ``ExecutionStoreContract`` in
    ``lowcode_faas_core.testing`` checks it.
    """

    @abstractmethod
    def record(self, results: Sequence[RunResult], lines: Sequence[LogEvent]) -> None:
        """**Required.** Keep these; a result already kept under its execution id stays as it is."""

    @abstractmethod
    def execution(self, execution_id: str) -> RunResult:
        """**Required.** Return one record.

        :raises NotFound: when there is none.
        """

    @abstractmethod
    def executions(
        self, collection_path: str | None, name: str | None, limit: int, cursor: str | None = None
    ) -> Page[RunResult]:
        """**Required.** List records, newest first; ``collection_path`` selects its whole subtree."""

    @abstractmethod
    def lines(self, execution_id: str, after_seq: int, limit: int) -> list[LogEvent]:
        """**Required.** Return the lines of one execution with ``seq > after_seq``, in order."""

    @abstractmethod
    def check(self) -> None:
        """**Required.** Return when it works now, else raise ``StorageUnavailable``."""

    @abstractmethod
    def close(self) -> None:
        """**Required.** Release everything; may be called twice."""
