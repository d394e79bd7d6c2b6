"""Measures what Docker costs: a warm call over attach beside a local process, and a first call.

Three services run beside each other, and their calls alternate, so that whatever else the machine
does meets all of them alike: ``process``, ``docker`` with the stream exchange, ``docker`` with the
files exchange. Needs an engine (``python tests/docker/engine.py`` gives one) and an image with Node::

    python tests/docker/engine.py .venv/bin/python -m bench.docker_exchanges

Says on the last two lines what is expected and whether it holds; exits with 1 when it does not.
"""

from __future__ import annotations

import contextlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench.servers import ROOT, Service

ECHO = "export const handler = (input) => ({ ok: true, data: input });"
WARM_CALLS = 400
FIRST_CALLS = 12
#: Expected: the warm median over attach within this multiple of the process runner's.
WARM_RATIO = 1.5
#: Expected: a first call on a prewarmed container this many times faster than by files.
FIRST_RATIO = 20.0


@contextlib.contextmanager
def services() -> Iterator[list[Service]]:
    """Run the three services; each has ended afterwards, with its containers."""
    script = ROOT / "tests" / "docker" / "image.py"
    image = subprocess.check_output([sys.executable, script, "24"], text=True).strip()
    alike = {"WORKERS": "1", "STOCK": "2", "FUNCTION_LOGS": "false"}
    docker = {"RUNNER": "docker", "NODE_DOCKER_IMAGE": image, "DOCKER_NETWORK": "none", **alike}
    with tempfile.TemporaryDirectory() as folder:
        started = [
            Service("process", Path(folder) / "process", {"RUNNER": "process", **alike}),
            Service("stream", Path(folder) / "stream", docker),
            Service("files", Path(folder) / "files", {**docker, "DOCKER_EXCHANGE": "files"}),
        ]
        try:
            for service in started:
                service.wait()
            yield started
        finally:
            for service in started:
                service.stop()


def spread(times: list[float]) -> str:
    """Return median, 95th percentile and count."""
    p95 = statistics.quantiles(times, n=20)[-1]
    return f"p50 {statistics.median(times):8.2f} ms  p95 {p95:8.2f} ms  n {len(times)}"


def main() -> int:
    """Measure, print, and tell whether what is expected holds."""
    with services() as (process, stream, files):
        warm: dict[str, list[float]] = {"process": [], "stream": []}
        for service in (process, stream):
            service.deploy("warm", ECHO)
            for _ in range(20):
                service.invoke("warm", {"n": 1})
        for _ in range(WARM_CALLS):
            for service in (process, stream):
                warm[service.name].append(service.invoke("warm", {"n": 1})[0])
        first: dict[str, list[float]] = {"stream": [], "files": []}
        for number in range(FIRST_CALLS):
            for service in (stream, files):
                service.deploy(f"first-{number}", ECHO)
                time.sleep(1.0)  # the stock is filled again, as it is between first calls
                took, start = service.invoke(f"first-{number}", {"n": 1})
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
