"""Measures the service beside a bare echo and other hosts of functions, and says what holds.

``python -m bench.compare`` writes ``bench/RESULTS.md``; with ``--quick`` it only prints, in less
than two minutes, the rows of warm invocations. Exits with 1 when an expectation does not hold.
Needs wrk; ``make bench`` and ``make bench-quick`` run it.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from bench import peers
from bench.load import Target
from bench.rows import Plan, Row, warm
from bench.servers import COMMAND, ROOT, Server, Service
from lowcode_faas_core.configuration import ServerSettings
from lowcode_faas_core.settings import read_settings

RESULTS = Path(__file__).with_name("RESULTS.md")
HELLO = "export const handler = ({ name }) => ({ ok: true, data: { message: `hello ${name}` } });"
BODY = {"input": {"name": "world", "tags": ["a", "b"], "count": 3}}
FULL = Plan(rounds=9, seconds=2.0, calls=25, warm_only=False)
QUICK = Plan(rounds=5, seconds=1.0, calls=0, warm_only=True)


def node() -> Path:
    """Return the Node that the process runner uses."""
    script = ROOT / "scripts" / "node_path.py"
    return Path(subprocess.check_output([sys.executable, script], text=True).strip())


def token(folder: Path) -> str:
    """Make a token, so that the service asks every caller for one, as it does by default."""
    return subprocess.check_output(
        [COMMAND, "token", "create", "bench"],
        env={**os.environ, "LOWCODE_FAAS_DATA_DIR": str(folder)},
        text=True,
    ).strip()


@contextmanager
def servers(folder: Path) -> Iterator[tuple[Service, list[Server]]]:
    """Run the service on its defaults and the peers beside it; all have ended afterwards."""
    (settings,) = read_settings({}, ServerSettings)
    data = folder / "data"
    headers = {"Authorization": f"Bearer {token(data)}"}
    started: list[Server] = []
    try:
        ours = Service("lowcode-faas", data, {"RUNNER": "process"}, headers)
        started.append(ours)
        beside = [peers.echo(settings.workers, settings.threads, headers)]
        started += beside
        beside += peers.others(node(), folder, headers)
        started += beside[1:]
        for server in started:
            server.wait()
        ours.deploy("hello", HELLO)
        yield ours, beside
    finally:
        for server in started:
            server.stop()


def machine() -> list[str]:
    """Describe where this was measured, and of what."""
    (settings,) = read_settings({}, ServerSettings)
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
        f"- Python {platform.python_version()}, {packages}; Node {node_version}",
        f"- service and echo: {settings.workers} workers × {settings.threads} threads, keep-alive; "
        "the others are one process each",
        "- service: storage `files`, runner `process`, a token in every request, executions kept, "
        "logs to stdout",
        "- echo: parses its JSON, wants an object in it, answers with it; the same requests",
    ]


def shown(rows: list[Row]) -> list[str]:
    """Return the rows as a table."""
    verdicts = {True: "yes", False: "**no**", None: ""}
    return [
        "| what | target | measured, median (quartiles) | holds |",
        "|---|---|---|---|",
        *(f"| {r.what} | {r.target} | {r.measured} | {verdicts[r.holds]} |" for r in rows),
    ]


def report(plan: Plan, rows: list[Row], tables: list[str], missing: list[str]) -> str:
    """Return the results as a page."""
    return "\n".join(
        [
            "# Results",
            "",
            "Written by `make bench`; do not edit.",
            "",
            *machine(),
            f"- {plan.rounds} rounds of {plan.seconds:g} s each, every other one in reverse order; "
            "ratios are taken round by round",
            *(f"- {sentence}" for sentence in missing),
            "",
            *shown(rows),
            "",
            *tables,
            "",
        ]
    )


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="two minutes, warm invocations only")
    quick: bool = parser.parse_args().quick
    plan = QUICK if quick else FULL
    missing = peers.install()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        with servers(folder) as (ours, beside):
            targets = [Target(each, "/echo", BODY) for each in beside]
            rows, tables = warm.rows(Target(ours, "/functions/hello/invoke", BODY), targets, plan)
    page = report(plan, rows, tables, missing)
    print(page)
    if not quick:
        RESULTS.write_text(page)
    return int(any(row.holds is False for row in rows))


if __name__ == "__main__":
    raise SystemExit(main())
