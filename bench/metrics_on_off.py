"""Measures what metrics cost a warm invocation: CPU of two services that differ in nothing else.

Their rounds alternate; the CPU is of gunicorn, its workers and the sandboxes::

    .venv/bin/python -m bench.metrics_on_off

Says on the last line what is expected and whether it holds; exits with 1 when it does not.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from bench.processes import cpu_s
from bench.rounds import alternate
from bench.servers import Service

ECHO = "export const handler = (input) => ({ ok: true, data: input });"
ROUNDS = 24
#: Calls of a round: half a second and more, against ticks of 10 ms.
CALLS = 600
#: Expected: CPU of an invocation with metrics within this multiple of one without.
RATIO = 1.05
SCRAPES = 20


def cost(service: Service) -> float:
    """Return the CPU time of one warm invocation, in microseconds."""
    before = cpu_s(service.process.pid)
    for _ in range(CALLS):
        service.invoke("echo", {"n": 1})
    return (cpu_s(service.process.pid) - before) / CALLS * 1e6


def scrape_ms(service: Service) -> float:
    """Return how long one scrape takes, with as many functions as have series of their own."""
    for number in range(200):
        service.deploy(f"f{number}", ECHO)
        service.invoke(f"f{number}", {})
    began = time.perf_counter()
    for _ in range(SCRAPES):
        service.call("GET", "/metrics")
    return (time.perf_counter() - began) / SCRAPES * 1000


def main() -> int:
    """Measure, print, and tell whether what is expected holds."""
    alike = {"RUNNER": "process", "WORKERS": "1", "STOCK": "0", "FUNCTION_LOGS": "false"}
    with tempfile.TemporaryDirectory() as folder:
        services = {
            name: Service(name, Path(folder) / name, {**alike, "METRICS": name})
            for name in ("none", "prometheus")
        }
        try:
            for service in services.values():
                service.wait()
                service.deploy("echo", ECHO)
                cost(service)
            subjects = {name: lambda s=service: cost(s) for name, service in services.items()}
            rounds = alternate(subjects, ROUNDS)
            scrape = scrape_ms(services["prometheus"])
        finally:
            for service in services.values():
                service.stop()
    for name in services:
        print(f"{name:10} {rounds.median(name, float):6.0f} µs of CPU an invocation")
    ratio = rounds.ratio("prometheus", "none", float)
    print(f"a scrape with 200 functions: {scrape:.1f} ms")
    print(f"with metrics / without: {ratio} (expected at most {RATIO})")
    return int(ratio.median > RATIO)


if __name__ == "__main__":
    raise SystemExit(main())
