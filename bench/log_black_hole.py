"""Compares the p50 of invocations with a Loki that takes everything and one that never answers.

Services run side by side and take turns of a few hundred calls each, so that what else the machine
does falls on all of them. Usage: ``python -m bench.log_black_hole [rounds] [calls]``. Exits with 1
when the black hole costs 5 % or more against the Loki that answers.
"""

from __future__ import annotations

import multiprocessing
import random
import socket
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from bench.servers import Service

#: Per cent that a Loki which never answers may cost.
LIMIT = 5.0
SOURCE = """
export const handler = ({name}) => {
  for (let n = 0; n < 3; n++) console.log('greeting', name, n);
  return {ok: true, data: null};
};
"""


def measure(service: Service, calls: int) -> list[float]:
    """Invoke one after the other and return the times, in milliseconds."""
    return [service.invoke("f", {"name": "x"})[0] for _ in range(calls)]


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
        root = Path(folder)

        def start(name: str, sink: str, **variables: str) -> Service:
            settings = {"RUNNER": "process", "WORKERS": "1", "FUNCTION_LOGS_SINK": sink}
            return Service(name, root / name, {**settings, **variables})

        services = [
            start("no sink", "none"),
            start("stdout", "stdout"),
            start("loki", "loki", LOG_LOKI_URL=loki),
            start("black-holed loki", "loki", LOG_LOKI_URL=hole),
        ]
        times: dict[str, list[float]] = {service.name: [] for service in services}
        try:
            for service in services:
                service.wait()
                service.deploy("f", SOURCE)
                measure(service, calls)
            for _ in range(rounds):
                random.shuffle(services)
                for service in services:
                    times[service.name] += measure(service, calls)
        finally:
            for service in services:
                service.stop()
        base = statistics.median(times["no sink"])
        for name, taken in times.items():
            p50 = statistics.median(taken)
            print(f"{name:18} p50 {p50:.3f} ms  {100 * (p50 / base - 1):+.1f} %")
        against = statistics.median(times["loki"])
        change = 100 * (statistics.median(times["black-holed loki"]) / against - 1)
        print(f"black-holed loki against loki: {change:+.1f} %")
        raise SystemExit(change >= LIMIT)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
