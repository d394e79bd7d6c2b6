"""The first call of a function that nobody has run, with stock and without, beside ``node -e 0``."""

from __future__ import annotations

import itertools
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Final

from bench.lab import HELLO, Lab, node
from bench.rounds import Rounds, alternate
from bench.rows import Expectation, Findings, Plan
from bench.rows.warm import BODY
from bench.servers import Service, Unmeasurable

__all__ = ["EXPECTED", "first_call", "measure", "table"]

_STOCK = Expectation("first call with stock / wall time of `node -e 0`", 0.15)
_NO_STOCK = Expectation("first call without stock / wall time of `node -e 0`", 1.3)
EXPECTED: Final = (_STOCK, _NO_STOCK)
#: New functions that may find no stock, one after the other, until something is wrong.
ATTEMPTS: Final = 8


def measure(lab: Lab, plan: Plan) -> Findings:
    """Take one call of each kind a round, of a function deployed just before."""
    stocked = lab.service("with stock")
    bare = lab.service("without stock", {"STOCK": "0"})
    path = node()

    def start_node() -> float:
        begun = time.perf_counter()
        subprocess.run([path, "-e", "0"], check=True)
        return (time.perf_counter() - begun) * 1000

    start_node()
    taken = alternate(
        {
            "node -e 0": start_node,
            "with stock": first_call(stocked, "prewarmed", plan.settle_s),
            "without stock": first_call(bare, "cold", plan.settle_s),
        },
        plan.calls,
    )
    return Findings(
        [
            _STOCK.judge(taken.ratio("with stock", "node -e 0", float)),
            _NO_STOCK.judge(taken.ratio("without stock", "node -e 0", float)),
        ],
        table("first calls", taken),
    )


def first_call(service: Service, kind: str, settle_s: float) -> Callable[[], float]:
    """Return what deploys a function and takes the milliseconds of its first call.

    A call that started in another way than it was to is no sample, and another function's follows.
    """
    numbers: Iterator[int] = itertools.count()

    def call() -> float:
        for _ in range(ATTEMPTS):
            name = f"first-{next(numbers)}"
            service.deploy(name, HELLO)
            time.sleep(settle_s)  # the check of the source took one of the stock
            took, start = service.invoke(name, BODY["input"])
            if start == kind:
                return took
        raise Unmeasurable(f"{ATTEMPTS} first calls in a row were not {kind} but {start}")

    return call


def table(title: str, taken: Rounds[float]) -> list[str]:
    """Return the median and the slowest of each kind, in milliseconds."""
    lines = [f"| {title} | median ms | slowest ms | calls |", "|---|---|---|---|"]
    for name, times in taken.taken.items():
        lines.append(
            f"| {name} | {statistics.median(times):.1f} | {max(times):.1f} | {len(times)} |"
        )
    return lines
