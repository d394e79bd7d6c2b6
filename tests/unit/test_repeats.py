"""Which request of a connection is answered when more than one has arrived, and by whom."""

from __future__ import annotations

import logging
import os
import selectors
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from gunicorn.config import Config

from lowcode_faas_core.drain import SERVICES, FaasWorker
from lowcode_faas_core.lane_worker import LaneConnection, LaneWorker
from lowcode_faas_core.lanes import Lanes, lane
from lowcode_faas_core.repeats import MOST_HEADS, Heads

HEAD = b"POST /functions/f/invoke HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\n"


def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Answer with the body that came, and where that was done."""
    body = environ["wsgi.input"].read()
    where = b"thread" if lane() is None else b"lane"
    start_response("200 OK", [("Content-Length", str(len(body) + 1 + len(where))), ("X-Of", "f")])
    return [body, b" ", where]


class AtOnce:
    """Stands in for the pool of threads."""

    taken = 0

    def submit(self, work: Callable[..., Any], *arguments: Any, **named: Any) -> Future[Any]:
        self.taken += 1
        done: Future[Any] = Future()
        done.set_result(work(*arguments, **named))
        return done


class Kept:
    """A worker, and one connection of which it answers requests."""

    def __init__(self, *, laned: bool = True, kind: type[LaneWorker] = LaneWorker) -> None:
        config = Config()
        config.set("keepalive", 75)
        self.worker = kind(1, os.getppid(), [], None, 30, config, logging.getLogger("test"))
        self.worker.log.access = lambda *_: None  # type: ignore[attr-defined]
        self.worker.wsgi = self.worker.application = application
        self.worker.laned = laned
        self.worker.may_take = lambda environ: laned and "f/invoke" in environ["PATH_INFO"]
        self.worker.tpool = AtOnce()
        self.worker.poller = selectors.DefaultSelector()
        self.worker.method_queue.defer = lambda call, *arguments: call(*arguments)  # type: ignore[method-assign]
        self.worker.lanes = Lanes(self.worker.tpool.submit)
        self.worker.lanes.attend(self.worker.poller.fileno(), self.worker.dispatch_others)
        self.client, server = socket.socketpair()
        self.client.settimeout(5)
        address = ("127.0.0.1", 1)
        self.conn = LaneConnection(config, server, address, address)
        self.worker.nr_conns = 1
        self.worker.watch(self.conn)

    def sent(self, request: bytes) -> bytes:
        """Have a request arrive and be answered; return the body of the answer."""
        self.client.sendall(request)
        return self.answers(1)[0]

    def answers(self, count: int) -> list[bytes]:
        """Return the bodies of so many answers."""
        seen = b""
        last = time.monotonic() + 5
        while seen.count(b"\r\n\r\n") < count and time.monotonic() < last:
            self.worker.wait_for_and_dispatch_events(0.05)
            try:
                seen += self.client.recv(65536, socket.MSG_DONTWAIT)
            except BlockingIOError:
                continue
        return [each.rpartition(b"\r\n\r\n")[2] for each in seen.split(b"HTTP/1.1 ")[1:]]

    def close(self) -> None:
        self.worker.lanes.close()
        self.worker.poller.close()
        self.client.close()
        self.conn.sock.close()
        self.worker.tmp.close()


@pytest.fixture
def kept() -> Iterator[Kept]:
    made = Kept()
    yield made
    made.close()


def test_a_head_that_came_twice_is_not_parsed_again(kept: Kept) -> None:
    assert [kept.sent(HEAD + each) for each in (b"1", b"2")] == [b"1 lane", b"2 lane"]
    assert kept.conn.parser.req_count == 2
    assert [kept.sent(HEAD + each) for each in (b"3", b"4")] == [b"3 lane", b"4 lane"]
    assert kept.conn.parser.req_count == 2


def test_heads_that_take_turns_are_known_each(kept: Kept) -> None:
    heads = [HEAD.replace(b"localhost", b"host-%d" % number) for number in range(MOST_HEADS)]
    told = [kept.sent(head + b"1") for _ in range(4) for head in heads]
    assert told == [b"1 lane"] * 4 * MOST_HEADS
    assert kept.conn.parser.req_count == 2 * MOST_HEADS


def test_more_heads_than_are_remembered_are_parsed(kept: Kept) -> None:
    heads = [HEAD.replace(b"localhost", b"host-%d" % number) for number in range(MOST_HEADS + 1)]
    told = [kept.sent(head + b"1") for _ in range(4) for head in heads]
    assert told == [b"1 lane"] * 4 * (MOST_HEADS + 1)
    assert kept.conn.parser.req_count == len(told)


def test_what_the_application_takes_otherwise_is_parsed_each_time(kept: Kept) -> None:
    other = HEAD.replace(b"/functions/f", b"/functions/other")
    assert [kept.sent(other + b"1") for _ in range(4)] == [b"1 lane"] * 4
    assert kept.conn.parser.req_count == 4


@pytest.mark.parametrize(
    ("request_line", "header"),
    [
        (b"POST /functions/f/invoke", b"Expect: 100-continue"),
        (b"POST /functions/f/invoke", b"Transfer-Encoding: chunked"),
        (b"POST /functions", b"X-Other: 1"),
        (b"GET /executions/x/logs?follow=1", b"X-Other: 1"),
    ],
)
def test_what_may_wait_in_another_way_is_left_to_threads(
    kept: Kept, request_line: bytes, header: bytes
) -> None:
    head = request_line + b" HTTP/1.1\r\nHost: localhost\r\n" + header + b"\r\n"
    chunked = header.startswith(b"Transfer")
    body = b"1\r\n1\r\n0\r\n\r\n" if chunked else b"1"
    length = b"" if chunked else b"Content-Length: 1\r\n"
    kept.client.sendall(head + length + b"\r\n" + body)
    assert kept.answers(1 + header.startswith(b"Expect"))[-1] == b"1 thread"


def test_an_application_that_says_nothing_of_lanes_has_threads() -> None:
    kept = Kept(laned=False)
    try:
        assert [kept.sent(HEAD + b"1") for _ in range(4)] == [b"1 thread"] * 4
    finally:
        kept.close()


def test_requests_at_once_are_answered_in_order(kept: Kept) -> None:
    for _ in range(3):
        kept.sent(HEAD + b"0")
    kept.client.sendall(b"".join(HEAD + b"%d" % number for number in range(1, 6)))
    told = kept.answers(5)
    assert [each[:1] for each in told] == [b"1", b"2", b"3", b"4", b"5"]


def test_a_body_that_comes_after_its_head_is_waited_for_on_the_lanes(kept: Kept) -> None:
    for _ in range(3):
        kept.sent(HEAD + b"0")
    kept.client.sendall(HEAD)
    kept.worker.wait_for_and_dispatch_events(0.01)
    assert kept.sent(b"7") == b"7 lane"


def test_a_connection_that_invokes_no_more_is_given_back(kept: Kept) -> None:
    for _ in range(3):
        kept.sent(HEAD + b"0")
    assert list(kept.worker.hot) == [kept.conn]
    kept.worker.alive = False
    kept.worker.murder_pending()
    assert (list(kept.worker.hot), list(kept.worker.keepalived_conns)) == ([], [kept.conn])
    kept.worker.alive = True
    assert kept.sent(HEAD + b"8") == b"8 lane"


def test_the_beginning_of_a_next_request_gets_no_thread(kept: Kept) -> None:
    """gunicorn's parser reads it together with the one before."""
    other = HEAD.replace(b"invoke", b"look")
    assert kept.sent(other + b"1" + HEAD[:7]) == b"1 thread"
    taken = kept.worker.tpool.taken
    for _ in range(3):
        kept.worker.wait_for_and_dispatch_events(0.01)
    assert (kept.worker.tpool.taken, list(kept.worker.arriving)) == (taken, [kept.conn])
    # The rest of it is waited for, and read behind what was read ahead
    kept.client.sendall(HEAD[7:20])
    kept.worker.wait_for_and_dispatch_events(0.01)
    assert kept.worker.tpool.taken == taken
    assert kept.sent(HEAD[20:] + b"2") == b"2 thread"
    assert kept.sent(HEAD + b"3") == b"3 lane"


