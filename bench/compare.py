"""Measures the service beside a bare echo and other hosts of functions, and says what holds.

``python -m bench.compare`` writes ``bench/RESULTS.md``; with ``--quick`` it only prints, in about
two minutes, the rows that need neither Docker nor many functions, and with ``--only`` those named.
Exits with 1 when a row is missed or was not measured. Needs wrk; ``make bench`` and
``make bench-quick`` run it. Ctrl-C and SIGTERM end every server before it ends itself.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Final, NamedTuple

from bench import peers
from bench.lab import Lab, node
from bench.missed import explained
from bench.rows import (
    Expectation,
    Findings,
    Plan,
    Row,
    Verdict,
    busy,
    docker,
    first,
    fresh,
    many,
    memory,
    storage,
    tally,
    warm,
)
from bench.servers import Unmeasurable
from lowcode_faas_core.configuration import PoolSettings, ServerSettings
from lowcode_faas_core.settings import read_settings

RESULTS = Path(__file__).with_name("RESULTS.md")


class Part(NamedTuple):
    """One module of rows."""

    expected: tuple[Expectation, ...]
    measure: Callable[[Lab, Plan], Findings]


PARTS: Final = {
    name: Part(module.EXPECTED, module.measure)
    for name, module in {
        "warm": warm,
        "first": first,
        "fresh": fresh,
        "memory": memory,
        "busy": busy,
        "storage": storage,
        "docker": docker,
        "many": many,
    }.items()
}
FULL: Final = Plan(
    rounds=9, seconds=2.0, calls=15, paced=8, idle=9, functions=(1, 8, 32, 64, 128, 200)
)
QUICK: Final = Plan(rounds=3, seconds=1.0, calls=5, paced=4, idle=4, functions=(1, 200))
QUICK_PARTS: Final = ("warm", "first", "fresh", "memory", "busy", "storage")


def machine() -> list[str]:
    """Describe where this was measured, and of what."""
    settings, pool = read_settings({}, ServerSettings, PoolSettings)
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    node_version = subprocess.check_output([node(), "--version"], text=True).strip()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 30
    packages = ", ".join(f"{name} {version(name)}" for name in ("flask", "werkzeug", "gunicorn"))
    load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M")
    return [
        f"- {now} UTC; load when it ended: {load}",
        f"- {os.cpu_count()} × {model}, {memory} GiB, Linux {platform.release()}",
        f"- Python {platform.python_version()} of {sys.base_prefix}, {packages}; Node {node_version}",
        f"- service and echo: {settings.workers} workers × {settings.threads} threads, keep-alive; "
        "the others are one process each",
        "- both of them: a connection stays with the worker that accepts it first, so that one of the "
        "two may have nearly all; tables say which part of the connections one process had, the median",
        "- service, but for what a row names: storage `files`, runner `process`, a token in every "
        "request, executions kept, logs to stdout",
        f"- its pool: at most {pool.max_instances} sandboxes, {pool.per_function} of one function, "
        f"a stock of {pool.stock}; with `db_s3`: PostgreSQL and S3 on this machine, without fsync",
        "- echo: parses its JSON, wants an object in it, answers with it; the same requests",
    ]


def shown(rows: list[Row]) -> list[str]:
    """Return the rows as a table."""
    return [
        "| what | target | measured, median (quartiles) | verdict |",
        "|---|---|---|---|",
        *(f"| {r.what} | {r.target} | {r.measured} | {r.says} |" for r in rows),
    ]


def report(plan: Plan, rows: list[Row], tables: list[str], missing: list[str]) -> str:
    """Return the results as a page."""
    return "\n".join(
        [
            "# Results",
            "",
            "Written by `make bench`; do not edit. What it says of missed rows comes from `bench/missed.md`.",
            "",
            *machine(),
            f"- {plan.rounds} rounds of {plan.seconds:g} s each, or {plan.calls} of one call each, every "
            "other one in reverse order; every one is loaded as long once before; ratios are taken round "
            "by round",
            "- the load comes from one thread of wrk, on the same cores; where it takes a whole one, it is "
            "what limits",
            *(f"- {sentence}" for sentence in missing),
            "",
            *shown(rows),
            "",
            f"{tally(rows)}.",
            "",
            *explained(rows),
            "## Figures",
            "",
            *tables,
        ]
    )


def take(name: str, plan: Plan) -> Findings:
    """Measure the rows of one part; what fails is not measured, and the others go on."""
    part = PARTS[name]
    begun = time.monotonic()
    print(f"{name}: measuring", file=sys.stderr, flush=True)
    try:
        with Lab() as lab:
            found = part.measure(lab, plan)
    except Unmeasurable as error:
        why = " ".join(str(error).split()).replace("|", "/")
        found = Findings([each.unmeasured(why) for each in part.expected])
    for row in found.rows:
        print(f"  {row.what}: {row.measured} ({row.target}): {row.says}", file=sys.stderr)
    print(f"  {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
    return found


def main() -> int:
    """Measure and print."""
    # Servers end as the labs are left, which an interrupt leaves in order; a shell has what it runs
    # in the background ignore SIGINT.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="two minutes, and no file")
    parser.add_argument(
        "--only", nargs="+", choices=PARTS, metavar="PART", help=f"of {', '.join(PARTS)}; no file"
    )
    given = parser.parse_args()
    quick: bool = given.quick
    names: list[str] = given.only or list(QUICK_PARTS if quick else PARTS)
    plan = QUICK if quick else FULL
    missing = peers.install()
    found = [take(name, plan) for name in names]
    rows = [row for each in found for row in each.rows]
    page = report(plan, rows, [line for each in found for line in (*each.tables, "")], missing)
    print(page)
    if not quick and not given.only:
        RESULTS.write_text(page)
    return int(any(row.verdict is not Verdict.HELD for row in rows))


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except KeyboardInterrupt:
        raise SystemExit(130) from None
