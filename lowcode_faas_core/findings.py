"""What an examination of an installation found: ``lowcode-faas doctor`` prints these."""

from __future__ import annotations

import enum
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["Finding", "Level", "clock", "failure", "fine", "readable_by_others", "warning"]

#: Clocks further apart are worth a warning, in seconds: times in lists and logs stop to agree.
APART_S: Final = 5.0
#: S3 refuses requests that were signed so far from its own time, in seconds.
REFUSED_S: Final = 900.0


class Level(enum.StrEnum):
    """How bad it is."""

    OK = "ok"
    #: Works now, and will hurt.
    WARNING = "warning"
    #: Does not work.
    FAILURE = "failure"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: a sentence for the operator, with the remedy where there is one.

    ``text`` names no secret.
    """

    level: Level
    #: What it is about, one word or two: ``storage``, ``PostgreSQL``.
    subject: str
    text: str


def fine(subject: str, text: str) -> Finding:
    """Return that all is well."""
    return Finding(Level.OK, subject, text)


def warning(subject: str, text: str) -> Finding:
    """Return something that will hurt."""
    return Finding(Level.WARNING, subject, text)


def failure(subject: str, text: str) -> Finding:
    """Return something that does not work."""
    return Finding(Level.FAILURE, subject, text)


def clock(subject: str, theirs: float, asked: float, answered: float) -> Finding:
    """Compare another machine's clock with ours, which was read before and after asking.

    All three are seconds since the epoch. What lies between question and answer is no difference,
    nor is what whole seconds leave out.
    """
    apart = max(asked - 1 - theirs, theirs - answered, 0.0)
    if apart < APART_S:
        return fine(subject, "its clock agrees with this machine's")
    text = f"its clock is {apart:.0f} s from this machine's: keep both by NTP"
    if apart >= REFUSED_S:
        return failure(subject, f"{text}; signed requests are refused at this distance")
    return warning(subject, text)


def readable_by_others(path: Path) -> bool:
    """Tell whether users other than the owner may read or write a file or folder.

    :raises OSError: when it cannot be looked at.
    """
    return bool(stat.S_IMODE(path.stat().st_mode) & 0o077)
