"""A plugin that hangs or raises in a whole service: it is named, and nobody else pays for it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import urllib3

Install = Callable[..., str]
COMMAND = Path(sys.executable).with_name("lowcode-faas")
HANGS = """
import time
from lowcode_faas_core.hookspecs import hookimpl

@hookimpl
def lowcode_faas_storage(environ):
    time.sleep(600)
"""
SINK = """
import time
from lowcode_faas_core.hookspecs import hookimpl
from lowcode_faas_core.interfaces.log_sink import LogSink

class Sink(LogSink):
    def emit(self, batch): MISBEHAVE
    def flush(self, deadline_ns): MISBEHAVE
    def close(self): MISBEHAVE

@hookimpl
def lowcode_faas_log_sink(environ):
    return Sink()
"""
GREET = "export const handler = () => { console.log('hello'); return { ok: true, data: 1 }; };"


class Started:
    """A dispatcher that runs what it is given, and what it prints."""

    def __init__(self, folder: Path, **variables: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self.output = folder / "output.txt"
        environ = {key: value for key, value in os.environ.items() if "LOWCODE_" not in key}
        settings = {
            "LISTEN": f"127.0.0.1:{port}",
            "DATA_DIR": str(folder / "data"),
            "RUNNER": "process",
            "WORKERS": "1",
            "DRAIN_NOTICE_S": "0",
            "DRAIN_TIMEOUT_S": "2",
            **variables,
        }
        with self.output.open("w") as output:
            self.process = subprocess.Popen(
                [COMMAND, "dispatcher"],
                env={**environ, **{f"LOWCODE_FAAS_{k}": v for k, v in settings.items()}},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def until(self, condition: Callable[[], Any], seconds: float) -> Any:
        deadline = time.monotonic() + seconds
        while not (value := condition()):
            assert time.monotonic() < deadline, self.output.read_text()
            time.sleep(0.05)
        return value

    def ready(self) -> bool:
        try:
            return urllib3.request("GET", f"{self.url}/readyz", retries=False).status == 200
        except urllib3.exceptions.HTTPError:
            return False

    def end(self) -> None:
        """Leave nothing, whatever it did."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Started]]:
    begun: list[Started] = []

    def run(**variables: str) -> Started:
        begun.append(Started(tmp_path, **variables))
        return begun[-1]

    yield run
    for each in begun:
        each.end()


@pytest.mark.fault(107)
def test_a_factory_that_hangs_is_named_while_the_start_waits(
    install: Install, start: Callable[..., Started]
) -> None:
    install("hanging-storage", HANGS, "hangs", version="1.2")
    service = start(STORAGE="hangs", EXECUTIONS="none")
    said = service.until(service.output.read_text, 20)
    assert (
        'still waiting: LOWCODE_FAAS_STORAGE names the plugin "hangs" (hanging-storage 1.2), whose '
        "lowcode_faas_storage has not returned after 5 s" in said
    )
    assert len(said.splitlines()) == 1


@pytest.mark.fault(88)
@pytest.mark.fault(107)
@pytest.mark.parametrize("how", ["raise RuntimeError('broken')", "time.sleep(600)"])
def test_a_sink_that_misbehaves_costs_no_invocation_and_no_end(
    install: Install, start: Callable[..., Started], how: str
) -> None:
    # Given a service one of whose sinks raises or hangs wherever it can
    install("bad-sink", SINK.replace("MISBEHAVE", how), "bad")
    service = start(FUNCTION_LOGS_SINK="bad,stdout")
    service.until(service.ready, 30)
    with urllib3.PoolManager(retries=False) as http:
        body = {"name": "greet", "source_code": GREET}
        assert http.request("POST", f"{service.url}/functions", json=body).status == 201
        # When functions print
        for _ in range(20):
            answer = http.request("POST", f"{service.url}/functions/greet/invoke", json={})
            assert (answer.status, answer.json()["status"]) == (200, "succeeded")
    # Then the other sink has every line, and the end comes in time and says what was lost
    service.until(lambda: service.output.read_text().count("hello") == 20, 10)
    service.process.terminate()
    assert service.process.wait(15) == 0
    assert "log sink bad " in service.output.read_text()
