"""Compares the CPU of a warm request through dispatcher and worker with the in-process path.

Both stand side by side and take turns of a few hundred calls each, so that what else the machine
does falls on both; counted is the CPU of whole process trees, sandboxes included. Usage:
``python bench/two_roles.py [rounds] [calls] [callers]``. Exits with 1 above the limit.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import urllib3

#: Times the CPU of the in-process path that two roles may cost.
LIMIT = 1.6
COMMAND = Path(sys.executable).with_name("lowcode-faas")
SOURCE = "export const handler = (input) => ({ ok: true, data: input });"
TICKS = os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    """Return a port nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


class Service:
    """One role as a process tree."""

    def __init__(self, role: str, folder: Path, **variables: str) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        listen = "LISTEN" if role == "dispatcher" else "WORKER_LISTEN"
        environ = {k: v for k, v in os.environ.items() if not k.startswith("LOWCODE_FAAS_")}
        settings = {
            listen: f"127.0.0.1:{port}",
            "DATA_DIR": str(folder),
            "RUNNER": "process",
            "WORKERS": "1",
            **variables,
        }
        self.process = subprocess.Popen(
            [COMMAND, role],
            env={**environ, **{f"LOWCODE_FAAS_{k}": v for k, v in settings.items()}},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        with urllib3.PoolManager(retries=False) as http:
            deadline = time.monotonic() + 30
            while time.monotonic() < deadline:
                try:
                    if http.request("GET", f"{self.url}/readyz").status == 200:
                        return
                except urllib3.exceptions.HTTPError:
                    pass
                time.sleep(0.05)
        raise SystemExit(f"the {role} does not become ready")

    def close(self) -> None:
        """End it."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(20)


def cpu_s(*services: Service) -> dict[str, float]:
    """Return the CPU time of each process of these trees, in seconds, by role and kind."""
    stats = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                text = Path(f"/proc/{name}/stat").read_text(errors="replace")
            except OSError:
                continue
            fields = text.rpartition(")")[2].split()
            used = sum(map(int, fields[11:13])) / TICKS
            stats[int(name)] = (int(fields[1]), used, text[text.index("(") + 1 :].split(")")[0])
    found: dict[str, float] = {}
    for number, service in enumerate(services):
        tree = [service.process.pid]
        for pid in tree:
            tree += [child for child, (parent, _, _) in stats.items() if parent == pid]
            kind = "node" if stats[pid][2] in ("node", "MainThread") else "python"
            key = f"{number} {kind}"
            found[key] = found.get(key, 0.0) + stats[pid][1]
    return found


def call(url: str, calls: int, callers: int) -> float:
    """Invoke so often, and return the median time in milliseconds."""
    times: list[float] = []

    def run() -> None:
        with urllib3.PoolManager(retries=False, timeout=30) as http:
            body = json.dumps({"input": {"name": "x"}}).encode()
            for _ in range(calls // callers):
                began = time.perf_counter()
                answer = http.request(
                    "POST",
                    f"{url}/functions/echo/invoke",
                    body=body,
                    headers={"Content-Type": "application/json"},
                )
                times.append((time.perf_counter() - began) * 1000)
                if answer.status != 200:
                    raise SystemExit(answer.data.decode())

    threads = [threading.Thread(target=run) for _ in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return statistics.median(times)


def main() -> int:
    """Run and report."""
    rounds, calls, callers = (
        int(sys.argv[n]) if len(sys.argv) > n else default
        for n, default in ((1, 10), (2, 500), (3, 1))
    )
    services: list[Service] = []
    with tempfile.TemporaryDirectory() as folder:
        try:
            services.append(Service("dispatcher", Path(folder) / "one"))
            secret = {"WORKER_TOKEN": "secret"}
            services.append(Service("worker", Path(folder) / "two", **secret))
            services.append(
                Service("dispatcher", Path(folder) / "two", WORKER_URL=services[1].url, **secret)
            )
            alone, worker, dispatcher = services
            ways = {"in process": (alone,), "two roles": (dispatcher, worker)}
            with urllib3.PoolManager() as http:
                for entry in (alone, dispatcher):
                    body = {"name": "echo", "source_code": SOURCE}
                    answer = http.request("POST", f"{entry.url}/functions", json=body)
                    if answer.status != 201:
                        raise SystemExit(answer.data.decode())
                    call(entry.url, 400, callers)
            used: dict[str, dict[str, float]] = {way: {} for way in ways}
            medians: dict[str, list[float]] = {way: [] for way in ways}
            for _ in range(rounds):
                for way, members in ways.items():
                    before = cpu_s(*members)
                    medians[way].append(call(members[0].url, calls, callers))
                    for key, value in cpu_s(*members).items():
                        used[way][key] = used[way].get(key, 0.0) + value - before.get(key, 0.0)
        finally:
            for service in services:
                service.close()
    count = rounds * (calls // callers) * callers
    totals = {}
    for way, parts in used.items():
        totals[way] = sum(parts.values()) / count * 1e6
        shown = ", ".join(f"{k}: {v / count * 1e6:.0f}" for k, v in sorted(parts.items()))
        middle = statistics.median(medians[way])
        print(f"{way}: {totals[way]:.0f} us of CPU a request ({shown}), p50 {middle:.2f} ms")
    ratio = totals["two roles"] / totals["in process"]
    print(f"two roles cost {ratio:.2f} times the CPU of one; the limit is {LIMIT}")
    return int(ratio > LIMIT)


if __name__ == "__main__":
    raise SystemExit(main())
