"""Takes in requests so that neither slow clients nor invocations use up the threads.

gunicorn's gthread gives a thread to a connection when its first bytes arrive: a few clients that
send half a head then stop everybody. Here the main loop looks at what has arrived without taking
it (``MSG_PEEK``) and gives a thread only to a request whose head, and small body, is all there.

A longer body is read by a thread, in a bounded time, and no more than a part of the threads does so.

It also keeps a few places for everything that is no invocation, and lets short bursts of
invocations wait a moment for a place instead of being turned away.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import selectors
import socket
import threading
import time
from collections import deque
from functools import partial
from typing import Any, Final

from gunicorn import util
from gunicorn.http.body import ChunkedReader
from gunicorn.workers.gthread import ThreadWorker

from lowcode_faas_core.arrival import PEEK_BYTES, Arrival, Chunks, arrival
from lowcode_faas_core.client_connection import Connection
from lowcode_faas_core.client_socket import ClientSocket, bound_reads, cork, half_closed, has_bytes
from lowcode_faas_core.invoked_functions import function_of, invokes
from lowcode_faas_core.method_queue import MethodQueue
from lowcode_faas_core.not_http import ErrorPage, problem_answer
from lowcode_faas_core.turns import invocation_threads, may_have, plenty

__all__ = ["ARRIVAL_S", "IntakeWorker"]

#: Time for a request's head, and the part of its body that is waited for, to arrive, in seconds.
ARRIVAL_S: Final = 10.0
#: The same while the worker stops, in seconds: what is half there then has little time left.
STOPPING_ARRIVAL_S: Final = 2.0
#: Time a thread waits for more of a longer body, in seconds; then the connection is closed.
BODY_STALL_S: Final = 10
#: Time in which a longer body must have arrived, in seconds: 8 MiB come at a megabit a second.
BODY_S: Final = 75.0
#: Connections that are closed politely at a time.
MOST_PARTING: Final = 4
#: Longest an invocation waits for one of its threads, in seconds; the application then answers 429.
HOLD_S: Final = 0.25
#: Where there are no more descriptors, or no memory for one, nothing is accepted so long, in seconds.
FULL_S: Final = 1.0
_EXHAUSTED: Final = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))


class IntakeWorker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """A gthread worker whose threads only ever see requests that have arrived."""

    connection_class: type[Connection] = Connection

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.method_queue = MethodQueue()
        #: Until when no connection is accepted, for want of descriptors or memory.
        self.full_until = 0.0
        #: Connections whose request has not all arrived, the oldest first.
        self.arriving: deque[Connection] = deque()
        #: Invocations that wait for a thread, the oldest first.
        self.held: deque[Connection] = deque()
        #: Connections with a longer body that wait for one of the threads that read such, and how
        #: many of these are reading.
        self.lining_up: deque[Connection] = deque()
        self.reading = 0
        self.invocation_threads = invocation_threads(self.cfg.threads)
        self.plenty = plenty(self.invocation_threads)
        self.invocations = 0
        #: Of the threads that may wait for clients which do not take their answers.
        self.seats = threading.Semaphore(max(1, self.cfg.threads // 2))
        #: Connections that a thread closes.
        self.parting = 0
        #: How many of them each function has; a function is known by its path, or its deployment.
        self.running: dict[bytes, int] = {}

    def accept(self, listener: socket.socket) -> None:
        """Accept a connection and look at what it sent."""
        try:
            client, address = listener.accept()
        except OSError as error:
            if error.errno in _EXHAUSTED:
                self.await_room(error)
            elif not isinstance(error, BlockingIOError | ConnectionAbortedError):
                raise
            return
        self.nr_conns += 1
        client = ClientSocket.of(client, self.seats)
        own = listener.getsockname()
        if client.family == socket.AF_UNIX:
            # What such a client is called it chooses itself: an address, or what is not even text.
            address = own = ""
        conn = self.connection_class(self.cfg, client, address, own)
        # A longer body is read by a thread: the kernel ends a wait that leads nowhere.
        bound_reads(client, BODY_STALL_S, 0)
        self.watch(conn)
        self.look(conn)

    def await_room(self, error: OSError) -> None:
        """Accept nothing for a moment, or until a connection ends: the kernel has no room for more."""
        self.log.warning("no connection can be accepted, %d are open: %s", self.nr_conns, error)
        self.full_until = time.monotonic() + FULL_S
        self.worker_connections = self.nr_conns

    def on_client_socket_readable(self, conn: Connection, client: socket.socket) -> None:
        """Look at the next request of a connection that was kept alive."""
        self.poller.unregister(client)
        self.keepalived_conns.remove(conn)
        self.watch(conn)
        self.look(conn)

    def watch(self, conn: Connection) -> None:
        """Begin to wait for the rest of a request."""
        conn.timeout = time.monotonic() + ARRIVAL_S
        conn.awaited = 1
        conn.by_news = False
        self.arriving.append(conn)
        self.poller.register(
            conn.sock, selectors.EVENT_READ, lambda _client, conn=conn: self.look(conn)
        )

    def look(self, conn: Connection) -> None:
        """Hand the request to a thread if it is all there, else wait for more bytes of it."""
        ended = False
        try:
            came = conn.sock.recv(PEEK_BYTES, socket.MSG_PEEK | socket.MSG_DONTWAIT)
            ended = not came
        except BlockingIOError:
            came = b""
        except OSError:
            came, ended = b"", True
        seen = conn.ahead + came
        if not seen:
            if ended:
                self.drop(conn)
            return
        found = arrival(seen)
        if found.malformed:
            self.turn_away(conn, seen)
            return
        whole = found.whole and not found.missing
        if found.missing and (ended or half_closed(conn.sock)):
            # Nothing more will come, so no thread would wait for it.
            if not found.chunked:
                self.drop(conn)
                return
            whole = True  # the application says what is wrong with the chunks
        elif found.missing and conn.unix:
            self.await_news(conn)
            return
        elif found.missing and (not came or len(came) + found.missing > conn.awaited):
            # The kernel wakes the loop only when that much is there: no spinning over half a head.
            wanted = len(came) + found.missing
            if wanted > conn.awaited:
                conn.awaited = wanted
                conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, wanted)
            return
        self.unwatch(conn)
        if conn.awaited > 1:
            conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
        conn.data_ready = True
        function = function_of(seen)
        conn.invokes, conn.function = function is not None, function or b""
        conn.seen = seen if whole and not conn.ahead else b""
        if found.length is not None:
            found = found._replace(length=found.length - len(conn.ahead))
        conn.ahead = b""
        if whole:
            conn.reader.expect_nothing()
            self.begin(conn)
        else:
            self.expect(conn, found)

    def await_news(self, conn: Connection) -> None:
        """Be woken by what comes, and no longer by what is there."""
        if conn.by_news:
            return
        conn.by_news = True
        # gunicorn's poller knows no such thing, and the kernel's behind it does.
        with contextlib.closing(select.epoll.fromfd(os.dup(self.poller.fileno()))) as poller:
            poller.modify(conn.sock, select.EPOLLIN | select.EPOLLET)

    def expect(self, conn: Connection, found: Arrival) -> None:
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

    def arrived(self, conn: Connection) -> None:
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

    def finish_request(self, conn: Connection, future: Any) -> None:
        """Go on with the connection, and with those that waited for it to be read."""
        self.arrived(conn)
        if future.cancelled() or future.exception() is not None or not future.result():
            self.part(conn)
            return
        conn.ahead = conn.parser.unreader.buf.getvalue()
        if not conn.ahead:
            super().finish_request(conn, future)
            return
        # gunicorn would give it a thread at once, however little of the next request is there.
        conn.sock.setblocking(False)
        self.watch(conn)
        self.look(conn)

    def part(self, conn: Connection) -> None:
        """Close a connection that was answered.

        Where bytes are left, its client has 2 s to close it, too, or the kernel's reset could
        overtake the answer. Few threads may wait for that.
        """
        self.nr_conns -= 1
        if self.parting >= MOST_PARTING or not has_bytes(conn.sock):
            util.close(conn.sock)
            return
        try:
            future = self.tpool.submit(conn.close, graceful=True)
        except RuntimeError:  # the threads are gone: this process ends
            util.close(conn.sock)
            return
        self.parting += 1
        future.add_done_callback(partial(self.method_queue.defer, self.parted))

    def parted(self, _future: Any) -> None:
        """Count who has parted."""
        self.parting -= 1

    def begin(self, conn: Connection) -> None:
        """Give a request a thread, or an invocation its turn."""
        if conn.invokes:
            self.begin_invocation(conn)
        else:
            super().enqueue_req(conn)

    def begin_invocation(self, conn: Connection) -> None:
        """Give an invocation a thread, or have it wait a moment for one."""
        if self.has_place(conn.function) or self.may_overtake(conn.function):
            self.enqueue_invocation(conn)
        else:
            conn.timeout = time.monotonic() + HOLD_S
            self.held.append(conn)

    def enqueue_invocation(self, conn: Connection) -> None:
        """Give an invocation a thread."""
        self.take_place(conn)
        future = self.tpool.submit(self.handle, conn)
        future.add_done_callback(partial(self.method_queue.defer, self.finish_invocation, conn))

    def handle(self, conn: Connection) -> Any:
        """Answer a request; that of an invocation in one piece."""
        # What is sent to a follower must not wait in the kernel for more.
        if not conn.invokes or not invokes(conn.function):
            return super().handle(conn)
        # gunicorn writes head and body one by one: each would wake the client.
        cork(conn.sock, 1)
        goes_on = super().handle(conn)
        cork(conn.sock, 0)
        return goes_on

    def handle_request(self, req: Any, conn: Connection) -> Any:
        """Answer a request; who reads its chunks tells when they are over."""
        if conn.reading and isinstance(req.body.reader, ChunkedReader):
            req.body.reader = Chunks(req.body.reader, conn.reader.is_read)
        return super().handle_request(req, conn)

    def finish_invocation(self, conn: Connection, future: Any) -> None:
        """Go on with its connection, and with who waits for its place."""
        self.leave_place(conn)
        self.finish_request(conn, future)

    def take_place(self, conn: Connection) -> None:
        """Count an invocation until it leaves its place."""
        self.invocations += 1
        self.running[conn.function] = self.running.get(conn.function, 0) + 1

    def leave_place(self, conn: Connection) -> None:
        """Give the place of an invocation to the function with fewest, the longest waiting first."""
        self.invocations -= 1
        left = self.running[conn.function] - 1
        if left:
            self.running[conn.function] = left
        else:
            del self.running[conn.function]
        if self.held:
            poorest = min(self.held, key=lambda held: self.running.get(held.function, 0))
            if self.has_place(poorest.function):
                self.held.remove(poorest)
                self.enqueue_invocation(poorest)

    def has_place(self, function: bytes) -> bool:
        """Tell whether a thread is free for one more invocation of this function."""
        free = self.invocation_threads - self.invocations
        return free >= self.plenty or may_have(self.running.get(function, 0) + 1, free)

    def may_overtake(self, function: bytes) -> bool:
        """Tell whether an invocation may have one thread of the reserve, for a moment.

        Where others have more, and threads that only wait for a sandbox, the application turns one
        of those away for it: without this one function's queue would hold up every other one.
        """
        return (
            self.invocations <= self.invocation_threads
            and self.running.get(function, 0) + 2 <= max(self.running.values(), default=0)
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
        self.end_holds()

    def end_holds(self) -> None:
        """Let go on who has waited long enough; the application turns them away."""
        while self.held and self.held[0].timeout <= time.monotonic():
            self.enqueue_invocation(self.held.popleft())

    def murder_pending(self) -> None:
        """Close connections whose request has not arrived in time."""
        super().murder_pending()
        if self.full_until and self.full_until <= time.monotonic():
            self.full_until = 0.0
            self.worker_connections = self.cfg.worker_connections
        late = time.monotonic() + (0 if self.alive else ARRIVAL_S - STOPPING_ARRIVAL_S)
        while self.arriving and self.arriving[0].timeout <= late:
            self.drop(self.arriving[0])
        late = time.monotonic() + (0 if self.alive else BODY_S - STOPPING_ARRIVAL_S)
        while self.lining_up and self.lining_up[0].timeout <= late:
            self.close(self.lining_up.popleft())

    def handle_error(self, req: Any, client: socket.socket, addr: Any, exc: Exception) -> None:
        """Answer what is not HTTP with a problem, as the application answers everything else."""
        page = ErrorPage()
        super().handle_error(req, page, addr, exc)
        if page.status == 501:
            # A transfer coding nobody knows: what the client sent is wrong, nothing of ours.
            page.status, page.reason = 400, "Bad Request"
        if page.status:
            with contextlib.suppress(OSError):
                util.write_nonblock(client, problem_answer(page.status, page.reason))

    def handle_quit(self, sig: int, frame: Any) -> None:
        """Let go of what has not begun."""
        self.held.clear()
        self.lining_up.clear()
        super().handle_quit(sig, frame)

    def unwatch(self, conn: Connection) -> None:
        """Stop waiting for it."""
        self.poller.unregister(conn.sock)
        self.arriving.remove(conn)

    def turn_away(self, conn: Connection, seen: bytes) -> None:
        """Answer what can never become a request, and close its connection."""
        with contextlib.suppress(OSError):
            # Taken out first: closed with bytes unread, the kernel would send a reset instead.
            conn.sock.recv(len(seen), socket.MSG_DONTWAIT)
            util.write_nonblock(conn.sock, problem_answer(400, "Bad Request"))
        self.drop(conn)

    def drop(self, conn: Connection) -> None:
        """Close a connection whose request never came."""
        self.unwatch(conn)
        self.close(conn)

    def close(self, conn: Connection) -> None:
        """Close a connection that no thread has."""
        self.nr_conns -= 1
        util.close(conn.sock)