def test_what_was_read_ahead_is_never_filed_under_another_head(kept: Kept) -> None:
    first, second = HEAD, HEAD.replace(b"localhost", b"elsewhere")
    for _ in range(4):
        kept.client.sendall(first + b"1" + second + b"2")
        assert [each[:1] for each in kept.answers(2)] == [b"1", b"2"]
    for head in (first, second):
        found = kept.conn.heads.recall(head + b"3")
        assert found is None or found[0]["HTTP_HOST"].encode() in head


def test_once_it_drains_an_answer_ends_its_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """A head that repeats, too: balancers and clients go elsewhere before anything is refused."""
    server = SimpleNamespace(drain_notice_s=60.0, drain_timeout_s=60.0)
    services = SimpleNamespace(
        startup=SimpleNamespace(server=server),
        invoker=SimpleNamespace(close=lambda: None, waiting=lambda: 0),
        publish=lambda: None,
    )
    monkeypatch.setattr(application, "extensions", {SERVICES: services}, raising=False)
    monkeypatch.setattr(FaasWorker, "master_listens", lambda _: False)
    kept = Kept(kind=FaasWorker)
    try:
        assert [kept.sent(HEAD + each) for each in (b"1", b"2", b"3")] == [
            b"1 lane",
            b"2 lane",
            b"3 lane",
        ]
        kept.worker.begin_drain()
        assert kept.sent(HEAD + b"4") == b"4 lane"
        assert kept.client.recv(1) == b""
    finally:
        kept.close()


