"""Compares the p50 of invocations with a Loki that takes everything and one that never answers.

Services run side by side and take turns of a few hundred calls each, so that what else the machine
does falls on all of them. Usage: ``python bench/log_black_hole.py [rounds] [calls]``. Exits with 1
when the black hole costs 5 % or more against the Loki that answers.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import urllib3

#: Per cent that a Loki which never answers may cost.
LIMIT = 5.0
COMMAND = Path(sys.executable).with_name("lowcode-faas")
SOURCE = """
export const handler = ({name}) => {
  for (let n = 0; n < 3; n++) console.log('greeting', name, n);
  return {ok: true, data: null};
};
"""


def free_port() -> int:
    """Return a port nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


class Service:
    """One service and the times of its calls, in milliseconds."""

    def __init__(self, folder: Path, **variables: str) -> None:
        port = free_port()
        self.times: list[float] = []
        self.url = f"http://127.0.0.1:{port}"
        self.http = urllib3.PoolManager(retries=False, timeout=30)
        environ = {k: v for k, v in os.environ.items() if not k.startswith("LOWCODE_FAAS_")}
        settings = {
            "LISTEN": f"127.0.0.1:{port}",
            "DATA_DIR": str(folder),
            "RUNNER": "process",
            "WORKERS": "1",
            **variables,
        }
        self.process = subprocess.Popen(
            [COMMAND, "dispatcher"],
            env={**environ, **{f"LOWCODE_FAAS_{k}": v for k, v in settings.items()}},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def call(self, path: str, body: object) -> int:
        """Post JSON and return the status."""
        answer = self.http.request(
            "POST",
            self.url + path,
            body=json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        return answer.status

    def deploy(self) -> None:
        """Wait until it serves, then deploy."""
        for _ in range(600):
            try:
                if self.http.request("GET", f"{self.url}/readyz").status == 200:
                    break
            except urllib3.exceptions.HTTPError:
                pass
            time.sleep(0.05)
        if self.call("/functions", {"name": "f", "source_code": SOURCE}) != 201:
            raise SystemExit("the function could not be deployed")

    def measure(self, calls: int) -> list[float]:
        """Invoke one after the other and keep the times."""
        times = []
        for _ in range(calls):
            begun = time.perf_counter()
            status = self.call("/functions/f/invoke", {"input": {"name": "x"}})
            times.append((time.perf_counter() - begun) * 1e3)
            if status != 200:
                raise SystemExit(f"an invocation answered {status}")
        return times

    def stop(self) -> None:
        """End it."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(40)


@contextmanager
def black_hole() -> Iterator[str]:
    """Yield the URL of something that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


class _Taking(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Take a push as Loki does."""
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def _take(listener: socket.socket) -> None:
    server = ThreadingHTTPServer(listener.getsockname(), _Taking, bind_and_activate=False)
    server.socket = listener
    server.serve_forever()


@contextmanager
def taking() -> Iterator[str]:
    """Yield the URL of something that takes every push, in a process of its own."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        process = multiprocessing.get_context("fork").Process(
            target=_take, args=(listener,), daemon=True
        )
        process.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        process.kill()
        process.join()


def main(rounds: int = 30, calls: int = 200) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder, taking() as loki, black_hole() as hole:
        quiet = Service(Path(folder) / "quiet", FUNCTION_LOGS_SINK="none")
        holed = Service(Path(folder) / "holed", FUNCTION_LOGS_SINK="loki", LOG_LOKI_URL=hole)
        fine = Service(Path(folder) / "fine", FUNCTION_LOGS_SINK="loki", LOG_LOKI_URL=loki)
        stdout = Service(Path(folder) / "stdout", FUNCTION_LOGS_SINK="stdout")
        services = {"no sink": quiet, "stdout": stdout, "loki": fine, "black-holed loki": holed}
        try:
            for service in services.values():
                service.deploy()
                service.measure(calls)
            for _ in range(rounds):
                order = list(services.values())
                random.shuffle(order)
                for service in order:
                    service.times += service.measure(calls)
        finally:
            for service in services.values():
                service.stop()
        base = statistics.median(quiet.times)
        for name, service in services.items():
            p50 = statistics.median(service.times)
            print(f"{name:18} p50 {p50:.3f} ms  {100 * (p50 / base - 1):+.1f} %")
        against = statistics.median(fine.times)
        change = 100 * (statistics.median(holed.times) / against - 1)
        print(f"black-holed loki against loki: {change:+.1f} %")
        raise SystemExit(change >= LIMIT)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
