"""Takes in requests so that neither slow clients nor invocations use up the threads.

gunicorn's gthread gives a thread to a connection when its first bytes arrive: a few clients that
send half a head then stop everybody. Here the main loop looks at what has arrived without taking
it (``MSG_PEEK``) and gives a thread only to a request whose head, and small body, is all there.

A longer body is read by a thread, in a bounded time, and no more than a part of the threads does so.

It also keeps a few threads for everything that is no invocation, and lets short bursts of
invocations wait a moment for a thread instead of being turned away.
"""

from __future__ import annotations

import contextlib
import json
import re
import select
import selectors
import socket
import struct
import time
from collections import Counter, deque
from functools import partial
from typing import Any, Final

from gunicorn import util
from gunicorn.workers.gthread import TConn, ThreadWorker

from lowcode_faas_core.arrival import PEEK_BYTES, Arrival, BoundedReader, arrival
from lowcode_faas_core.ids import new_id
from lowcode_faas_core.repeats import Heads, Recalled
from lowcode_faas_core.turns import FOLLOW, invocation_threads, may_have

__all__ = ["IntakeWorker"]

#: Time for a request's head, and the part of its body that is waited for, to arrive, in seconds.
ARRIVAL_S: Final = 10.0
#: The same while the worker stops, in seconds: what is half there then has little time left.
STOPPING_ARRIVAL_S: Final = 2.0
#: Time a thread waits for more of a longer body, in seconds; then the connection is closed.
BODY_STALL_S: Final = 10
#: Time in which a longer body must have arrived, in seconds: 8 MiB come at a megabit a second.
BODY_S: Final = 75.0
#: Longest an invocation waits for one of its threads, in seconds; the application then answers 429.
HOLD_S: Final = 0.25

#: Milliseconds that a thread waits for the next invocation on a connection after it has answered
#: one: where threads are plenty, and where they are not.
STAY_MS: Final = 50
SHORT_STAY_MS: Final = 2
#: Seconds after which it leaves a connection that goes on invoking to others that wait for a thread.
TURN_S: Final = 0.01
#: Bytes it looks at for the next one; what is longer goes by way of the main loop.
NEXT_BYTES: Final = 16 << 10

_invocation = re.compile(
    rb"(?:POST ([^ ?]{0,4096})/(?:invoke|replay|v1/run)(?:\?[^ ]*)?|GET %b) HTTP/1"
    % FOLLOW.encode()
).match
#: Under which name followers share the threads with functions.
_FOLLOWERS = b"(followers)"
_deployment = re.compile(rb"\r\nx-lowcode-faas-deployment:[ \t]*([^\r\n]{1,255})", re.I).search


class _Conn(TConn):  # type: ignore[misc]  # gunicorn has no types
    """A connection whose later bytes a thread reads in a bounded time."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.reader = BoundedReader(self.sock)
        #: Whether it counts among those whose body is being read.
        self.reading = False
        #: Whether its request is an invocation, and of what: its path, or its deployment.
        self.invokes = False
        self.function = b""
        #: What has arrived of that request, and the heads it may repeat.
        self.seen = b""
        self.heads = Heads()
        #: Bytes at which the kernel wakes the main loop.
        self.awaited = 1

    def init(self) -> None:
        """Make gunicorn's parser, which reads through ours."""
        super().init()
        self.parser.unreader.sock = self.reader


