"""Bodies that are too large, or would be once unpacked: refused, and memory stays where it is."""

from __future__ import annotations

import contextlib
import gzip
import json
import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

#: By how many of the largest legal bodies the peak memory of a serving process may grow: one without
#: a length is read until it is longer than that, by a buffer that doubles.
BODIES = 4


def _peak(pid: int) -> int:
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) << 10


def _send(service: Any, head: str, body: Iterator[bytes]) -> tuple[int, Any]:
    """Send a request by hand until the other side has enough; return status and problem."""
    host, _, port = service.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), 30) as connection:
        request = f"POST /functions HTTP/1.1\r\nHost: {host}:{port}\r\n{head}\r\n"
        connection.sendall(request.encode())
        with contextlib.suppress(ConnectionError):
            for part in body:
                connection.sendall(part)
        answer = b""
        with contextlib.suppress(ConnectionError):
            while part := connection.recv(1 << 16):
                answer += part
                if b'"request_id"' in answer and answer.endswith(b"}"):
                    break
    status = int(answer.split(b" ", 2)[1])
    return status, json.loads(answer.partition(b"\r\n\r\n")[2])


@pytest.mark.fault(13)
@pytest.mark.fault(19)
def test_memory_stays_flat(serve: Callable[..., Any]) -> None:
    service = serve(WORKERS="1", STOCK="0")
    service.deploy("greet", "export const handler = () => ({ ok: true });")
    json_type = "Content-Type: application/json\r\n"
    megabyte = b" " * (1 << 20)
    [serving] = service.gunicorn_workers()
    before = _peak(serving.pid)

    # A gigabyte that is announced, and begun
    head = f"{json_type}Content-Length: {1 << 30}\r\n"
    status, problem = _send(service, head, (megabyte for _ in range(32)))
    assert (status, problem["code"]) == (413, "payload_too_large")
    # As much without a length
    chunk = b"100000\r\n" + megabyte + b"\r\n"
    head = f"{json_type}Transfer-Encoding: chunked\r\n"
    status, problem = _send(service, head, (chunk for _ in range(64)))
    assert (status, problem["code"]) == (413, "payload_too_large")
    # A quarter of a megabyte that unpacks to a quarter of a gigabyte
    bomb = gzip.compress(b"\0" * (256 << 20), 6)
    head = f"{json_type}Content-Encoding: gzip\r\nContent-Length: {len(bomb)}\r\n"
    status, problem = _send(service, head, iter([bomb]))
    assert (status, problem["code"]) == (415, "unsupported_media_type")

    limit = service.call("GET", "/limits")[1]["request"]["body_bytes"]
    assert _peak(serving.pid) - before < BODIES * limit
    assert service.invoke("greet")[1]["status"] == "succeeded"
