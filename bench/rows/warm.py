"""Warm invocations of a function that says hello, beside a bare echo and other hosts of functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from bench.load import Taken, Target, load
from bench.rounds import Rounds, alternate
from bench.rows import Plan, Row

__all__ = ["BUSY", "rows"]

#: Connections that are busy all the time.
BUSY = 32
ECHO = "echo"
#: Beside these the service is to hold its own; other hosts are shown.
EXPECTED = ("echo", "functions-framework")
#: The columns of a table, in order.
_FIGURES: tuple[Callable[[Taken], float], ...] = (
    lambda taken: taken.per_s,
    lambda taken: taken.cpu_us,
    lambda taken: taken.p50_us,
    lambda taken: taken.p99_us,
)


def rows(ours: Target, peers: Sequence[Target], plan: Plan) -> tuple[list[Row], list[str]]:
    """Measure; return the rows and a table of everybody's figures."""
    targets = [ours, *peers]
    for target in targets:
        load(target, BUSY, max(2.0, plan.seconds))
    busy = _round(targets, BUSY, plan)
    quiet = _round([t for t in targets if t.name in (ours.name, ECHO)], 1, plan)
    found = [
        _at_least(busy, ours.name, name, "throughput, 32 connections", 1.0)
        for name in EXPECTED
        if name in busy.taken
    ]
    found += [
        _at_most(busy, ours.name, "CPU for one request", lambda taken: taken.cpu_us, 1.0),
        _at_most(quiet, ours.name, "p50, 1 connection", lambda taken: taken.p50_us, 1.0),
        _at_most(busy, ours.name, "p99, 32 connections", lambda taken: taken.p99_us, 1.5),
    ]
    failed = int(sum(busy.series(ours.name, lambda taken: taken.failed)))
    found.append(
        Row("warm invocations that were not answered with 200", "0", str(failed), not failed)
    )
    return found, [*_table(busy, BUSY), "", *_table(quiet, 1)]


def _round(targets: Sequence[Target], connections: int, plan: Plan) -> Rounds[Taken]:
    subjects = {t.name: partial(load, t, connections, plan.seconds) for t in targets}
    return alternate(subjects, plan.rounds)


def _at_least(taken: Rounds[Taken], ours: str, other: str, what: str, least: float) -> Row:
    ratio = taken.ratio(ours, other, lambda each: each.per_s)
    return Row(f"warm {what} / {other}", f"≥ {least}", str(ratio), ratio.median >= least)


def _at_most(
    taken: Rounds[Taken], ours: str, what: str, figure: Callable[[Taken], float], most: float
) -> Row:
    ratio = taken.ratio(ours, ECHO, figure)
    return Row(f"warm {what} / {ECHO}", f"≤ {most}", str(ratio), ratio.median <= most)


def _table(taken: Rounds[Taken], connections: int) -> list[str]:
    lines = [
        f"| {connections} connections | requests/s | CPU µs | p50 µs | p99 µs | failed |",
        "|---|---|---|---|---|---|",
    ]
    for name in taken.taken:
        figures = [taken.median(name, figure) for figure in _FIGURES]
        failed = sum(taken.series(name, lambda each: each.failed))
        lines.append(f"| {name} | " + " | ".join(f"{f:.0f}" for f in (*figures, failed)) + " |")
    return lines
