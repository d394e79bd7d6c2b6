"""Rounds of load by wrk, and what each of them cost the server."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.processes import connections as connections_to
from bench.processes import cpu_by_executable
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
    #: Servers that this one asks in turn: their CPU is counted with its own.
    behind: tuple[Server, ...] = ()

    @property
    def name(self) -> str:
        """The server's name."""
        return self.server.name


@dataclass(frozen=True)
class Taken:
    """What one round brought."""

    per_s: float
    #: CPU of the whole process trees for one request, in microseconds.
    cpu_us: float
    p50_us: float
    p99_us: float
    #: Answers that were no 2xx, and requests that got none.
    failed: int
    #: The CPU by server and what its processes run, ``dispatcher node``; in microseconds, too.
    cpu_of_us: Mapping[str, float] = field(default_factory=dict)
    #: Cores that wrk itself took. It has one thread: from 1 on it is what limits.
    wrk_cores: float = 0.0
    #: The part of the connections that the process with most of them had.
    at_one: float = 1.0


def load(target: Target, connections: int, seconds: float) -> Taken:
    """Load a target for a while, over connections that are kept."""
    # One that is there for the server's own calls is none of the load.
    others = _connections_of(target)
    before, wrk_before_s = _cpu_of(target), _ended_s()
    with _wrk(target, connections) as wrk:
        time.sleep(seconds / 2)
        held = _connections_of(target) - others
        try:
            said, _ = wrk.communicate(timeout=seconds / 2)
        except subprocess.TimeoutExpired:
            # It counts whole seconds only, but sums up whenever it is interrupted.
            wrk.send_signal(signal.SIGINT)
            said, _ = wrk.communicate(timeout=END_S)
    wrk_s = _ended_s() - wrk_before_s
    used_s = _cpu_of(target)
    used_s.subtract(before)
    figures = next((line for line in said.splitlines() if line.startswith("figures ")), "")
    if not figures:
        raise Unmeasurable(f"{target.name} cannot be asked: {said}")
    requests, took_us, failed, p50_us, p99_us = map(int, figures.split()[1:])
    good = requests - failed
    if good <= 0:
        raise Unmeasurable(f"{target.name} answered nothing well: {said}")
    cpu_of_us = {name: each / good * 1e6 for name, each in used_s.items()}
    return Taken(
        good / took_us * 1e6,
        sum(cpu_of_us.values()),
        p50_us,
        p99_us,
        failed,
        cpu_of_us,
        wrk_s / took_us * 1e6,
        max(held.values(), default=0) / max(1, held.total()),
    )


@contextmanager
def pressed(target: Target, connections: int) -> Iterator[None]:
    """Keep so many callers busy for as long as the context lasts."""
    with _wrk(target, connections) as wrk:
        yield
        if wrk.poll() is not None:
            raise Unmeasurable(f"the callers of {target.name} ended on their own")


def _cpu_of(target: Target) -> Counter[str]:
    return Counter(
        {
            f"{server.name} {name}": used_s
            for server in (target.server, *target.behind)
            for name, used_s in cpu_by_executable(server.process.pid).items()
        }
    )


def _connections_of(target: Target) -> Counter[int]:
    return connections_to(target.server.process.pid, target.server.port)


def _ended_s() -> float:
    """Return the CPU of all children that have ended; while a load lasts, wrk alone does."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


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
