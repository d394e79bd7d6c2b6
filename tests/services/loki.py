"""Something that answers as Loki 3 was measured to, and refuses what Loki refuses."""

from __future__ import annotations

import base64
import contextlib
import gzip
import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

__all__ = ["Checker", "Scripted", "serving"]

WEEK_NS = 7 * 24 * 3600 * 10**9
LINE_BYTES = 256 << 10


@dataclass
class Scripted:
    """What to answer instead of looking at a push."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: str = ""
    delay_s: float = 0.0


@dataclass
class Checker:
    """The pushes that were taken, and every request that came."""

    url: str = ""
    tenant: str = ""
    credentials: tuple[str, str] | None = None
    rows: list[list[Any]] = field(default_factory=list)
    seen: set[tuple[str, str]] = field(default_factory=set)
    streams: set[str] = field(default_factory=set)
    #: Status and time (``time.monotonic``) of each answer, in order.
    answers: list[tuple[int, float]] = field(default_factory=list)
    script: list[Scripted] = field(default_factory=list)
    #: Answers every request while it is set.
    always: Scripted | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def lines(self) -> list[str]:
        with self.lock:
            return [row[1] for row in self.rows]

    def messages(self) -> list[str]:
        return [json.loads(line)["message"] for line in self.lines()]

    def statuses(self) -> list[int]:
        with self.lock:
            return [status for status, _ in self.answers]

    def judge(self, headers: Any, path: str, body: bytes) -> Scripted:
        """Answer a push as Loki does: all of it is taken, or none and a reason."""
        if path != "/loki/api/v1/push":
            return Scripted(404, body="404 page not found")
        if self.tenant and headers.get("X-Scope-OrgID") != self.tenant:
            return Scripted(401, body="no org id")
        if self.credentials is not None:
            expected = base64.b64encode(":".join(self.credentials).encode()).decode()
            if headers.get("Authorization") != f"Basic {expected}":
                return Scripted(401, body="unauthorized")
        if headers.get("Content-Type") != "application/json":
            return Scripted(400, body="unsupported content type")
        try:
            if headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            streams = json.loads(body)["streams"]
            taken = [(s["stream"], row) for s in streams for row in s["values"]]
            for stream in streams:
                check_labels(stream["stream"])
            for _, row in taken:
                check_row(row)
        except (ValueError, KeyError, TypeError, OSError) as error:
            return Scripted(400, body=str(error))
        with self.lock:
            self.streams |= {json.dumps(s["stream"], sort_keys=True) for s in streams}
            for _, row in taken:
                if (row[0], row[1]) not in self.seen:  # Loki keeps one of equal entries
                    self.seen.add((row[0], row[1]))
                    self.rows.append(row)
        return Scripted(204)


def refuse(reason: str) -> None:
    raise ValueError(reason)


def check_labels(labels: Any) -> None:
    if not isinstance(labels, dict) or not labels:
        refuse("at least one label pair is required per stream")
    for name, value in labels.items():
        if not re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]*", name, re.ASCII) or not isinstance(
            value, str
        ):
            refuse("error parsing labels")
    if len(labels) > 15:
        refuse("label limit exceeded")


def check_row(row: Any) -> None:
    if not isinstance(row, list) or len(row) not in (2, 3):
        refuse("a row has two or three members")
    if not isinstance(row[0], str) or not row[0].isascii() or not row[0].isdigit():
        refuse("timestamps are strings of nanoseconds")
    age_ns = time.time_ns() - int(row[0])
    if age_ns > WEEK_NS:
        refuse("timestamp too old")
    if age_ns < -600 * 10**9:
        refuse("timestamp too new")
    if not isinstance(row[1], str):
        refuse("a line is a string")
    if len(row[1].encode()) > LINE_BYTES:
        refuse("max line size exceeded")
    if len(row) == 3:
        metadata = row[2]
        if not isinstance(metadata, dict):
            refuse("structured metadata is an object")
        if not all(isinstance(value, str) for value in metadata.values()):
            refuse("structured metadata values are strings")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    #: Buffered: head and body in two packets would wait 40 ms for an acknowledgement.
    wbufsize = -1

    def do_POST(self) -> None:
        checker: Checker = self.server.checker  # type: ignore[attr-defined]
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with checker.lock:
            answer = checker.script.pop(0) if checker.script else checker.always
        if answer is None:
            answer = checker.judge(self.headers, self.path, body)
        time.sleep(answer.delay_s)
        with checker.lock:
            checker.answers.append((answer.status, time.monotonic()))
        with contextlib.suppress(OSError):
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            if answer.status != 204:
                self.send_header("Content-Length", str(len(answer.body.encode())))
            self.end_headers()
            self.wfile.write(answer.body.encode())

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # its own name
        """Say nothing."""


class Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def process_request(self, request: Any, client_address: Any) -> None:
        """Remember connections, which outlive a listener."""
        self.__dict__.setdefault("connections", []).append(request)
        super().process_request(request, client_address)

    def die(self) -> None:
        """End as a killed process does, its connections with it."""
        self.shutdown()
        for connection in self.__dict__.get("connections", []):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that went away: that is what is tested."""


@contextlib.contextmanager
def serving(checker: Checker, port: int = 0) -> Iterator[Checker]:
    with Server(("127.0.0.1", port), Handler) as server:
        server.checker = checker  # type: ignore[attr-defined]
        checker.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield checker
        finally:
            server.die()
            thread.join()
