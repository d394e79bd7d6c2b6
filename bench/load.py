"""Rounds of load by wrk, and what each of them cost the server."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.processes import cpu_s
from bench.servers import WITH_ME, Server, Unmeasurable

__all__ = ["Taken", "Target", "load", "pressed"]

#: How long its summing up may take, in seconds: answers on their way are waited for.
END_S = 60.0
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
    before = cpu_s(target.server.process.pid)
    with _wrk(target, connections) as wrk:
        try:
            said, _ = wrk.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            # It counts whole seconds only, but sums up whenever it is interrupted.
            wrk.send_signal(signal.SIGINT)
            said, _ = wrk.communicate(timeout=END_S)
    used_s = cpu_s(target.server.process.pid) - before
    figures = next((line for line in said.splitlines() if line.startswith("figures ")), "")
    if not figures:
        raise Unmeasurable(f"{target.name} cannot be asked: {said}")
    requests, took_us, failed, p50_us, p99_us = map(int, figures.split()[1:])
    good = requests - failed
    if good <= 0:
        raise Unmeasurable(f"{target.name} answered nothing well: {said}")
    return Taken(good / took_us * 1e6, used_s / good * 1e6, p50_us, p99_us, failed)


@contextmanager
def pressed(target: Target, connections: int) -> Iterator[None]:
    """Keep so many callers busy for as long as the context lasts."""
    with _wrk(target, connections) as wrk:
        yield
        if wrk.poll() is not None:
            raise Unmeasurable(f"the callers of {target.name} ended on their own")


@contextmanager
def _wrk(target: Target, connections: int) -> Iterator[subprocess.Popen[str]]:
    if shutil.which("wrk") is None:
        raise Unmeasurable("wrk is needed: apt-get install wrk")
    server = target.server
    process = subprocess.Popen(
        [
            *(*WITH_ME, "wrk", "-t1", f"-c{connections}", "-d1h", "--timeout", "60s"),
            *("-s", SCRIPT),
            f"http://127.0.0.1:{server.port}/",
        ],
        env={
            **os.environ,
            "BENCH_PATH": target.path,
            "BENCH_SPREAD": str(target.spread),
            "BENCH_HEADERS": "\n".join(f"{k}: {v}" for k, v in server.headers.items()),
            "BENCH_BODY": json.dumps(target.body),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()
