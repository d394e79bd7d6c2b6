"""Handlers that compute: how many of them all cores carry, and what they leave to short ones."""

from __future__ import annotations

import json
import subprocess
import time
from functools import partial
from pathlib import Path
from typing import Final

from bench.lab import HELLO, Lab, node
from bench.load import Taken, Target, load, pressed
from bench.rounds import alternate
from bench.rows import Expectation, Findings, Plan, Row
from bench.rows.warm import BODY, table, throughput

__all__ = ["EXPECTED", "measure"]

_PEER = Expectation("handler of 20 ms of CPU, 4 connections / best single process", 1.8, least=True)
_BESIDE = Expectation("hello p99, 1 connection, beside 4 CPU-bound callers / quiet", 5.0)
EXPECTED: Final = (_PEER, _BESIDE)
CALLERS: Final = 4
#: What a call computes, on a core of its own, in milliseconds.
COMPUTE_MS: Final = 20
#: Until there are as many instances as callers, in seconds.
GROWN_S: Final = 1.0
#: The same loop as in bench/peers.
SPIN = """export const handler = ({ loops }) => {
  let x = 0;
  for (let i = 0; i < loops; i++) x = (x * 31 + i) | 0;
  return { ok: true, data: { x } };
};"""
_TIMED = """const spin = (loops) => {
  let x = 0;
  for (let i = 0; i < loops; i++) x = (x * 31 + i) | 0;
  return x;
};
let best = Infinity;
for (let round = 0; round < 20; round++) {
  const before = process.cpuUsage();
  spin(1e7);
  best = Math.min(best, process.cpuUsage(before).user);
}
console.log(JSON.stringify(best));"""


def measure(lab: Lab, plan: Plan) -> Findings:
    """Measure both."""
    service = lab.service()
    service.deploy("spin", SPIN)
    service.deploy("hello", HELLO)
    service.invoke("hello", BODY["input"])
    body = {"input": {"loops": loops_in(COMPUTE_MS, node())}}
    service.invoke("spin", body["input"])
    ours = Target(service, "/functions/spin/invoke", body)
    hosts = [Target(each, "/echo", body) for each in lab.hosts()]
    for target in (ours, *hosts):
        load(target, CALLERS, plan.seconds)
    subjects = {t.name: partial(load, t, CALLERS, plan.seconds) for t in (ours, *hosts)}
    computing = alternate(subjects, plan.rounds)
    best = max((each.name for each in hosts), key=lambda n: computing.median(n, lambda t: t.per_s))
    compared: Row = throughput(computing, ours.name, best, _PEER)
    for host in hosts:
        host.server.stop()
    hello = Target(service, "/functions/hello/invoke", BODY)
    load(hello, 1, plan.seconds)

    def beside() -> Taken:
        with pressed(ours, CALLERS):
            time.sleep(GROWN_S)
            return load(hello, 1, plan.seconds)

    def quiet() -> Taken:
        return load(hello, 1, plan.seconds)

    taken = alternate({"quiet": quiet, "beside 4 that compute": beside}, plan.rounds)
    ratio = taken.ratio("beside 4 that compute", "quiet", lambda each: each.p99_us)
    return Findings(
        [compared, _BESIDE.judge(ratio)],
        [
            f"the best single process is {best}:",
            "",
            *table(computing, CALLERS),
            "",
            *table(taken, 1),
        ],
    )


def loops_in(milliseconds: float, path: Path) -> int:
    """Return how often the loop goes round in so much CPU time of Node on this machine."""
    took_us = json.loads(subprocess.check_output([path, "-e", _TIMED], text=True))
    return int(1e7 * milliseconds * 1000 / took_us)