def test_a_connection_that_gunicorn_closed_itself_ends_nothing_else(kept: Kept) -> None:
    def failing(_environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Length", "10")])
        yield b"1"
        raise RuntimeError("in the middle of an answer")

    kept.worker.wsgi = kept.worker.application = failing
    kept.client.sendall(HEAD + b"1")
    kept.client.shutdown(socket.SHUT_WR)
    for _ in range(5):
        kept.worker.wait_for_and_dispatch_events(0.01)
    assert (kept.worker.nr_conns, kept.worker.invocations, len(kept.worker.hot)) == (0, 0, 0)


def test_a_client_that_leaves_is_let_go(kept: Kept) -> None:
    for _ in range(3):
        kept.sent(HEAD + b"0")
    kept.client.close()
    for _ in range(3):
        kept.worker.wait_for_and_dispatch_events(0.01)
    assert (kept.worker.nr_conns, kept.worker.invocations, len(kept.worker.hot)) == (0, 0, 0)


@pytest.mark.parametrize("again", [False, True], ids=["first", "once more"])
@pytest.mark.parametrize(
    "seen",
    [
        HEAD,
        HEAD.replace(b"Length: 1", b"Length: ") + b"1",
        HEAD.replace(b"Length: 1", b"Length: -1") + b"1",
        HEAD.replace(b"Length: 1", b"Length: 0000000001") + b"1",
        HEAD.replace(b"Length: 1", b"Length: 10000000000") + b"1",
        HEAD.replace(b"Length: 1\r\n", b"Length: 1\r\nX-More: 1\r\n") + b"1",
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
def test_only_the_same_head_with_a_body_as_long_is_recalled(
    kept: Kept, seen: bytes, again: bool
) -> None:
    for each in (b"1", b"2"):
        kept.sent(HEAD + each)
    heads = kept.conn.heads

    def recalled() -> None:
        found = heads.recall(HEAD.replace(b"Length: 1", b"Length: 3") + b"999")
        assert found is not None
        assert (found[0]["CONTENT_LENGTH"], found[1]) == ("3", b"999")

    if again:
        recalled()
    assert heads.recall(seen) is None
    recalled()


def test_two_heads_that_take_turns_are_both_recalled(kept: Kept) -> None:
    heads = HEAD, HEAD.replace(b"localhost", b"elsewhere")
    for _ in range(2):
        for head in heads:
            kept.sent(head + b"1")
    for _ in range(3):
        for head in heads:
            found = kept.conn.heads.recall(head.replace(b"Length: 1", b"Length: 2") + b"23")
            assert found is not None
            assert found[0]["HTTP_HOST"].encode() in head
            assert (found[0]["CONTENT_LENGTH"], found[1]) == ("2", b"23")


def test_a_header_that_ends_a_line_is_no_answer() -> None:
    def forging(_environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [("X-Of", "f\r\nX-Other: g")])
        return [b""]

    with pytest.raises(ValueError, match="line's end"):
        Heads().answer(forging, ({}, b"", b"f"))


@pytest.mark.parametrize("header", [b"Connection: close", b"Expect: 100-continue"])
def test_a_request_that_is_more_than_head_and_body_is_never_recalled(
    kept: Kept, header: bytes
) -> None:
    head = HEAD[:-2] + header + b"\r\n\r\n"
    for _ in range(3):
        kept.client.sendall(head + b"1")
        # The interim answer to Expect has no body.
        assert kept.answers(1 + header.startswith(b"Expect"))[-1].startswith(b"1 ")
        assert kept.conn.heads.recall(head + b"1") is None
        if header.startswith(b"Connection"):
            break
