"""Rounds of load by wrk, and what each of them cost the server."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.processes import cpu_s
from bench.servers import Server

__all__ = ["Taken", "Target", "load"]

SCRIPT = Path(__file__).with_name("load.lua")


@dataclass(frozen=True)
class Target:
    """A server and what it is asked: ``path`` may hold a ``%d``, which counts to ``spread``."""

    server: Server
    path: str
    body: Any
    spread: int = 1

    @property
    def name(self) -> str:
        """The server's name."""
        return self.server.name


@dataclass(frozen=True)
class Taken:
    """What one round brought."""

    per_s: float
    #: CPU of the whole process tree for one request, in microseconds.
    cpu_us: float
    p50_us: float
    p99_us: float
    #: Answers that were no 2xx, and requests that got none.
    failed: int


def load(target: Target, connections: int, seconds: float) -> Taken:
    """Load a target for a while, over connections that are kept."""
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is needed: apt-get install wrk")
    server = target.server
    headers = "\n".join(f"{name}: {value}" for name, value in server.headers.items())
    before = cpu_s(server.process.pid)
    said = subprocess.check_output(
        [
            *("wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "-s", SCRIPT),
            f"http://127.0.0.1:{server.port}/",
        ],
        env={
            **os.environ,
            "BENCH_PATH": target.path,
            "BENCH_SPREAD": str(target.spread),
            "BENCH_HEADERS": headers,
            "BENCH_BODY": json.dumps(target.body),
        },
        text=True,
    )
    used_s = cpu_s(server.process.pid) - before
    figures = next(line for line in said.splitlines() if line.startswith("figures "))
    requests, took_us, failed, p50_us, p99_us = map(int, figures.split()[1:])
    good = requests - failed
    if good <= 0:
        raise SystemExit(f"{target.name} answered nothing well: {said}")
    return Taken(good / took_us * 1e6, used_s / good * 1e6, p50_us, p99_us, failed)
