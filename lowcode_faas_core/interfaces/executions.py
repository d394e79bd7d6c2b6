"""Where it is kept what ran."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Final

from lowcode_faas_core.interfaces.versioned import Versioned
from lowcode_faas_core.model import FunctionRef, Page
from lowcode_faas_core.records import FunctionStats, Record, RecordedLine, RecordFilter

__all__ = ["EVERY", "ExecutionStore"]

#: Stands for every execution where interest is shown; no execution can be called that.
EVERY: Final = "*"


class ExecutionStore(Versioned, ABC):
    """Keeps execution records and their log lines, bounded by age and size.

    Dispatchers and workers open the same store, each serving process an object of its own, used by
    many threads at once. The process that ran the code writes, in batches, after the answer was
    sent. A store that is down raises ``StorageUnavailable`` from every method, soon (within a
    second or so: invocations wait for :meth:`begin`), and works again by itself once it can; the
    core neither starts nor fails anything by it. Nothing is opened before the first use.

    **Owners.** A record that is ``running`` belongs to the store object that wrote it: it is
    ``lost`` once that object was closed or its process ended, however it ended and on whichever
    host, and never while it lives. How others find out is the store's affair: a lock the kernel
    drops with the process, or a heartbeat in :meth:`tend`, which the core calls every few seconds.

    **Times** of records come from their runs. Ages are told by the store's own clock.

    ``ExecutionStoreContract`` in ``lowcode_faas_core.testing`` checks it. Lists, filters and
    statistics must go through indexes: think of 100,000 records, and of a subtree in which
    almost nothing ran.
    """

    @abstractmethod
    def begin(self, record: Record) -> None:
        """**Required.** Take the id of a run that is about to start: keep it as ``running``.

        Called on the way of an invocation, for ids their callers chose.

        :raises ExecutionIdTaken: there is a record of that id, whatever became of it.
        """

    @abstractmethod
    def withdraw(self, execution_id: str) -> None:
        """**Required.** Forget a record that this object began and whose run never started.

        Does nothing when there is none, or when it is not ``running``.
        """

    @abstractmethod
    def record(self, records: Sequence[Record], lines: Sequence[RecordedLine]) -> None:
        """**Required.** Keep these, all or nothing; delivery may be repeated.

        A verdict (``FINAL``) takes the place of ``running`` and of ``lost``, and stays: nothing
        changes it any more. ``lost`` takes the place of ``running``. ``running`` is kept where
        there is nothing yet. A line whose number is there already is the same line; lines of an
        execution that has no record are dropped, so that nothing outlives what it belongs to.
        """

    @abstractmethod
    def execution(self, execution_id: str) -> Record:
        """**Required.** Return one record, with what was kept of input and output.

        :raises NotFound: when there is none.
        """

    @abstractmethod
    def executions(
        self, wanted: RecordFilter, limit: int, cursor: str | None = None
    ) -> Page[Record]:
        """**Required.** List records by ``started_at``, newest first, without input and output.

        A cursor names a place in that order, not a count: records that come or go meanwhile make
        no other record appear twice or go missing.

        :raises InvalidValue: the cursor is not one that a list has answered.
        """

    @abstractmethod
    def lines(self, execution_id: str, after_seq: int, limit: int) -> list[RecordedLine]:
        """**Required.** Return the lines of one execution with ``seq > after_seq``, in order."""

    @abstractmethod
    def stats(self, ref: FunctionRef, since: str) -> FunctionStats:
        """**Required.** Add up what ran of one function, not its namesakes, since ``since``.

        Percentiles are nearest-rank, as PostgreSQL's ``percentile_disc``; ``last_error`` is that
        of the newest record which has one.
        """

    @abstractmethod
    def show_interest(self, execution_id: str, seconds: float) -> bool:
        """**Required.** Ask whoever runs it to write what there is, for so long from now.

        Returns whether this is news: no earlier interest in it holds. ``EVERY`` means all that run.
        At most 1,000 ids are of interest at a time; the oldest are forgotten.
        """

    @abstractmethod
    def interests(self) -> frozenset[str]:
        """**Required.** Return the ids that are of interest now. Called ten times a second."""

    @abstractmethod
    def tend(self, max_age_s: float, max_bytes: int) -> bool:
        """**Required.** Do one small step of upkeep; return whether the next is due at once.

        Closes what was lost, forgets interests that are over, and deletes what is older than
        ``max_age_s`` or, oldest first, what makes the store larger than ``max_bytes``, and gives
        the space back where it can. What still runs stays. Called by every process, every few
        seconds; no step holds up a writer for more than some 50 ms.
        """

    @abstractmethod
    def size(self) -> int:
        """**Required.** Return how many bytes it occupies, as ``max_bytes`` counts them."""

    @abstractmethod
    def check(self) -> None:
        """**Required.** Return when it works now, else raise ``StorageUnavailable``."""

    @abstractmethod
    def close(self) -> None:
        """**Required.** Release everything; may be called twice."""
