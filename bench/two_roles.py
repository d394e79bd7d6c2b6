"""Compares the CPU of a warm request through dispatcher and worker with the in-process path.

The two roles speak over TCP, and once more over a Unix socket. All stand side by side on their
defaults and take turns, so that what else the machine does falls on each; counted is the CPU of whole
process trees, sandboxes included. Usage::

    .venv/bin/python -m bench.two_roles [rounds] [calls] [callers]

``calls`` is about how many a round has, ``callers`` how many connections are busy, one number or
several with commas. Exits with 1 when two roles cost more than the limit at any of them, whichever
way they speak. Needs wrk.
"""

from __future__ import annotations

import sys
from functools import partial

from bench.lab import Lab
from bench.load import Taken, Target, load
from bench.rounds import Ratio, Rounds, alternate
from bench.servers import Service, Unmeasurable

#: Times the CPU of the in-process path that two roles may cost.
LIMIT = 1.6
DEFAULTS = ("10", "4000", "1,8,32")
#: How long both are loaded before, and the shortest round, in seconds: CPU is counted in ticks of 10 ms.
WARM_S, SHORTEST_S = 2.0, 0.5
SOURCE = "export const handler = (input) => ({ ok: true, data: input });"
BODY = {"input": {"name": "x"}}
#: The names are those of the processes in what is printed.
ALONE, BY_TCP, BY_SOCKET = "alone", "dispatcher", "dispatcher by socket"


def ways(lab: Lab) -> list[Target]:
    """Start one role, and two that speak either way; return how each is asked."""
    services = [lab.service(ALONE)]
    workers: list[tuple[Service, ...]] = [()]
    path = str(lab.folder / "worker.sock")
    secret = {"WORKER_TOKEN": "secret"}
    for name, more in ((BY_TCP, {}), (BY_SOCKET, {"WORKER_SOCKET": path})):
        worker = lab.worker(settings={**secret, **more, "DATA_DIR": str(lab.folder / name)})
        url = f"unix:{path}" if more else f"http://127.0.0.1:{worker.port}"
        services.append(lab.service(name, {**secret, "WORKER_URL": url}))
        workers.append((worker,))
    for each in services:
        each.deploy("echo", SOURCE)
        each.invoke("echo", BODY["input"])
    return [
        Target(each, "/functions/echo/invoke", BODY, behind=behind)
        for each, behind in zip(services, workers, strict=True)
    ]


def compare(targets: list[Target], rounds: int, calls: int, callers: int) -> dict[str, Ratio]:
    """Take turns, print what each way took, and return the ratios of the CPU to that of one role."""
    slowest = min(load(each, callers, WARM_S).per_s for each in targets)
    seconds = max(SHORTEST_S, calls / slowest)
    taken = alternate(
        {each.name: partial(load, each, callers, seconds) for each in targets}, rounds
    )
    for target in targets:
        print(f"  {shown(taken, target.name)}")
    return {
        name: taken.ratio(name, ALONE, lambda each: each.cpu_us) for name in (BY_TCP, BY_SOCKET)
    }


def shown(taken: Rounds[Taken], name: str) -> str:
    """Return the medians of one way."""
    total = taken.median(name, lambda each: each.cpu_us)
    kinds = sorted({kind for each in taken.taken[name] for kind in each.cpu_of_us})
    medians = {kind: taken.median(name, partial(_part, kind)) for kind in kinds}
    parts = ", ".join(f"{kind} {used:.0f}" for kind, used in medians.items() if used >= 1)
    p50_ms = taken.median(name, lambda each: each.p50_us) / 1000
    failed = sum(taken.series(name, lambda each: each.failed))
    return f"{total:.0f} us of CPU a request ({parts}), p50 {p50_ms:.2f} ms, {failed:.0f} failed"


def _part(kind: str, taken: Taken) -> float:
    return taken.cpu_of_us.get(kind, 0.0)


def main() -> int:
    """Run and report."""
    given = sys.argv[1:]
    rounds, calls, numbers = (*given, *DEFAULTS[len(given) :])
    with Lab() as lab:
        targets = ways(lab)
        ratios = []
        for callers in map(int, numbers.split(",")):
            print(f"{callers} callers:")
            for name, ratio in compare(targets, int(rounds), int(calls), callers).items():
                print(
                    f"  {name}: two roles cost {ratio} times the CPU of one; the limit is {LIMIT}",
                    flush=True,
                )
                ratios.append(ratio)
    return int(any(each.median > LIMIT for each in ratios))


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except Unmeasurable as error:
        raise SystemExit(str(error)) from error
