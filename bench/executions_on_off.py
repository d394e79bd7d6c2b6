"""Compares the CPU of a warm invocation with executions recorded in SQLite and with none recorded.

Two services take turns of a few seconds each, so that what else the machine does falls on both.
Usage: ``python -m bench.executions_on_off [rounds] [seconds] [connections]``. Exits with 1 when
recording costs 10 % or more. The CPU is that of all processes of the service, sandboxes too.
"""

from __future__ import annotations

import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

from bench.load import Target, load
from bench.servers import Service

#: Per cent that recording may cost.
LIMIT = 10.0
SOURCE = "export const handler = (input) => ({ ok: true, data: { hello: input.name } });"


def main(rounds: int = 40, seconds: int = 1, connections: int = 4) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        settings = {"RUNNER": "process", "WORKERS": "1", "FUNCTION_LOGS_SINK": "none"}
        services = [
            Service(name, Path(folder) / name, {**settings, "EXECUTIONS": store})
            for name, store in (("none", "none"), ("sqlite", "sqlite"))
        ]
        cpu: dict[str, list[float]] = {service.name: [] for service in services}
        rates: dict[str, list[float]] = {service.name: [] for service in services}
        try:
            for service in services:
                service.wait()
                service.deploy("f", SOURCE)
                load(_target(service), connections, 2)
            for _ in range(rounds):
                random.shuffle(services)
                for service in services:
                    taken = load(_target(service), connections, seconds)
                    cpu[service.name].append(taken.cpu_us)
                    rates[service.name].append(taken.per_s)
            recorded = _recorded(next(each for each in services if each.name == "sqlite"))
        finally:
            for service in services:
                service.stop()
    answered = seconds * sum(rates["sqlite"])
    print(f"{recorded} executions recorded, about {answered:.0f} measured")
    if recorded < answered * 0.95:
        raise SystemExit("what is not recorded costs nothing: this says nothing")
    for name, used in cpu.items():
        print(
            f"{name:8} {statistics.median(used):.1f} us of CPU an invocation, "
            f"{statistics.median(rates[name]):.0f} a second"
        )
    # Of each pair, since what else the machine does lasts for longer than a round.
    changes = sorted(
        100 * (on / off - 1) for on, off in zip(cpu["sqlite"], cpu["none"], strict=True)
    )
    change = statistics.median(changes)
    print(
        f"recording costs {change:+.1f} % of the CPU, the middle of {rounds} pairs; half of them are "
        f"between {changes[rounds // 4]:+.1f} and {changes[rounds * 3 // 4]:+.1f} %"
    )
    raise SystemExit(change >= LIMIT)


def _recorded(service: Service) -> int:
    time.sleep(1)  # the last batch
    _, found = service.call("GET", "/functions/f/stats")
    return int(sum(found["by_status"].values()))


def _target(service: Service) -> Target:
    return Target(service, "/functions/f/invoke", {"input": {"name": "x"}})


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
