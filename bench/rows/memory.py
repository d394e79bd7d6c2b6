"""Memory of an idle instance beside a bare idle Node of the same version."""

from __future__ import annotations

import statistics
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bench.lab import HELLO, Lab, node
from bench.processes import ancestors, executable, pss_bytes, tree
from bench.rounds import Ratio
from bench.rows import Expectation, Findings, Plan
from bench.rows.warm import BODY
from bench.servers import WITH_ME, Service, Unmeasurable

__all__ = ["EXPECTED", "bare_nodes", "idle_instances", "measure", "table"]

_PSS = Expectation("PSS of an idle instance / a bare idle Node", 1.1)
EXPECTED: Final = (_PSS,)
#: Waits for nothing, and reads nothing.
_IDLE = "setInterval(() => {}, 2 ** 30)"
#: Calls each instance has answered, and the pause after which it is idle, in seconds.
CALLS, SETTLED_S = 5, 1.5


def measure(lab: Lab, plan: Plan) -> Findings:
    """Pair instances with bare processes of the same file, all of them there at the same time.

    Pages of the file are shared by all who run it, so that both kinds carry equal parts of them.
    """
    service = lab.service(settings={"STOCK": "0"})
    before = _sandboxes(service)
    with bare_nodes(node(), plan.idle) as bare:
        idle_instances(service, plan.idle)
        members = _sandboxes(service) - before
        if len(members) != plan.idle:
            raise Unmeasurable(f"{len(members)} instances are there instead of {plan.idle}")
        ours = sorted(_with_its_chain(pid, service.process.pid) for pid in members)
        theirs = sorted(map(pss_bytes, bare))
    return Findings(
        [_PSS.judge(Ratio.of(ours, theirs))],
        table({"idle instance, runner `process`": ours, "bare idle Node beside it": theirs}),
    )


def idle_instances(service: Service, count: int) -> None:
    """Leave one idle instance of each of so many functions."""
    for number in range(count):
        service.deploy(f"idle-{number}", HELLO)
        for _ in range(CALLS):
            service.invoke(f"idle-{number}", BODY["input"])
    time.sleep(SETTLED_S)


@contextmanager
def bare_nodes(path: Path, count: int) -> Iterator[list[int]]:
    """Keep so many idle processes of Node; they have ended afterwards."""
    started: list[subprocess.Popen[bytes]] = []
    try:
        for _ in range(count):
            started.append(subprocess.Popen([*WITH_ME, path, "-e", _IDLE]))
        time.sleep(SETTLED_S)
        yield [each.pid for each in started]
    finally:
        for each in started:
            each.kill()
        for each in started:
            each.wait()


def table(kinds: dict[str, list[int]]) -> list[str]:
    """Return the median of each kind, in MiB."""
    lines = ["| memory, PSS | median MiB | largest MiB | number |", "|---|---|---|---|"]
    for name, sizes in kinds.items():
        median = statistics.median(sizes)
        lines.append(f"| {name} | {median / 2**20:.1f} | {max(sizes) / 2**20:.1f} | {len(sizes)} |")
    return lines


def _sandboxes(service: Service) -> set[int]:
    return {pid for pid in tree(service.process.pid) if executable(pid) == "node"}


def _with_its_chain(pid: int, service: int) -> int:
    """Return the memory of a sandbox: Node, and the processes around it that are there for it alone."""
    size = pss_bytes(pid)
    for above in ancestors(pid):
        if above == service or executable(above).startswith("python"):
            break
        size += pss_bytes(above)
    return size
