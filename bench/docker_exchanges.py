"""Measures what Docker costs: a warm call over attach beside a local process, and a first call.

Three services run beside each other, and their calls alternate, so that whatever else the machine
does meets all of them alike: ``process``, ``docker`` with the stream exchange, ``docker`` with the
files exchange. Needs an engine (``python tests/docker/engine.py`` gives one) and an image with Node::

    python tests/docker/engine.py .venv/bin/python bench/docker_exchanges.py

Says on the last two lines what is expected and whether it holds; exits with 1 when it does not.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import urllib3

ROOT = Path(__file__).resolve().parent.parent
COMMAND = Path(sys.executable).with_name("lowcode-faas")
ECHO = "export const handler = (input) => ({ ok: true, data: input });"
WARM_CALLS = 400
FIRST_CALLS = 12
#: Expected: the warm median over attach within this multiple of the process runner's.
WARM_RATIO = 1.5
#: Expected: a first call on a prewarmed container this many times faster than by files.
FIRST_RATIO = 20.0


class Service:
    """One service in a process of its own, and one connection to it."""

    def __init__(self, name: str, folder: Path, **variables: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.name = name
        own = {
            "LISTEN": f"127.0.0.1:{port}",
            "DATA_DIR": str(folder / name),
            "WORKERS": "1",
            "STOCK": "2",
            "FUNCTION_LOGS": "false",
            **variables,
        }
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("LOWCODE_FAAS_")}
        self.process = subprocess.Popen(
            [COMMAND, "dispatcher"],
            env={**inherited, **{f"LOWCODE_FAAS_{key}": value for key, value in own.items()}},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.http = urllib3.HTTPConnectionPool("127.0.0.1", port, maxsize=1, retries=False)

    def call(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """Return status and parsed body."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        answer = self.http.request(method, path, body=data, headers=headers)
        return answer.status, json.loads(answer.data)

    def wait(self) -> None:
        """Return when it is ready."""
        while True:
            with contextlib.suppress(urllib3.exceptions.HTTPError):
                if self.call("GET", "/readyz")[0] == 200:
                    return
            if self.process.poll() is not None:
                raise SystemExit(f"the service {self.name} does not start")
            time.sleep(0.1)

    def deploy(self, name: str) -> None:
        """Deploy the function under test under a name."""
        status, answer = self.call("POST", "/functions", {"name": name, "source_code": ECHO})
        if status != 201:
            raise SystemExit(f"{self.name}: {answer}")

    def time(self, name: str) -> tuple[float, str]:
        """Return how long one invocation took in milliseconds, and how it started."""
        began = time.perf_counter()
        status, answer = self.call("POST", f"/functions/{name}/invoke", {"input": {"n": 1}})
        took = (time.perf_counter() - began) * 1000
        if status != 200 or answer["status"] != "succeeded":
            raise SystemExit(f"{self.name}: {answer}")
        return took, answer["start"]


@contextlib.contextmanager
def services() -> Iterator[list[Service]]:
    """Run the three services; each has ended afterwards, with its containers."""
    script = ROOT / "tests" / "docker" / "image.py"
    image = subprocess.check_output([sys.executable, script, "24"], text=True).strip()
    docker = {"RUNNER": "docker", "NODE_DOCKER_IMAGE": image, "DOCKER_NETWORK": "none"}
    with tempfile.TemporaryDirectory() as folder:
        started = [
            Service("process", Path(folder), RUNNER="process"),
            Service("stream", Path(folder), **docker),
            Service("files", Path(folder), **docker, DOCKER_EXCHANGE="files"),
        ]
        try:
            for service in started:
                service.wait()
            yield started
        finally:
            for service in started:
                service.process.send_signal(signal.SIGTERM)
            for service in started:
                service.process.wait(60)


def spread(times: list[float]) -> str:
    """Return median, 95th percentile and count."""
    p95 = statistics.quantiles(times, n=20)[-1]
    return f"p50 {statistics.median(times):8.2f} ms  p95 {p95:8.2f} ms  n {len(times)}"


def main() -> int:
    """Measure, print, and tell whether what is expected holds."""
    with services() as (process, stream, files):
        warm: dict[str, list[float]] = {"process": [], "stream": []}
        for service in (process, stream):
            service.deploy("warm")
            for _ in range(20):
                service.time("warm")
        for _ in range(WARM_CALLS):
            for service in (process, stream):
                warm[service.name].append(service.time("warm")[0])
        first: dict[str, list[float]] = {"stream": [], "files": []}
        for number in range(FIRST_CALLS):
            for service in (stream, files):
                service.deploy(f"first-{number}")
                time.sleep(1.0)  # the stock is filled again, as it is between first calls
                took, start = service.time(f"first-{number}")
                if start in ("prewarmed", "cold") and (start == "prewarmed") == (service is stream):
                    first[service.name].append(took)
    for name, times in warm.items():
        print(f"warm,  {name:8} {spread(times)}")
    for name, times in first.items():
        print(f"first, {name:8} {spread(times)}")
    warm_ratio = statistics.median(warm["stream"]) / statistics.median(warm["process"])
    first_ratio = statistics.median(first["files"]) / statistics.median(first["stream"])
    print(f"warm over attach / process: {warm_ratio:.2f} (expected at most {WARM_RATIO})")
    print(f"files / prewarmed: {first_ratio:.1f} (expected at least {FIRST_RATIO})")
    return int(warm_ratio > WARM_RATIO or first_ratio < FIRST_RATIO)


if __name__ == "__main__":
    raise SystemExit(main())
