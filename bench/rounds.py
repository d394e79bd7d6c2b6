"""Alternating rounds, and ratios of what ran side by side."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

__all__ = ["Ratio", "Rounds", "alternate"]

T = TypeVar("T")


@dataclass(frozen=True)
class Ratio:
    """The median of ratios taken pair by pair, and between which quartiles they lie."""

    median: float
    low: float
    high: float
    rounds: int

    @classmethod
    def of(cls, over: Sequence[float], under: Sequence[float]) -> Ratio:
        """Compare two series that were measured in turns."""
        ratios = [a / b for a, b in zip(over, under, strict=True)]
        if len(ratios) < 2:
            return cls(ratios[0], ratios[0], ratios[0], 1)
        low, _, high = statistics.quantiles(ratios, n=4, method="inclusive")
        return cls(statistics.median(ratios), low, high, len(ratios))

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f})"


class Rounds(Generic[T]):
    """What was taken of each subject, round by round."""

    def __init__(self, taken: dict[str, list[T]]) -> None:
        self.taken = taken

    def series(self, name: str, figure: Callable[[T], float]) -> list[float]:
        """Return one figure of one subject, round by round."""
        return [figure(each) for each in self.taken[name]]

    def median(self, name: str, figure: Callable[[T], float]) -> float:
        """Return the median of one figure of one subject."""
        return statistics.median(self.series(name, figure))

    def ratio(self, name: str, other: str, figure: Callable[[T], float]) -> Ratio:
        """Compare one figure of two subjects."""
        return Ratio.of(self.series(name, figure), self.series(other, figure))


def alternate(
    subjects: Mapping[str, Callable[[], T]], rounds: int, pause_s: float = 0.05
) -> Rounds[T]:
    """Measure every subject once a round, every other round in the reverse order.

    What else the machine does then meets all of them, and none always comes after the same one.
    """
    taken: dict[str, list[T]] = {name: [] for name in subjects}
    order = list(subjects)
    for _ in range(rounds):
        for name in order:
            taken[name].append(subjects[name]())
            time.sleep(pause_s)
        order.reverse()
    return Rounds(taken)
