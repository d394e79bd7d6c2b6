"""What is told of everything that happens, and shows it as numbers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import NamedTuple

from lowcode_faas_core.interfaces.versioned import Versioned
from lowcode_faas_core.model import FunctionRef, StartKind

__all__ = ["Exposition", "Metrics", "OperationReport"]

#: Takes the name of an operation such as ``create_container``, how it ended (``ok``, ``error``, or
#: what else an engine knows), and how long it took, in nanoseconds.
OperationReport = Callable[[str, str, int], None]


class Exposition(NamedTuple):
    """The answer to ``GET /metrics``."""

    content_type: str
    body: bytes


class Metrics(Versioned, ABC):
    """Counts what happens in one serving process, and shows what happened in all of the service.

    One object a process, built after the fork, called by many threads at once, on the path of
    every invocation: it must neither wait nor do much. What it raises is reported and fails
    nothing else. Durations are nanoseconds. ``MetricsContract`` in ``lowcode_faas_core.testing``
    checks it.
    """

    @abstractmethod
    def invocation_began(self) -> None:
        """**Required.** An invocation is in flight; :meth:`invocation_ended` follows for certain."""

    @abstractmethod
    def invocation_ended(
        self, ref: FunctionRef, status: str, start: StartKind | None, took_ns: int
    ) -> None:
        """**Required.** It is over: the status of its result, or the code of the problem.

        ``start`` is ``None`` where it never came to one.
        """

    @abstractmethod
    def invocation_rejected(self) -> None:
        """**Required.** An invocation found no capacity; it ends as every other one."""

    @abstractmethod
    def sandboxes(self, states: Mapping[str, int], waiting: int) -> None:
        """**Required.** So many sandboxes of this process are in each state, so many wait for one."""

    @abstractmethod
    def operation(self, op: str, outcome: str, took_ns: int) -> None:
        """**Required.** The runner did something that takes time; see :data:`OperationReport`."""

    @abstractmethod
    def log_events(self, sink: str, count: int) -> None:
        """**Required.** So many events were delivered to a sink or dropped, each told once."""

    @abstractmethod
    def log_events_dropped(self, sink: str, reason: str, count: int) -> None:
        """**Required.** So many of them were dropped."""

    @abstractmethod
    def orphans_reaped(self, count: int) -> None:
        """**Required.** What killed processes had left behind was removed."""

    @abstractmethod
    def deployed(self, outcome: str) -> None:
        """**Required.** A deployment was ``created``, ``unchanged``, ``restored``, or failed with that code."""

    @abstractmethod
    def show(self, accept: str) -> Exposition:
        """**Required.** Show everything, of all serving processes, as ``accept`` prefers it."""

    @abstractmethod
    def close(self) -> None:
        """**Required.** Release everything; may be called twice. What comes later is not counted."""
