"""What is expected of the service, one module a kind of load; each row is one line of the results.

Every module has ``EXPECTED``, the rows it answers for, and ``measure``, which takes them in a lab of
its own; a row whose service cannot be had is not measured, and never held.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from bench.rounds import Ratio

__all__ = ["Expectation", "Findings", "Plan", "Row", "Verdict", "judged", "tally"]


@dataclass(frozen=True)
class Plan:
    """How long to measure."""

    rounds: int
    #: Seconds of one round of one subject.
    seconds: float
    #: Rounds of what is one call long, such as first calls.
    calls: int
    #: Paced calls of one round of one subject.
    paced: int
    #: Idle instances whose memory is read, of each kind.
    idle: int
    #: Numbers of functions among which calls go round, beginning with 1; the last is the row's.
    functions: tuple[int, ...]
    #: Pause in which the stock is filled again, in seconds.
    settle_s: float = 0.7


class Verdict(enum.Enum):
    """What became of an expectation."""

    HELD = "held"
    MISSED = "missed"
    NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class Row:
    """One expectation, and what was measured."""

    what: str
    target: str
    measured: str
    verdict: Verdict
    #: The part of the target by which it was missed.
    missed_by: float = 0.0

    @property
    def says(self) -> str:
        """The verdict in words."""
        if self.verdict is Verdict.MISSED:
            return f"**missed by {self.missed_by * 100:.0f} %**"
        return str(self.verdict.value)


@dataclass(frozen=True)
class Expectation:
    """A bound on a ratio: the most it may be, or with ``least`` the least."""

    what: str
    bound: float
    least: bool = False
    #: Whether how the service is built decides it, more than what that costs: ``missed.md`` says why.
    by_design: bool = False

    @property
    def target(self) -> str:
        """The bound in words."""
        return f"{'≥' if self.least else '≤'} {self.bound:g}"

    def judge(self, ratio: Ratio, note: str = "") -> Row:
        """Compare the median; what is exactly the bound holds."""
        beyond = 1 - ratio.median / self.bound if self.least else ratio.median / self.bound - 1
        verdict = Verdict.MISSED if beyond > 0 else Verdict.HELD
        measured = f"{ratio}; {note}" if note else str(ratio)
        return Row(self.what, self.target, measured, verdict, max(0.0, beyond))

    def unmeasured(self, why: str) -> Row:
        """Return the row of what could not be measured."""
        return Row(self.what, self.target, why, Verdict.NOT_MEASURED)


@dataclass(frozen=True)
class Findings:
    """What one module found: its rows, and tables for whoever wants to know more."""

    rows: list[Row]
    tables: list[str] = field(default_factory=list)


def judged(what: str, target: str, measured: str, *, holds: bool) -> Row:
    """Return the row of what is no ratio: it holds, or is missed by all of it."""
    return Row(
        what, target, measured, Verdict.HELD if holds else Verdict.MISSED, 0.0 if holds else 1.0
    )


def tally(rows: list[Row]) -> str:
    """Return how many rows came to what, and how far off the worst is."""
    count = {each: sum(row.verdict is each for row in rows) for each in Verdict}
    said = f"{count[Verdict.HELD]} of {len(rows)} rows held"
    if count[Verdict.MISSED]:
        worst = max(row.missed_by for row in rows)
        said += f", {count[Verdict.MISSED]} missed, the worst by {worst * 100:.0f} %"
    if count[Verdict.NOT_MEASURED]:
        said += f", {count[Verdict.NOT_MEASURED]} not measured"
    return said
