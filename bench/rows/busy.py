"""Handlers that compute: how many of them all cores carry, and what they leave to short ones."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from typing import Final

from bench.lab import HELLO, Lab
from bench.load import Taken, Target, load, pressed
from bench.processes import cpu_s
from bench.rounds import Rounds, alternate
from bench.rows import Expectation, Findings, Plan, Row
from bench.rows.warm import BODY, table, throughput
from bench.servers import Unmeasurable

__all__ = ["EXPECTED", "measure"]

_PEER = Expectation("handler of 20 ms of CPU, 4 connections / best single process", 1.8, least=True)
_BESIDE = Expectation("hello p99, 1 connection, beside 4 CPU-bound callers / quiet", 5.0)
EXPECTED: Final = (_PEER, _BESIDE)
CALLERS: Final = 4
#: What a call computes on every host, in milliseconds of CPU.
COMPUTE_MS: Final = 20
#: The part of it by which the CPU of a request may differ in the rounds; beyond, hosts are compared
#: that do not do the same.
MAY_DIFFER: Final = 0.15
#: Loops of the requests by which a host is calibrated: 20 ms at about 1 ns a step.
PROBE_LOOPS: Final = 20_000
#: How many of these are sent before and while the CPU is counted, which has ticks of 10 ms.
WARMING, COUNTED = 10, 30
#: Until there are as many instances as callers, in seconds.
GROWN_S: Final = 1.0
#: The same as in bench/peers. A loop is a call of 1000 steps, which every V8 compiles alike; of one
#: loop of millions, Node 24 keeps what it compiled while that ran, at four times the CPU of Deno 2.9.
SPIN = """function steps(x) {
  for (let i = 0; i < 1000; i++) x = (Math.imul(x, 31) + i) | 0;
  return x;
}

export const handler = ({ loops }) => {
  let x = 0;
  for (let n = 0; n < loops; n++) x = steps(x);
  return { ok: true, data: { x } };
};"""


def measure(lab: Lab, plan: Plan) -> Findings:
    """Measure both."""
    service = lab.service()
    service.deploy("spin", SPIN)
    service.deploy("hello", HELLO)
    service.invoke("hello", BODY["input"])
    ours, *hosts = (
        calibrated(each)
        for each in (
            Target(service, "/functions/spin/invoke", None),
            *(Target(host, "/echo", None) for host in lab.hosts()),
        )
    )
    for target in (ours, *hosts):
        load(target, CALLERS, plan.seconds)
    subjects = {t.name: partial(load, t, CALLERS, plan.seconds) for t in (ours, *hosts)}
    computing = alternate(subjects, plan.rounds)
    row, compared_with = compared(computing, ours.name)
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
    loops = ", ".join(f"{t.name} {t.body['input']['loops']:,}" for t in (ours, *hosts))
    return Findings(
        [row, _BESIDE.judge(ratio)],
        [
            f"{compared_with}; {COMPUTE_MS} ms of CPU, counted on each host before, "
            f"are so many loops of 1000 steps: {loops}",
            "",
            *table(computing, CALLERS),
            "",
            *table(taken, 1),
        ],
    )


def calibrated(target: Target) -> Target:
    """Return the target with as many loops in its body as it does in 20 ms of CPU.

    Counted is the CPU of its process tree for requests one after the other, less that of requests
    that compute next to nothing.
    """

    def cpu_of(loops: int) -> float:
        body = {"input": {"loops": loops}}
        before = cpu_s(target.server.process.pid)
        for _ in range(COUNTED):
            status, answer = target.server.call("POST", target.path, body)
            if status != 200:
                raise Unmeasurable(f"{target.name} does not compute: {answer}")
        return (cpu_s(target.server.process.pid) - before) / COUNTED

    for _ in range(WARMING):
        target.server.call("POST", target.path, {"input": {"loops": PROBE_LOOPS}})
    for_all_s = cpu_of(PROBE_LOOPS) - cpu_of(1)
    if for_all_s <= 0:
        raise Unmeasurable(f"{target.name} computes in no time")
    loops = round(PROBE_LOOPS * COMPUTE_MS / 1000 / for_all_s)
    return replace(target, body={"input": {"loops": loops}})


def compared(computing: Rounds[Taken], ours: str) -> tuple[Row, str]:
    """Judge the throughput beside the best host on which a request took its 20 ms of CPU.

    Returned as well is whom it was compared with, and who is left out since its compiler did
    something else under load than when it was counted.
    """
    took_ms = {
        name: computing.median(name, lambda each: each.cpu_us) / 1000 for name in computing.taken
    }
    off = {n: took for n, took in took_ms.items() if abs(took / COMPUTE_MS - 1) > MAY_DIFFER}
    said = ", ".join(f"{name} {took:.1f} ms" for name, took in off.items())
    fit = [name for name in took_ms if name != ours and name not in off]
    if ours in off or not fit:
        unfit = f"CPU of a request instead of {COMPUTE_MS} ms: {said}"
        return _PEER.unmeasured(unfit), "nobody could be compared"
    best = max(fit, key=lambda name: computing.median(name, lambda each: each.per_s))
    left_out = f", those left out that took other than {COMPUTE_MS} ms: {said}" if off else ""
    return throughput(computing, ours, best, _PEER), f"the best single process is {best}{left_out}"
