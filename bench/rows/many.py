"""Calls that go round many functions, beside calls of one, and the memory their instances take."""

from __future__ import annotations

import statistics
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Final

from bench.lab import HELLO, Lab
from bench.load import Taken, Target, load
from bench.processes import executable, pss_bytes, tree
from bench.rounds import Ratio, alternate
from bench.rows import Expectation, Findings, Plan, judged
from bench.rows.warm import BODY
from bench.servers import Server

__all__ = ["EXPECTED", "measure"]

CAP: Final = 64
#: Memory the instances may take, in MiB.
BUDGET_MB: Final = 2048
_MANY = Expectation(
    "200 functions round robin, 64 instances: throughput / one function",
    0.5,
    least=True,
    by_design=True,
)
_MEMORY = Expectation(f"largest PSS of all sandboxes / a budget of {BUDGET_MB} MiB", 1.0)
EXPECTED: Final = (_MANY, _MEMORY)
#: Connections. All may be at one gunicorn worker, which has 22 places for invocations: more than that
#: would be refused where each takes as long as a start.
CALLERS: Final = 8
#: Between two looks at the memory, in seconds.
LOOK_S: Final = 0.5


def measure(lab: Lab, plan: Plan) -> Findings:
    """Measure the curve; its last point is the row's."""
    service = lab.service(settings={"MAX_INSTANCES": str(CAP), "MEMORY_BUDGET_MB": str(BUDGET_MB)})
    for number in range(plan.functions[-1]):
        service.deploy(f"f-{number}", HELLO)
    service.invoke("f-0", BODY["input"])
    largest: dict[int, list[int]] = {}
    subjects = {}
    for count in plan.functions:
        target = Target(service, "/functions/f-%d/invoke", BODY, count)
        largest[count] = []
        subjects[str(count)] = partial(_observed, target, plan.seconds, largest[count])
        load(target, CALLERS, plan.seconds)
    taken = alternate(subjects, plan.rounds)
    last = str(plan.functions[-1])
    failed = sum(int(each.failed) for series in taken.taken.values() for each in series)
    lines = [
        f"| functions in turn, {CALLERS} connections | requests/s | of one function | p99 ms | PSS MiB |",
        "|---|---|---|---|---|",
    ]
    for count in plan.functions:
        name = str(count)
        ratio = taken.ratio(name, "1", lambda each: each.per_s)
        p99 = taken.median(name, lambda each: each.p99_us) / 1000
        size = statistics.median(largest[count]) / 2**20
        per_s = taken.median(name, lambda each: each.per_s)
        lines.append(f"| {count} | {per_s:.0f} | {ratio} | {p99:.1f} | {size:.0f} |")
    highest = [max(sizes) / (BUDGET_MB << 20) for sizes in zip(*largest.values(), strict=True)]
    return Findings(
        [
            _MANY.judge(taken.ratio(last, "1", lambda each: each.per_s)),
            judged("the same: requests that failed", "0", str(failed), holds=not failed),
            _MEMORY.judge(Ratio.of(highest, [1.0] * len(highest))),
        ],
        lines,
    )


def _observed(target: Target, seconds: float, largest: list[int]) -> Taken:
    with _watched(target.server, largest):
        return load(target, CALLERS, seconds)


@contextmanager
def _watched(server: Server, largest: list[int]) -> Iterator[None]:
    """Note the most memory that the sandboxes took meanwhile, all of them together."""
    sizes = [0]
    ended = threading.Event()

    def watch() -> None:
        while True:
            sizes.append(_memory(server.process.pid))
            if ended.wait(LOOK_S):
                return

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    largest.append(max(sizes))


def _memory(service: int) -> int:
    return sum(pss_bytes(pid) for pid in tree(service) if executable(pid) == "node")
