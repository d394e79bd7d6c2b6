"""Servers under measurement: each in a process of its own on a port of the loopback interface.

Whoever starts one stops it; when it cannot, since it was killed, the kernel does. Ctrl-C reaches only
the measurement, which then ends its servers in order.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import urllib3

__all__ = ["COMMAND", "ROOT", "WITH_ME", "Server", "Service", "Unmeasurable", "free_port"]

ROOT = Path(__file__).resolve().parent.parent
COMMAND = Path(sys.executable).with_name("lowcode-faas")
#: Longest start and longest end of a server, in seconds.
READY_S = 60.0
END_S = 60.0
#: Longest wait for an answer, in seconds.
ANSWER_S = 60.0
#: Kills the server when the thread that started it is gone: after ``kill -9`` nobody else would.
WITH_ME = ("setpriv", "--pdeathsig", "KILL")


class Unmeasurable(Exception):
    """Raised when something that is to be measured is not there, or does not work."""


def free_port() -> int:
    """Return a port nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


class Server:
    """One server, and a connection to it."""

    #: What is asked for until the server answers.
    ready_path = "/"

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        port: int,
        *,
        environ: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Start it; it is to listen on ``port``."""
        self.name = name
        self.port = port
        self.headers = {"Content-Type": "application/json", **(headers or {})}
        self.http = urllib3.HTTPConnectionPool("127.0.0.1", port, maxsize=1, retries=False)
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("LOWCODE_FAAS_")}
        self.process = subprocess.Popen(
            [*WITH_ME, *command],
            env={**inherited, **(environ or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def call(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """Return status and parsed body, or ``None`` where the body is not JSON."""
        data = None if body is None else json.dumps(body).encode()
        answer = self.http.request(method, path, body=data, headers=self.headers)
        with contextlib.suppress(ValueError):
            return answer.status, json.loads(answer.data)
        return answer.status, None

    def wait(self) -> None:
        """Return when it answers."""
        last = time.monotonic() + READY_S
        while time.monotonic() < last and self.process.poll() is None:
            with contextlib.suppress(urllib3.exceptions.HTTPError):
                if self.call("GET", self.ready_path)[0] < 500:
                    return
            time.sleep(0.05)
        raise Unmeasurable(f"{self.name} does not start")

    def stop(self) -> None:
        """End it, by force when it takes too long."""
        self.http.close()
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(END_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Service(Server):
    """A dispatcher with storage and sandboxes of its own, or the other role."""

    ready_path = "/readyz"

    def __init__(
        self,
        name: str,
        folder: Path,
        variables: Mapping[str, str],
        headers: Mapping[str, str] | None = None,
        environ: Mapping[str, str] | None = None,
        role: str = "dispatcher",
    ) -> None:
        """Start it on ``folder``; ``variables`` are its settings without their prefix."""
        self._line: socket.socket | None = None
        port = free_port()
        listen = "WORKER_LISTEN" if role == "worker" else "LISTEN"
        settings = {listen: f"127.0.0.1:{port}", "DATA_DIR": str(folder), **variables}
        super().__init__(
            name,
            [COMMAND, role],
            port,
            environ={
                **(environ or {}),
                **{f"LOWCODE_FAAS_{key}": value for key, value in settings.items()},
            },
            headers=headers,
        )

    def deploy(self, name: str, source: str, **fields: Any) -> None:
        """Deploy a function; one that is there already with this source stays as it is."""
        body = {"name": name, "source_code": source, **fields}
        status, answer = self.call("POST", "/functions", body)
        if status not in (200, 201):
            raise Unmeasurable(f"{self.name}: {answer}")

    def invoke(self, name: str, given: object) -> tuple[float, str]:
        """Return how long one invocation took in milliseconds, and how it started.

        From the first byte sent to the last one received, over a connection that is there: what a
        client's library does before and after is not the service's time.
        """
        body = json.dumps({"input": given}).encode()
        lines = [f"POST /functions/{name}/invoke HTTP/1.1", f"Host: 127.0.0.1:{self.port}"]
        lines += [f"{key}: {value}" for key, value in self.headers.items()]
        request = "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body
        if self._line is None:
            self._line = socket.create_connection(("127.0.0.1", self.port), ANSWER_S)
        begun = time.perf_counter()
        self._line.sendall(request)
        head, content = _answer(self._line)
        took = (time.perf_counter() - begun) * 1000
        answer = json.loads(content)
        if not head.startswith(b"HTTP/1.1 200 ") or answer["status"] != "succeeded":
            raise Unmeasurable(f"{self.name}: {content.decode()}")
        return took, answer["start"]

    def stop(self) -> None:
        """Close the connection, and end it."""
        if self._line is not None:
            self._line.close()
        super().stop()


def _answer(line: socket.socket) -> tuple[bytes, bytes]:
    """Return head and content of an answer whose length is known."""
    seen = b""
    while (end := seen.find(b"\r\n\r\n")) < 0:
        seen += _more(line)
    found = re.search(rb"\r\ncontent-length: *([0-9]+)", seen[:end], re.I)
    if found is None:
        raise Unmeasurable("an answer has no length")
    while len(seen) < end + 4 + int(found[1]):
        seen += _more(line)
    return seen[:end], seen[end + 4 :]


def _more(line: socket.socket) -> bytes:
    data = line.recv(1 << 16)
    if not data:
        raise Unmeasurable("a connection was closed instead of an answer")
    return data
