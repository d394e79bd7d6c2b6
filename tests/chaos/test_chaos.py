"""SIGKILL of any process at any moment under mixed load: what was promised still holds afterwards.

``make chaos`` runs it for five minutes. CHAOS_SECONDS, CHAOS_SEED.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import random
import re
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import urllib3

from tests.chaos.load import Load, moving
from tests.chaos.supervised import Supervised, parents

PR_SET_CHILD_SUBREAPER = 36
SECONDS = float(os.environ.get("CHAOS_SECONDS", "20"))
#: Part of the time after the last kill in which memory and descriptors must not grow.
CALM = 0.25
GROWTH_MB = 25.0
GROWTH_DESCRIPTORS = 24


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def subreaper() -> Iterator[set[int]]:
    """Become the parent of whatever loses its own: an orphan is seen, wherever it hides.

    Yields the children there are already: servers that other tests share.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    before = {pid for pid, (parent, _) in parents().items() if parent == os.getpid()}
    yield before
    assert libc.prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0) == 0
    for pid, (parent, state) in parents().items():
        if parent == os.getpid() and pid not in before:
            if state not in "ZX":
                os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)


@pytest.fixture
def roles(subreaper: set[int], tmp_path: Path) -> Iterator[tuple[Supervised, Supervised]]:
    """Start a worker and a dispatcher, two serving processes each."""
    (tmp_path / "tmp").mkdir()
    ports = free_port(), free_port()
    shared = {
        "STORAGE": "files",
        "DATA_DIR": str(tmp_path / "data"),
        "FILES_KEEP_VERSIONS": "10000",
        "RUNNER": "process",
        "WORKERS": "2",
        "MAX_INSTANCES": "12",
        "IDLE_TTL_S": "2",
    }
    worker = Supervised(
        "worker", ports[0], tmp_path, {**shared, "WORKER_LISTEN": f"127.0.0.1:{ports[0]}"}
    )
    dispatcher = Supervised(
        "dispatcher",
        ports[1],
        tmp_path,
        {**shared, "LISTEN": f"127.0.0.1:{ports[1]}", "WORKER_URL": worker.url},
    )
    yield dispatcher, worker
    for each in (dispatcher, worker):
        each.close()
    for each in (dispatcher, worker):
        for pid in each.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        each.process.wait(10)


def until(what: str, condition: Callable[[], Any], seconds: float = 30.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what}: not within {seconds:g} s"
        time.sleep(0.05)
    return value


def settled(dispatcher: Supervised, worker: Supervised) -> bool:
    """Tell whether both serve with all their processes."""
    return all(len(each.serving()) == 2 and each.ready() for each in (worker, dispatcher))


def kill_one(source: random.Random, dispatcher: Supervised, worker: Supervised) -> str:
    """Kill any process of either role; say what it was."""
    role = source.choice((dispatcher, worker, worker))
    everyone, serving = role.processes(), role.serving()
    others = [pid for pid in everyone[1:] if pid not in serving]
    kinds = {"master": everyone[:1], "serving process": serving, "sandbox process": others}
    kind = source.choices(tuple(kinds), (1, 3, 4))[0]
    if not kinds[kind]:
        return ""
    victim = source.choice(kinds[kind])
    role.note_kill()
    with contextlib.suppress(ProcessLookupError):
        os.kill(victim, signal.SIGKILL)
    return f"{role.role}: {kind}"


def footprint(pid: int) -> tuple[float, int]:
    """Return resident memory in MB, and how many descriptors are open."""
    status = Path(f"/proc/{pid}/status").read_text()
    resident = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert resident is not None
    return int(resident.group(1)) / 1024, len(os.listdir(f"/proc/{pid}/fd"))


