"""Calls of a function that is never run twice in one sandbox, paced so that the stock keeps up."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from typing import Final

from bench.lab import HELLO, Lab
from bench.rounds import alternate
from bench.rows import Expectation, Findings, Plan
from bench.rows.first import table
from bench.rows.warm import BODY
from bench.servers import Service

__all__ = ["EXPECTED", "measure"]

_FRESH = Expectation("`fresh` p50, paced below the refill rate / warm", 3.0)
EXPECTED: Final = (_FRESH,)


def measure(lab: Lab, plan: Plan) -> Findings:
    """Take a few calls of each kind a round, each after the same pause."""
    service = lab.service()
    service.deploy("fresh", HELLO, reuse="fresh")
    service.deploy("warm", HELLO)
    service.invoke("warm", BODY["input"])
    starts: Counter[str] = Counter()
    taken = alternate(
        {
            "warm": lambda: _paced(service, "warm", plan, Counter()),
            "fresh": lambda: _paced(service, "fresh", plan, starts),
        },
        plan.rounds,
    )
    note = ", ".join(f"{count} {start}" for start, count in starts.most_common())
    return Findings(
        [_FRESH.judge(taken.ratio("fresh", "warm", float), f"starts: {note}")],
        table("paced calls, the p50 of each round", taken),
    )


def _paced(service: Service, name: str, plan: Plan, starts: Counter[str]) -> float:
    times = []
    for _ in range(plan.paced):
        time.sleep(plan.settle_s / 2)
        took, start = service.invoke(name, BODY["input"])
        times.append(took)
        starts[start] += 1
    return statistics.median(times)
