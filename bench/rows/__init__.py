"""What is expected of the service, one module a kind of load; each row is one line of the results."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Plan", "Row"]


@dataclass(frozen=True)
class Plan:
    """How long to measure."""

    rounds: int
    #: Seconds of one round of one subject.
    seconds: float
    #: Calls of what cannot be put into rounds by time, such as first calls.
    calls: int
    #: Whether only the rows of the warm path are wanted.
    warm_only: bool


@dataclass(frozen=True)
class Row:
    """One expectation, and what was measured."""

    what: str
    target: str
    measured: str
    #: Whether it holds; ``None`` where nothing is expected.
    holds: bool | None = None
