"""Warm invocations of a function that says hello, beside a bare echo and other hosts of functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from bench.lab import HELLO, Lab
from bench.load import Taken, Target, load
from bench.rounds import Rounds, alternate
from bench.rows import Expectation, Findings, Plan, Row, judged

__all__ = ["BODY", "BUSY", "EXPECTED", "measure", "table", "throughput"]

#: Connections that are busy all the time.
BUSY: Final = 32
BODY: Final = {"input": {"name": "world", "tags": ["a", "b"], "count": 3}}
ECHO = "echo"
FRAMEWORK = "functions-framework"

_BESIDE_ECHO = Expectation("warm throughput, 32 connections / echo", 1.0, least=True)
_BESIDE_FRAMEWORK = Expectation(
    f"warm throughput, 32 connections / {FRAMEWORK}", 1.0, least=True, by_design=True
)
_CPU = Expectation("CPU for one warm request / echo", 1.0)
_P50 = Expectation("warm p50, 1 connection / echo", 1.0)
_P99 = Expectation("warm p99, 32 connections / echo", 1.5)
EXPECTED: Final = (_BESIDE_ECHO, _BESIDE_FRAMEWORK, _CPU, _P50, _P99)

#: The columns of a table, in order.
_FIGURES: tuple[Callable[[Taken], float], ...] = (
    lambda taken: taken.per_s,
    lambda taken: taken.cpu_us,
    lambda taken: taken.p50_us,
    lambda taken: taken.p99_us,
)


def measure(lab: Lab, plan: Plan) -> Findings:
    """Measure; return the rows and a table of everybody's figures."""
    service = lab.service()
    service.deploy("hello", HELLO)
    service.invoke("hello", BODY["input"])
    ours = Target(service, "/functions/hello/invoke", BODY)
    targets = [ours, *(Target(each, "/echo", BODY) for each in (lab.echo(), *lab.hosts()))]
    for target in targets:
        load(target, BUSY, plan.seconds)
    busy = _round(targets, BUSY, plan)
    quiet = _round([t for t in targets if t.name in (ours.name, ECHO)], 1, plan)
    failed = int(sum(busy.series(ours.name, lambda taken: taken.failed)))
    rows = [
        throughput(busy, ours.name, ECHO, _BESIDE_ECHO),
        throughput(busy, ours.name, FRAMEWORK, _BESIDE_FRAMEWORK)
        if FRAMEWORK in busy.taken
        else _BESIDE_FRAMEWORK.unmeasured("it could not be installed"),
        _CPU.judge(busy.ratio(ours.name, ECHO, lambda taken: taken.cpu_us)),
        _P50.judge(quiet.ratio(ours.name, ECHO, lambda taken: taken.p50_us)),
        _P99.judge(busy.ratio(ours.name, ECHO, lambda taken: taken.p99_us)),
        judged("warm invocations not answered with 200", "0", str(failed), holds=not failed),
    ]
    return Findings(rows, [*table(busy, BUSY), "", *table(quiet, 1)])


def throughput(taken: Rounds[Taken], ours: str, other: str, expected: Expectation) -> Row:
    """Judge how many requests a second one subject answers beside another."""
    return expected.judge(taken.ratio(ours, other, lambda each: each.per_s))


def table(taken: Rounds[Taken], connections: int) -> list[str]:
    """Return everybody's figures."""
    lines = [
        f"| {connections} connections | requests/s | CPU µs | p50 µs | p99 µs | failed "
        "| at one process | wrk, cores |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in taken.taken:
        figures = [taken.median(name, figure) for figure in _FIGURES]
        failed = sum(taken.series(name, lambda each: each.failed))
        shown = " | ".join(f"{figure:.0f}" for figure in (*figures, failed))
        wrk_cores = taken.median(name, lambda each: each.wrk_cores)
        at_one = taken.median(name, lambda each: each.at_one)
        lines.append(f"| {name} | {shown} | {at_one * 100:.0f} % | {wrk_cores:.2f} |")
    return lines


def _round(targets: Sequence[Target], connections: int, plan: Plan) -> Rounds[Taken]:
    subjects = {t.name: partial(load, t, connections, plan.seconds) for t in targets}
    return alternate(subjects, plan.rounds)