def strays(others: set[int], *roles: Supervised) -> list[int]:
    """Return living processes that lost the role they belonged to; ``others`` never had one."""
    alive = {pid for role in roles for pid in role.processes()}
    table = parents()
    below: dict[int, list[int]] = {}
    for pid, (parent, _) in table.items():
        below.setdefault(parent, []).append(pid)
    found = [pid for pid in below.get(os.getpid(), ()) if pid not in others]
    for pid in found:
        found += below.get(pid, ())
    return [pid for pid in found if pid not in alive and table[pid][1] not in "ZX"]


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 240)
@pytest.mark.fault(98)
@pytest.mark.fault(100)
def test_nothing_promised_is_lost_whatever_is_killed(
    roles: tuple[Supervised, Supervised], subreaper: set[int], tmp_path: Path
) -> None:
    seed = int(os.environ.get("CHAOS_SEED", "0")) or random.randrange(1 << 30)
    print(f"CHAOS_SEED={seed} CHAOS_SECONDS={SECONDS:g}")
    source = random.Random(seed)
    dispatcher, worker = roles
    until("both serve", lambda: settled(dispatcher, worker))
    load = Load(dispatcher, worker, seed)
    load.begin()
    began = time.monotonic()
    kills: Counter[str] = Counter()
    # When processes are killed at moments nobody chose
    while time.monotonic() < began + SECONDS * (1 - CALM):
        time.sleep(source.uniform(0.05, 1.5))
        kills[kill_one(source, dispatcher, worker)] += 1
    del kills[""]
    # Then both serve again, and what they hold does not grow under the same load
    until("both serve again", lambda: settled(dispatcher, worker))
    time.sleep(max(2.0, SECONDS * CALM / 4))
    survivors = {
        pid: footprint(pid) for role in roles for pid in [role.process.pid, *role.serving()]
    }
    time.sleep(max(2.0, SECONDS * CALM / 2))
    grown = {pid: (before, footprint(pid)) for pid, before in survivors.items()}
    load.end()
    print(f"{sum(kills.values())} kills: {dict(kills)}; lives: {worker.lives}, {dispatcher.lives}")
    print(f"{dict(load.counts)}; {len(load.acknowledged)} deploys acknowledged")
    print(
        "MB and descriptors:", [f"{a[0]:.0f}>{b[0]:.0f} {a[1]}>{b[1]}" for a, b in grown.values()]
    )
    print(*load.wrong[:40], sep="\n")
    assert load.wrong == []
    for before, after in grown.values():
        assert after[0] - before[0] < GROWTH_MB
        assert after[1] - before[1] < GROWTH_DESCRIPTORS
    # And nothing runs that belongs to nobody, or lies about
    until("no orphan is left", lambda: not strays(subreaper, dispatcher, worker), 10)
    owners = {path.stem for path in (tmp_path / "tmp").glob("lowcode-faas-process-*/*.lease")}
    until("leases are those of who lives", lambda: leases(tmp_path) <= 2, 20)
    print(f"{len(owners)} leases at first, {leases(tmp_path)} then; no orphan")
    # And each execution ran once at most, none that was told not to have run
    ran = Counter(re.findall(r"ran ([\w-]+)\.", worker.text()))
    assert max(ran.values()) == 1
    assert not [each for each in load.not_executed if ran[each]]
    # And every acknowledged deploy is there, whole
    with urllib3.PoolManager(retries=False, timeout=30) as http:
        check_deploys(load, http)
    print(
        f"{len(ran)} executions logged, none twice; {len(load.not_executed)} told not to have run"
    )


def leases(folder: Path) -> int:
    return len(list((folder / "tmp").glob("lowcode-faas-process-*/*.lease")))


def check_deploys(load: Load, http: urllib3.PoolManager) -> None:
    """Read every version of every function back, and run the current ones."""
    promised: dict[str, dict[int, str]] = {}
    for name, version, marker in load.acknowledged:
        assert version not in promised.setdefault(name, {}), f"{name} {version} was given twice"
        promised[name][version] = marker
    for name, wanted in promised.items():
        status, answer = load.request(http, "GET", f"/functions/{name}/versions?limit=1000")
        assert status == 200, answer
        rows = {row["version"]: row for row in answer["items"]}
        while answer["next_cursor"]:
            cursor = answer["next_cursor"]
            status, answer = load.request(
                http, "GET", f"/functions/{name}/versions?limit=1000&cursor={cursor}"
            )
            rows |= {row["version"]: row for row in answer["items"]}
        assert sorted(rows) == list(range(1, max(rows) + 1))
        for version, marker in wanted.items():
            assert rows[version]["sha256"] == hashlib.sha256(moving(marker).encode()).hexdigest()
        for version in rows:
            path = f"{load.dispatcher.url}/functions/{name}/source?version={version}"
            source = http.request("GET", path)
            assert source.status == 200, source.data
            assert hashlib.sha256(source.data).hexdigest() == rows[version]["sha256"]
        status, answer = load.request(http, "POST", f"/functions/{name}/invoke", {})
        assert (status, answer["status"]) == (200, "succeeded"), answer
        assert answer["deployment_version"] == max(rows)
