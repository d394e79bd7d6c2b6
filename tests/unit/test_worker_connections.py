"""A connection that was idle too long carries no request."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from lowcode_faas_core import worker_connections
from lowcode_faas_core.worker_connections import connections


@pytest.fixture
def server() -> Iterator[tuple[str, list[int]]]:
    """Return the address of a server, and the client's port of each request it got."""
    ports: list[int] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            ports.append(self.client_address[1])
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    found = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.daemon_threads = True
    thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{found.server_port}/", ports
    found.shutdown()
    found.server_close()
    thread.join()


@pytest.mark.parametrize(("idle_s", "connected"), [(30.0, 1), (0.0, 3)])
def test_an_idle_connection_is_used_until_its_time(
    server: tuple[str, list[int]], monkeypatch: pytest.MonkeyPatch, idle_s: float, connected: int
) -> None:
    url, ports = server
    monkeypatch.setattr(worker_connections, "IDLE_S", idle_s)
    http = connections(4)
    for _ in range(3):
        assert http.request("GET", url).status == 204
    assert len(set(ports)) == connected
    http.clear()
