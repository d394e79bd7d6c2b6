"""Following one execution: a stream that ends before the execution does is taken up where it was."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from lowcode_faas_core.client import events
from lowcode_faas_core.client.address import Address
from lowcode_faas_core.client.connection import Connection, Unreachable


class _Streams(BaseHTTPRequestHandler):
    """Answers each request with the next of the server's streams."""

    server: _Server

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers.get("Last-Event-ID")))
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        self.wfile.write(self.server.streams.pop(0))

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class _Server(HTTPServer):
    streams: list[bytes]
    asked: list[tuple[str, str | None]]


def line(seq: int) -> bytes:
    return b"id: %d\ndata: %b\n\n" % (seq, json.dumps({"seq": seq}).encode())


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[_Server]:
    monkeypatch.setattr(events, "AGAIN_S", 0.0)
    with _Server(("127.0.0.1", 0), _Streams) as server:
        server.asked = []
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_stream_that_ends_early_goes_on_after_its_last_line(server: _Server) -> None:
    end = b'event: end\ndata: {"status": "failed"}\n\n'
    server.streams = [
        b"retry: 1000\n\n" + line(1) + line(2) + b"id: 3\ndata: {",  # cut in the middle of a line
        b": nothing new\n\n",
        line(3) + line(4) + end,
    ]
    with Connection(Address(f"http://127.0.0.1:{server.server_port}", "")) as api:
        found = list(events.follow_one(api, "an id"))
    assert found == [{"seq": 1}, {"seq": 2}, {"seq": 3}, {"seq": 4}, "failed"]
    path = "/executions/an%20id/logs?follow=1"
    assert server.asked == [(path, None), (path, "2"), (path, "2")]


def test_nobody_who_answers_is_the_end(server: _Server) -> None:
    server.streams = [line(1)]
    api = Connection(Address(f"http://127.0.0.1:{server.server_port}", ""))
    following = events.follow_one(api, "some-execution")
    assert next(following) == {"seq": 1}
    server.server_close()
    with pytest.raises(Unreachable):
        next(following)