class IntakeWorker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """A gthread worker whose threads only ever see requests that have arrived."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        #: Connections whose request has not all arrived, the oldest first.
        self.arriving: deque[_Conn] = deque()
        #: Invocations that wait for a thread, the oldest first.
        self.held: deque[_Conn] = deque()
        #: Connections with a longer body that wait for one of the threads that read such, and how
        #: many of these are reading.
        self.lining_up: deque[_Conn] = deque()
        self.reading = 0
        self.invocation_threads = invocation_threads(self.cfg.threads)
        self.invocations = 0
        #: How many of them each function has; a function is known by its path, or its deployment.
        self.running: Counter[bytes] = Counter()

    def accept(self, listener: socket.socket) -> None:
        """Accept a connection and look at what it sent."""
        try:
            client, address = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        self.nr_conns += 1
        conn = _Conn(self.cfg, client, address, listener.getsockname())
        # A longer body is read by a thread: the kernel ends a wait that leads nowhere.
        _bound_reads(client, BODY_STALL_S, 0)
        self.watch(conn)
        self.look(conn)

    def on_client_socket_readable(self, conn: _Conn, client: socket.socket) -> None:
        """Look at the next request of a connection that was kept alive."""
        self.poller.unregister(client)
        self.keepalived_conns.remove(conn)
        self.watch(conn)
        self.look(conn)

    def watch(self, conn: _Conn) -> None:
        """Begin to wait for the rest of a request."""
        conn.timeout = time.monotonic() + ARRIVAL_S
        conn.awaited = 1
        self.arriving.append(conn)
        self.poller.register(
            conn.sock, selectors.EVENT_READ, lambda _client, conn=conn: self.look(conn)
        )

    def look(self, conn: _Conn) -> None:
        """Hand the request to a thread if it is all there, else wait for more bytes of it."""
        try:
            seen = conn.sock.recv(PEEK_BYTES, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            seen = b""
        if not seen:
            self.drop(conn)
            return
        found = arrival(seen)
        if found.malformed:
            self.turn_away(conn, seen)
            return
        whole = found.whole and not found.missing
        if found.missing and _half_closed(conn.sock):
            # Nothing more will come, so no thread would wait for it.
            if not found.chunked:
                self.drop(conn)
                return
            whole = True  # the application says what is wrong with the chunks
        elif found.missing and len(seen) + found.missing > conn.awaited:
            # The kernel wakes the loop only when that much is there: no spinning over half a head.
            conn.awaited = len(seen) + found.missing
            conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, conn.awaited)
            return
        self.unwatch(conn)
        if conn.awaited > 1:
            conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
        conn.data_ready = True
        function = _function(seen)
        conn.invokes, conn.function = function is not None, function or b""
        conn.seen = seen if whole else b""
        if whole:
            conn.reader.expect_nothing()
            self.begin(conn)
        else:
            self.expect(conn, found)

    def expect(self, conn: _Conn, found: Arrival) -> None:
        """Have a thread read a longer body: one of the few that may wait for their clients."""
        conn.reader.expect(
            found.length, BODY_S, partial(self.method_queue.defer, self.arrived, conn)
        )
        if self.reading < max(1, self.invocation_threads // 2):
            self.reading += 1
            conn.reading = True
            self.begin(conn)
        else:
            conn.timeout = time.monotonic() + BODY_S
            self.lining_up.append(conn)

    def arrived(self, conn: _Conn) -> None:
        """Let the next longer body be read: this one is there, or its connection is done."""
        if not conn.reading:
            return
        conn.reading = False
        self.reading -= 1
        if self.lining_up:
            following = self.lining_up.popleft()
            self.reading += 1
            following.reading = True
            self.begin(following)

    def finish_request(self, conn: _Conn, future: Any) -> None:
        """Go on with the connection, and with those that waited for it to be read."""
        self.arrived(conn)
        super().finish_request(conn, future)

    def begin(self, conn: _Conn) -> None:
        """Give a request a thread, or have an invocation wait a moment for one."""
        if not conn.invokes:
            super().enqueue_req(conn)
        elif self.has_place(conn.function) or self.may_overtake(conn.function):
            self.enqueue_invocation(conn)
        else:
            conn.timeout = time.monotonic() + HOLD_S
            self.held.append(conn)

    def enqueue_invocation(self, conn: _Conn) -> None:
        """Give an invocation a thread, and count it until it is done."""
        self.invocations += 1
        self.running[conn.function] += 1
        future = self.tpool.submit(self.handle, conn)
        future.add_done_callback(partial(self.method_queue.defer, self.finish_invocation, conn))

    def handle(self, conn: _Conn) -> Any:
        """Answer a request; where the next invocation comes at once, that one by the same thread.

        The way over the main loop, which this leaves out, costs more than a short handler.
        """
        if not conn.invokes or conn.reading or conn.function == _FOLLOWERS:
            return super().handle(conn)
        until = time.monotonic() + TURN_S
        conn.sock.setblocking(True)
        goes_on = self.answer(conn, conn.heads.recall(conn.seen))
        patience = 0
        while goes_on is True and not (self.held and time.monotonic() > until):
            # Threads that wait for a client are missing elsewhere, above all when there are few.
            plenty = 2 * self.invocations <= self.invocation_threads and not self.held
            wanted = STAY_MS if plenty else SHORT_STAY_MS
            if wanted != patience:
                patience = wanted
                _bound_reads(conn.sock, 0, 1000 * patience)
            arrived, recalled = self.next_arrives(conn)
            if not arrived:
                break
            goes_on = self.answer(conn, recalled)
        if patience and goes_on is True:
            _bound_reads(conn.sock, BODY_STALL_S, 0)
        return goes_on

    def answer(self, conn: _Conn, recalled: Recalled | None) -> Any:
        """Answer an invocation; quickly where gunicorn knows its head from before."""
        # What gunicorn has read ahead is another request than the one that was looked at.
        quickly = self.alive and self.cfg.keepalive and not _read_ahead(conn)
        try:
            if recalled is None or not quickly:
                # gunicorn writes head and body one by one: each would wake the client.
                _cork(conn.sock, 1)
                goes_on = super().handle(conn)
                _cork(conn.sock, 0)
                return goes_on
            conn.sock.recv(len(conn.seen))
            conn.sock.sendall(conn.heads.answer(self.wsgi, *recalled))
        except OSError as error:
            self.log.debug("the client of an invocation is gone: %s", error)
            return False
        except Exception:
            self.log.exception("Error handling request")
            return False
        finally:
            conn.seen = b""
        return True

    def handle_request(self, req: Any, conn: _Conn) -> Any:
        """Have gunicorn answer a request, and remember its head."""
        goes_on = super().handle_request(req, conn)
        if goes_on and conn.invokes and conn.seen:
            conn.heads.note(conn.seen, req, conn, self.cfg)
        return goes_on

    def next_arrives(self, conn: _Conn) -> tuple[bool, Recalled | None]:
        """Tell whether the connection's next request comes in time, whole, and is for this thread.

        Only another invocation of the same function is: who is served in which order is the main
        loop's to decide. With it goes what its head recalls.
        """
        if not self.alive or _read_ahead(conn):
            return False, None
        try:
            seen = conn.sock.recv(NEXT_BYTES, socket.MSG_PEEK)
            recalled = conn.heads.recall(seen)
            if recalled is None:
                found = arrival(seen)
                if found.missing and found.length is not None and found.length <= NEXT_BYTES:
                    # Many clients send head and body one by one.
                    seen = conn.sock.recv(found.length, socket.MSG_PEEK | socket.MSG_WAITALL)
                    found, recalled = arrival(seen), conn.heads.recall(seen)
                whole = found.whole and not found.missing and not found.malformed
                if not seen or not whole or _function(seen) != conn.function:
                    return False, None
        except OSError:
            return False, None
        conn.reader.expect_nothing()
        conn.seen = seen
        return True, recalled

    def finish_invocation(self, conn: _Conn, future: Any) -> None:
        """Give the thread that came free to the function with fewest, the longest waiting first."""
        self.invocations -= 1
        self.running[conn.function] -= 1
        if not self.running[conn.function]:
            del self.running[conn.function]
        self.finish_request(conn, future)
        if self.held:
            poorest = min(self.held, key=lambda held: self.running[held.function])
            if self.has_place(poorest.function):
                self.held.remove(poorest)
                self.enqueue_invocation(poorest)

    def has_place(self, function: bytes) -> bool:
        """Tell whether a thread is free for one more invocation of this function."""
        free = self.invocation_threads - self.invocations
        return may_have(self.running[function] + 1, free)

    def may_overtake(self, function: bytes) -> bool:
        """Tell whether an invocation may have one thread of the reserve, for a moment.

        Where others have more, and threads that only wait for a sandbox, the application turns one
        of those away for it: without this one function's queue would hold up every other one.
        """
        return (
            self.invocations <= self.invocation_threads
            and self.running[function] + 2 <= max(self.running.values(), default=0)
            and self.waiting_invocations() >= 2
        )

    def waiting_invocations(self) -> int:
        """Return how many invocations have a thread and wait for a sandbox; must not block."""
        return 0

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        """Dispatch events; wake in time for those who have waited long enough."""
        if self.held:
            timeout = max(0.0, min(timeout, self.held[0].timeout - time.monotonic()))
        super().wait_for_and_dispatch_events(timeout)
        while self.held and self.held[0].timeout <= time.monotonic():
            self.enqueue_invocation(self.held.popleft())

    def murder_pending(self) -> None:
        """Close connections whose request has not arrived in time."""
        super().murder_pending()
        late = time.monotonic() + (0 if self.alive else ARRIVAL_S - STOPPING_ARRIVAL_S)
        while self.arriving and self.arriving[0].timeout <= late:
            self.drop(self.arriving[0])
        late = time.monotonic() + (0 if self.alive else BODY_S - STOPPING_ARRIVAL_S)
        while self.lining_up and self.lining_up[0].timeout <= late:
            self.close(self.lining_up.popleft())

    def handle_error(self, req: Any, client: socket.socket, addr: Any, exc: Exception) -> None:
        """Answer what is not HTTP with a problem, as the application answers everything else."""
        page = _Page()
        super().handle_error(req, page, addr, exc)
        if page.status == 501:
            # A transfer coding nobody knows: what the client sent is wrong, nothing of ours.
            page.status, page.reason = 400, "Bad Request"
        if page.status:
            with contextlib.suppress(OSError):
                util.write_nonblock(client, _problem(page.status, page.reason))

    def handle_quit(self, sig: int, frame: Any) -> None:
        """Let go of what has not begun."""
        self.held.clear()
        self.lining_up.clear()
        super().handle_quit(sig, frame)

    def unwatch(self, conn: _Conn) -> None:
        """Stop waiting for it."""
        self.poller.unregister(conn.sock)
        self.arriving.remove(conn)

    def turn_away(self, conn: _Conn, seen: bytes) -> None:
        """Answer what can never become a request, and close its connection."""
        with contextlib.suppress(OSError):
            # Taken out first: closed with bytes unread, the kernel would send a reset instead.
            conn.sock.recv(len(seen), socket.MSG_DONTWAIT)
            util.write_nonblock(conn.sock, _problem(400, "Bad Request"))
        self.drop(conn)

    def drop(self, conn: _Conn) -> None:
        """Close a connection whose request never came."""
        self.unwatch(conn)
        self.close(conn)

    def close(self, conn: _Conn) -> None:
        """Close a connection that no thread has."""
        self.nr_conns -= 1
        util.close(conn.sock)


class _Page:
    """Stands in for the client where gunicorn writes its error page; keeps the status line."""

    status = 0
    reason = ""

    def gettimeout(self) -> float:
        return 0.0

    def sendall(self, data: bytes) -> None:
        line = data.split(b"\r\n", 1)[0].decode("latin-1")
        _, status, self.reason = line.split(" ", 2)
        self.status = int(status)


def _problem(status: int, reason: str) -> bytes:
    code = "malformed_request" if status < 500 else "internal_error"
    document = {
        "type": f"urn:lowcode-faas:problem:{code}",
        "title": reason,
        "status": status,
        # gunicorn's own words repeat what the client sent; the service's log has them.
        "detail": f"the request cannot be read as HTTP: {reason}" if status < 500 else reason,
        "code": code,
        "request_id": new_id(),
    }
    body = json.dumps(document).encode()
    head = (
        f"HTTP/1.1 {status} {reason}\r\nConnection: close\r\n"
        f"Content-Type: application/problem+json\r\nContent-Length: {len(body)}\r\n"
        f"X-Request-Id: {document['request_id']}\r\n\r\n"
    )
    return head.encode("latin-1") + body


def _function(seen: bytes) -> bytes | None:
    """Return what tells the function of an invocation from others; ``None``: it is none."""
    invocation = _invocation(seen)
    if invocation is None:
        return None
    function: bytes | None = invocation.group(1)
    if function is None:
        return _FOLLOWERS
    if not function and (deployment := _deployment(seen)) is not None:
        function = deployment.group(1)
    return function


def _read_ahead(conn: _Conn) -> bool:
    """Tell whether gunicorn's parser holds bytes of the next request."""
    return conn.parser is not None and conn.parser.unreader.buf.getbuffer().nbytes > 0


def _cork(client: socket.socket, value: int) -> None:
    """Have the kernel keep what is written until it is one piece; 0 sends it."""
    with contextlib.suppress(OSError):  # closed by now, or no TCP
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, value)


def _bound_reads(client: socket.socket, seconds: int, microseconds: int) -> None:
    """Have the kernel end a read for which nothing comes."""
    bound = struct.pack("ll", seconds, microseconds)
    with contextlib.suppress(OSError):
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, bound)


def _half_closed(client: socket.socket) -> bool:
    poll = select.poll()
    poll.register(client, select.POLLRDHUP)
    return bool(poll.poll(0))
