"""Which request a connection's thread answers when more than one has arrived."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from gunicorn.config import Config

from lowcode_faas_core import intake
from lowcode_faas_core.repeats import Heads

HEAD = b"POST /functions/f/invoke HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\n"


def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Answer with the body that came."""
    body = environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Length", str(len(body))), ("X-Of", "f")])
    return [body]


class Kept:
    """A worker, and one connection of which it answers requests."""

    def __init__(self) -> None:
        config = Config()
        self.worker = intake.IntakeWorker(
            1, os.getppid(), [], None, 30, config, logging.getLogger("test")
        )
        self.worker.log.access = lambda *_: None  # type: ignore[attr-defined]
        self.worker.wsgi = application
        self.client, server = socket.socketpair()
        address = ("127.0.0.1", 1)
        self.conn = intake._Conn(config, server, address, address)
        self.conn.invokes = True
        server.setblocking(True)
        self.conn.init()

    def sent(self, body: bytes) -> bytes:
        """Have a request arrive, be looked at and answered; return the body of the answer."""
        self.client.sendall(HEAD + body)
        self.conn.seen = HEAD + body
        return self.answered()

    def answered(self) -> bytes:
        recalled = self.conn.heads.recall(self.conn.seen)
        assert self.worker.answer(self.conn, recalled) is True
        return self.client.recv(4096).partition(b"\r\n\r\n")[2]

    def close(self) -> None:
        self.client.close()
        self.conn.sock.close()
        self.worker.tmp.close()


@pytest.fixture
def kept() -> Iterator[Kept]:
    made = Kept()
    yield made
    made.close()


def test_a_head_that_came_twice_is_not_parsed_again(kept: Kept) -> None:
    assert [kept.sent(each) for each in (b"1", b"2")] == [b"1", b"2"]
    parsed = kept.conn.parser.req_count
    assert [kept.sent(each) for each in (b"3", b"4")] == [b"3", b"4"]
    assert kept.conn.parser.req_count == parsed


def test_what_was_read_ahead_is_answered_before_what_is_in_the_socket(kept: Kept) -> None:
    for each in (b"1", b"2", b"3"):
        kept.sent(each)
    # Given a request that gunicorn read together with the one before, and one behind it
    kept.conn.parser.unreader.unread(HEAD + b"4")
    kept.client.sendall(HEAD + b"5")
    kept.conn.seen = HEAD + b"3"
    # Then each is answered once, in order
    assert kept.answered() == b"4"
    assert kept.conn.seen == b""
    kept.conn.seen = HEAD + b"5"
    assert kept.answered() == b"5"


@pytest.mark.parametrize(
    "seen",
    [
        HEAD,
        HEAD + b"12",
        HEAD + b"1" + HEAD,
        HEAD.replace(b"localhost", b"elsewhere") + b"1",
        HEAD.replace(b"Length: 1", b"Length: 01") + b"1",
        HEAD.replace(b"Length: 1", b"Length: 1 ") + b"1",
        HEAD.replace(b"Length: 1", b"Length:1") + b"1",
        HEAD.replace(b"Length: 1", b"Length: 2") + b"1",
        HEAD.replace(b"Length: 1", b"Length: 1\r\nContent-Length: 1") + b"1",
        HEAD.replace(b"Length: 1", b"Length: 1\r\nTransfer-Encoding: chunked") + b"1",
        b"",
    ],
)
def test_only_the_same_head_with_a_body_as_long_is_recalled(kept: Kept, seen: bytes) -> None:
    for each in (b"1", b"2"):
        kept.sent(each)
    found = kept.conn.heads.recall(HEAD.replace(b"Length: 1", b"Length: 3") + b"999")
    assert found is not None
    assert (found[0]["CONTENT_LENGTH"], found[1]) == ("3", b"999")
    assert kept.conn.heads.recall(seen) is None


def test_a_header_that_ends_a_line_is_no_answer(kept: Kept) -> None:
    def forging(_environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [("X-Of", "f\r\nX-Other: g")])
        return [b""]

    with pytest.raises(ValueError, match="line's end"):
        Heads().answer(forging, {}, b"")


@pytest.mark.parametrize("header", [b"Connection: close", b"Expect: 100-continue"])
def test_a_request_that_is_more_than_head_and_body_is_never_recalled(
    kept: Kept, header: bytes
) -> None:
    head = HEAD[:-2] + header + b"\r\n\r\n"
    for _ in range(3):
        kept.client.sendall(head + b"1")
        kept.conn.seen = head + b"1"
        kept.worker.answer(kept.conn, kept.conn.heads.recall(kept.conn.seen))
        kept.conn.seen = head + b"1"
        assert kept.conn.heads.recall(head + b"1") is None
        if header.startswith(b"Connection"):
            break
