"""What containers cost: warm calls beside local processes, first calls beside files, and memory."""

from __future__ import annotations

import os
import shutil
from functools import partial
from statistics import median
from typing import Final

import docker
from lowcode_faas_docker_runner.ownership import MANAGED, OWNER

from bench.lab import HELLO, Lab, node
from bench.load import Taken, Target, load
from bench.processes import ancestors, cpu_by_executable, executable, pss_bytes, tree
from bench.rounds import Ratio, alternate
from bench.rows import Expectation, Findings, Plan, Row
from bench.rows.first import first_call
from bench.rows.first import table as times
from bench.rows.memory import bare_nodes, idle_instances
from bench.rows.memory import table as sizes
from bench.rows.warm import BODY, throughput
from bench.rows.warm import table as loads
from bench.servers import Service, Unmeasurable

__all__ = ["EXPECTED", "measure"]

_WARM = Expectation("Docker: warm throughput, 16 connections / `process`", 0.8, least=True)
_FIRST = Expectation("Docker: first call by the `files` exchange / with stock", 30.0, least=True)
_PSS = Expectation("PSS of an idle container / a bare idle Node", 1.7)
EXPECTED: Final = (_WARM, _FIRST, _PSS)
#: Connections: fewer than there are places for invocations, so that slow starts refuse nobody.
CALLERS: Final = 16
#: First calls by files take a second and more each.
FIRST_CALLS: Final = 9


def measure(lab: Lab, plan: Plan) -> Findings:
    """Measure all three; the services of one are ended before the next are begun."""
    image, variables = lab.engine()
    settings = {"RUNNER": "docker", "NODE_DOCKER_IMAGE": image, "DOCKER_NETWORK": "none"}
    found = [
        _warm(lab, plan, settings, variables),
        _first(lab, plan, settings, variables),
        _memory(lab, plan, settings, variables),
    ]
    return Findings(
        [row for each in found for row in each.rows],
        [line for each in found for line in (*each.tables, "")][:-1],
    )


def _warm(lab: Lab, plan: Plan, settings: dict[str, str], variables: dict[str, str]) -> Findings:
    process = lab.service("process")
    container = lab.service("docker", settings, variables)
    targets = []
    for service in (process, container):
        service.deploy("hello", HELLO)
        service.invoke("hello", BODY["input"])
        targets.append(Target(service, "/functions/hello/invoke", BODY))
        load(targets[-1], CALLERS, plan.seconds)
    beside: list[dict[str, float]] = []
    taken = alternate(
        {
            "process": partial(load, targets[0], CALLERS, plan.seconds),
            "docker": partial(_load, targets[1], plan.seconds, beside),
        },
        plan.rounds,
    )
    for service in (process, container):
        service.stop()
    row = throughput(taken, "docker", "process", _WARM)
    return Findings([row], [*loads(taken, CALLERS), "", *_costs(beside)])


def _load(target: Target, seconds: float, beside: list[dict[str, float]]) -> Taken:
    """Load it, and note what a request costs beside the service, in microseconds of CPU."""
    before = _beside_s()
    taken = load(target, CALLERS, seconds)
    used_s = {name: each - before[name] for name, each in _beside_s().items()}
    beside.append({name: each / taken.per_s / seconds * 1e6 for name, each in used_s.items()})
    return taken


def _beside_s() -> dict[str, float]:
    """Return the CPU time of this machine's engines, their shims and what is in containers."""
    used_s = {"containers": 0.0, "engine": 0.0, "its shims": 0.0}
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        name = executable(pid)
        if name.startswith("containerd-shim"):
            parts = cpu_by_executable(pid)
            used_s["its shims"] += parts.pop(name, 0.0)
            used_s["containers"] += sum(parts.values())
        elif name in ("dockerd", "containerd"):
            # Their tree may hold the shims, which count by themselves.
            used_s["engine"] += cpu_by_executable(pid)[name]
    return used_s


def _costs(beside: list[dict[str, float]]) -> list[str]:
    lines = ["| beside the service, under Docker | CPU µs a request |", "|---|---|"]
    for name in beside[0]:
        lines.append(f"| {name} | {median(each[name] for each in beside):.0f} |")
    return lines


def _first(lab: Lab, plan: Plan, settings: dict[str, str], variables: dict[str, str]) -> Findings:
    stream = lab.service("stream", settings, variables)
    files = lab.service("files", {**settings, "DOCKER_EXCHANGE": "files"}, variables)
    taken = alternate(
        {
            "files exchange": first_call(files, "cold", 0.0),
            "with stock": first_call(stream, "prewarmed", plan.settle_s * 2),
        },
        min(plan.calls, FIRST_CALLS),
    )
    for service in (stream, files):
        service.stop()
    row = _FIRST.judge(taken.ratio("files exchange", "with stock", float))
    return Findings([row], times("first calls in containers", taken))


def _memory(lab: Lab, plan: Plan, settings: dict[str, str], variables: dict[str, str]) -> Findings:
    """Pair containers with as many bare processes, each kind with a file of its own to share."""
    alone = {**settings, "STOCK": "0"}
    service = lab.service("idle containers", alone, variables)
    copied = lab.folder / "node"
    shutil.copy(node(), copied)
    with bare_nodes(copied, plan.idle) as bare:
        idle_instances(service, plan.idle)
        inits = _containers(service, variables)
        if len(inits) != plan.idle:
            raise Unmeasurable(f"{len(inits)} containers are there instead of {plan.idle}")
        within = [sum(map(pss_bytes, tree(pid))) for pid in inits]
        shims = [pss_bytes(_shim(pid)) for pid in inits]
        theirs = sorted(map(pss_bytes, bare))
    service.stop()
    whole = sorted(map(sum, zip(within, shims, strict=True)))
    row: Row = _PSS.judge(Ratio.of(whole, theirs), "with the engine's shim")
    kinds = {
        "within an idle container": within,
        "its shim": shims,
        "bare idle Node beside it": theirs,
    }
    return Findings([row], sizes(kinds))


def _containers(service: Service, variables: dict[str, str]) -> list[int]:
    """Return the first process of every container that is this service's."""
    address = variables.get("DOCKER_HOST")
    client = docker.DockerClient(base_url=address) if address else docker.from_env()
    ours = {str(pid) for pid in tree(service.process.pid)}
    try:
        return [
            int(client.api.inspect_container(each.id)["State"]["Pid"])
            for each in client.containers.list(filters={"label": MANAGED})
            if each.labels[OWNER].split(":")[1] in ours
        ]
    finally:
        client.close()


def _shim(pid: int) -> int:
    return next(each for each in ancestors(pid) if executable(each).startswith("containerd-shim"))
