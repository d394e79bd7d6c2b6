"""How log events are asked for in one query language."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from lowcode_faas_core.interfaces.versioned import Versioned

__all__ = ["LogDialect", "LogFilter"]


@dataclass(frozen=True)
class LogFilter:
    """Which log events are meant: those that agree with every member that is given.

    Values are text of a caller, any text: whoever builds a query quotes them. ``since`` is
    inclusive, ``until`` exclusive; both are RFC 3339 in UTC, ending in ``Z``.
    """

    run_id: str | None = None
    execution_id: str | None = None
    function: str | None = None
    collection_path: str | None = None
    deployment_id: str | None = None
    since: str | None = None
    until: str | None = None

    def terms(self) -> list[tuple[str, str]]:
        """Return the fields of an event, by their stable names, and the value each must have."""
        fields = (
            ("run_id", self.run_id),
            ("execution_id", self.execution_id),
            ("function_name", self.function),
            ("collection_path", self.collection_path),
            ("deployment_id", self.deployment_id),
        )
        return [(field, value) for field, value in fields if value is not None]


class LogDialect(Versioned, ABC):
    """Writes a :class:`LogFilter` in one query language. Stateless; used by many threads at once."""

    #: **Required.** Its member in the answer of ``GET /function-logs/query``: ``[a-z][a-z0-9_]*``.
    name: ClassVar[str]

    @abstractmethod
    def query(self, wanted: LogFilter) -> str:
        """**Required.** Return a query that finds exactly the events the filter means.

        Whatever a value holds, it stays one literal of the language. A language whose queries have
        no time leaves it out: callers are told ``start`` and ``end`` beside the query.
        """
