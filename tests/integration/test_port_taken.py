"""What ``make run`` does where something else serves on its port: nothing."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts/run_service.py"


@pytest.fixture
def stranger() -> Iterator[tuple[int, list[str]]]:
    """Serve something that looks ready and empty, and list what is asked of it."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(f"{self.command} {self.path}")
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(200)
            self.send_header("Content-Length", "12")
            self.end_headers()
            self.wfile.write(b'{"items":[]}')

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server.server_port, asked
    server.shutdown()
    server.server_close()
    thread.join()


def test_nothing_is_deployed_into_a_strangers_service(
    start: Callable[..., Any], stranger: tuple[int, list[str]], tmp_path: Path
) -> None:
    port, asked = stranger
    service = start(
        sys.executable,
        SCRIPT,
        port=port,
        LISTEN=f"127.0.0.1:{port}",
        DATA_DIR=str(tmp_path / "data"),
    )
    assert service.process.wait(30) == 2
    assert asked == []
    assert f"LOWCODE_FAAS_LISTEN is 127.0.0.1:{port}, which cannot be" in service.text()
    assert "deployed" not in service.text()
