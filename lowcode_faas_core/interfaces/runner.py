"""What runs user code, whatever it is made of."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

from lowcode_faas_core.interfaces.metrics import OperationReport
from lowcode_faas_core.interfaces.versioned import Versioned
from lowcode_faas_core.model import (
    Execution,
    FunctionRef,
    Invocation,
    Language,
    LogLine,
    SourceCheck,
)

__all__ = ["LogCallback", "Runner", "SourceReader"]

#: Takes one captured line; called from the invoking thread, must not block or raise.
LogCallback = Callable[[LogLine], None]
#: Returns the bytes of the invocation's deployment; called only when they are needed.
SourceReader = Callable[[], bytes]


class Runner(Versioned, ABC):
    """Runs invocations and tells the truth about them.

    Used by many threads at once; :meth:`run` blocks the caller until there is a verdict.
    The core's ``PooledRunner`` implements it for everything that can start a Node sandbox, so
    that a plugin only supplies a :class:`~lowcode_faas_core.interfaces.launcher.Launcher`.
    ``RunnerContract`` in ``lowcode_faas_core.testing`` checks it.
    """

    #: **Optional (default: no).** Whether all that :meth:`run` waits by is of ``lowcode_faas_core.lanes``,
    #: so that others go on meanwhile; else each run has a thread for as long as it takes.
    on_lanes: bool = False

    @abstractmethod
    def run(self, invocation: Invocation, source: SourceReader, on_log: LogCallback) -> Execution:
        """**Required.** Run it at most once and return the verdict.

        When the deadline passes, user code is dead before this returns. A function's own failure
        is an Execution, never an exception.

        :raises CapacityError: nothing could take it in time; user code was not started.
        :raises RunnerUnavailable: nothing could be started; user code was not started.
        :raises UnconfirmedEnd: user code may still run 2 s after its deadline.
        """

    def report_operations_to(self, report: OperationReport) -> None:
        """**Optional (default: nothing).** Learn whom to tell how long calls to an engine took.

        Called once, before anything else. ``report`` may be called from any thread.
        """
        del report

    def displace(self, ref: FunctionRef) -> bool:
        """**Optional (default: refuse).** Turn away one waiting invocation in favour of ``ref``.

        Asked when no thread is left for an invocation of ``ref``: a function that has more of its
        own waiting may lose one of them, with ``CapacityError``.
        """
        return False

    def check_source(self, source: bytes, language: Language, deadline_ns: int) -> SourceCheck:
        """**Optional (default: not checked).** Say what is wrong with the syntax of a source.

        It is not checked when that cannot be told by ``deadline_ns`` (``time.monotonic_ns``). The
        source is compiled, never run. Does not raise.
        """
        return SourceCheck(checked=False)

    def waiting(self) -> int:
        """**Optional (default: 0).** Return how many runs wait to begin; never blocks."""
        return 0

    @abstractmethod
    def stats(self) -> Mapping[str, Any]:
        """**Required.** Return counts of what exists, for operators: plain JSON values."""

    def degraded(self) -> list[str]:
        """**Optional (default: nothing).** Say what makes runs slow and stops none; for ``/readyz``."""
        return []

    @abstractmethod
    def check(self) -> None:
        """**Required.** Return when runs can be started now, else raise ``RunnerUnavailable``."""

    @abstractmethod
    def close(self, *, drain_deadline_ns: int = 0) -> None:
        """**Required.** End every sandbox and thread; may be called twice.

        New invocations raise ``Draining``; running ones may take until ``drain_deadline_ns``
        (``time.monotonic_ns``) and are then ended with the verdict ``cancelled``.
        """
