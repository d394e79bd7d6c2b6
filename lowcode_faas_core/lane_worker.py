"""Has lanes answer invocations; everything else is left to threads.

What has arrived as one simple request the main loop itself takes, and goes on with others while a
sandbox runs it. gunicorn parses it, unless its head repeats. After a second without an invocation the
connection is gunicorn's again.
"""

from __future__ import annotations

import gc
import socket
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, Final

from lowcode_faas_core.arrival import arrival
from lowcode_faas_core.client_connection import Connection
from lowcode_faas_core.client_socket import DONT_WAIT
from lowcode_faas_core.intake import IntakeWorker
from lowcode_faas_core.invoked_functions import function_of, invokes
from lowcode_faas_core.lanes import LANES, Lanes
from lowcode_faas_core.repeats import Heads, Recalled, environ_of, is_simple
from lowcode_faas_core.turns import RESERVED_THREADS

__all__ = ["LaneWorker"]

#: Bytes looked at for the next request; what is longer is a thread's to read.
NEXT_BYTES: Final = 16 << 10
#: After so many seconds without an invocation a connection is gunicorn's again.
STAY_S: Final = 1.0
#: Containers made and not released until the collector looks at the young ones: an invocation makes
#: some fifty, and releases them itself.
GARBAGE_LOOK: Final = 10_000
#: Longest time that lanes go on before the main loop looks after itself, in seconds.
SPELL_S: Final = 0.02


#: The socket's own, without a look at who calls.
_recv, _send = socket.socket.recv, socket.socket.send
_PEEK: Final = int(socket.MSG_PEEK) | DONT_WAIT


class LaneConnection(Connection):
    """A connection that lanes may answer."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.heads = Heads()
        #: What a lane is to answer.
        self.recalled: Recalled | None = None
        #: Whether the lanes have it, one of its requests is under way, and more came meanwhile.
        self.hot = False
        self.busy = False
        self.more = False
        #: Kept apart: gunicorn may close the socket by itself.
        self.descriptor = -1
        #: What a lane does for it, once it is hot.
        self.work: Callable[[], None]


class LaneWorker(IntakeWorker):
    """A worker whose main loop answers invocations as well."""

    connection_class = LaneConnection
    #: Made when it begins to serve.
    lanes: Lanes
    hands: ThreadPoolExecutor

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        #: Whether the application may be called on a lane, and of which requests it does the same
        #: whenever their heads repeat.
        self.laned = False
        #: What a lane calls.
        self.application: Callable[..., Any]
        self.may_take: Callable[[dict[str, Any]], bool] = lambda _: False
        #: Whether connections are kept, as gunicorn's settings say; from a drain on they are not.
        self.keeps = bool(self.cfg.keepalive)
        #: Connections that the lanes have, and when each was answered last; the longest ago first.
        self.hot: OrderedDict[LaneConnection, float] = OrderedDict()
        #: Gunicorn's own poller, whether it had events, and whether it is attended to no more.
        self.others = -1
        self.interrupted = False
        self.ending = False

    def run(self) -> None:
        """Serve."""
        takes = self.wsgi.extensions.get(LANES)
        # Whoever was put before it may wait for anything.
        if (
            takes is not None
            and self.wsgi.__dict__.get("wsgi_app", takes.__self__) is takes.__self__
        ):
            self.laned, self.may_take = True, takes
            # Flask's own call does no more than that.
            self.application = self.wsgi.wsgi_app
        # Of their own, one for each place: what ends a run must not wait behind slow clients.
        self.hands = ThreadPoolExecutor(self.invocation_threads + RESERVED_THREADS)
        self.lanes = Lanes(self.hands.submit)
        self.others = self.poller.fileno()
        self.lanes.attend(self.others, self.dispatch_others)
        # What is there now stays for good: it need not be looked through for garbage every time.
        gc.collect()
        gc.freeze()
        gc.set_threshold(GARBAGE_LOOK)
        super().run()
        self.held.clear()

    def go_on_during(self, work: Callable[[], object]) -> None:
        """Do the last things of this process in a thread, while what is on lanes finishes."""
        thread = threading.Thread(target=work, name="close services")
        thread.start()
        while thread.is_alive():
            self.go_on(0.01)

    def go_on(self, seconds: float) -> None:
        """Have only the lanes go on, for so many seconds or less."""
        if self.others < 0:
            time.sleep(seconds)  # it never began to serve
            return
        if not self.ending:
            self.ending = True
            self.lanes.ignore(self.others)
        self.lanes.run(seconds)

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        """Dispatch events, those of the lanes first of all."""
        if self.held:
            timeout = max(0.0, min(timeout, self.held[0].timeout - time.monotonic()))
        self.interrupted = False
        left = timeout
        until = time.monotonic() + SPELL_S
        while left >= 0.0:
            self.lanes.run(left)
            left = until - time.monotonic()
            if self.interrupted or self.held:
                break
        self.end_holds()

    def dispatch_others(self) -> None:
        """Let gunicorn dispatch its events."""
        self.interrupted = True
        super().wait_for_and_dispatch_events(0)

    def begin(self, conn: LaneConnection) -> None:
        """Give a request a place, and remember whether its head repeats."""
        if not conn.hot and conn.invokes and not _read_ahead(conn):
            conn.recalled = conn.heads.recall(conn.seen) if self.alive and self.keeps else None
        super().begin(conn)

    def enqueue_invocation(self, conn: LaneConnection) -> None:
        """Start an invocation, on a lane unless it is a larger or an odd one."""
        if conn.recalled is None and not self.fits(conn):
            super().enqueue_invocation(conn)
            return
        self.take_place(conn)
        if not conn.hot:
            self.heat(conn)
        conn.busy = True
        self.lanes.start(conn.work)

    def fits(self, conn: LaneConnection) -> bool:
        """Tell whether gunicorn may read a request on a lane: all it could wait for is there."""
        return (
            self.laned
            and invokes(conn.function)
            and 0 < len(conn.seen) <= NEXT_BYTES
            and not _read_ahead(conn)
            and is_simple(conn.seen)
        )

    def work_off(self, conn: LaneConnection) -> None:
        """Answer a request, and go on with its connection; runs on a lane."""
        recalled, conn.recalled = conn.recalled, None
        try:
            goes_on = bool(self.handle(conn)) if recalled is None else self.answer(conn, recalled)
        except Exception:
            goes_on = False
            self.log.exception("Error handling request")
        conn.seen = b""
        conn.busy = False
        self.leave_place(conn)
        # One that repeats was not read by gunicorn's parser, which held nothing then.
        if not goes_on or (recalled is None and _read_ahead(conn)):
            self.cool(conn)
            self.finish_request(conn, _done(goes_on and not self.ending))
            return
        self.hot[conn] = time.monotonic()
        self.hot.move_to_end(conn)
        if conn.more:
            conn.more = False
            self.lanes.soon(partial(self.next_arrives, conn))

    def answer(self, conn: LaneConnection, recalled: Recalled) -> bool:
        """Answer a request that repeats; tell whether its connection goes on."""
        try:
            _recv(conn.sock, len(conn.seen), DONT_WAIT)
            answer = conn.heads.answer(self.application, recalled)
            try:
                sent = _send(conn.sock, answer, DONT_WAIT)
            except BlockingIOError:
                sent = 0
            if sent < len(answer):
                conn.sock.sendall(memoryview(answer)[sent:])
        except OSError as error:
            self.log.debug("the client of an invocation is gone: %s", error)
            return False
        return True

    def next_arrives(self, conn: LaneConnection) -> None:
        """Look at what came on a connection of the lanes."""
        if conn.busy:
            conn.more = True
        if conn.busy or not conn.hot:
            return
        try:
            seen = _recv(conn.sock, NEXT_BYTES, _PEEK)
        except BlockingIOError:
            return
        except OSError:
            seen = b""
        conn.recalled = conn.heads.recall(seen) if self.alive and self.keeps else None
        function = function_of(seen) if conn.recalled is None else conn.recalled[2]
        if conn.recalled is not None or (self.laned and invokes(function) and is_simple(seen)):
            conn.seen, conn.function, conn.busy = seen, function or b"", True
            if conn.recalled is None:
                conn.reader.expect_nothing()
            self.begin_invocation(conn)
        elif self.ending:
            self.cool(conn)
            self.close(conn)
        elif not _goes_on(seen):
            self.cool(conn)
            self.watch(conn)
            self.look(conn)

    def handle_request(self, req: Any, conn: LaneConnection) -> Any:
        """Have gunicorn answer a request, and remember its head."""
        # What was seen is this request and no later one.
        seen, conn.seen = conn.seen, b""
        goes_on = super().handle_request(req, conn)
        if goes_on and conn.invokes and seen:
            conn.heads.note(seen, conn.function, lambda: self.environ_of(req, conn))
        return goes_on

    def environ_of(self, req: Any, conn: LaneConnection) -> dict[str, Any] | None:
        """Return the environment of a request that lanes may answer."""
        environ = environ_of(req, conn, self.cfg)
        return environ if environ is not None and self.may_take(environ) else None

    def heat(self, conn: LaneConnection) -> None:
        """Have the lanes attend to a connection."""
        conn.hot = True
        conn.sock.setblocking(False)
        conn.descriptor = conn.sock.fileno()
        conn.work = partial(self.work_off, conn)
        self.hot[conn] = time.monotonic()
        self.lanes.attend_news(conn.descriptor, partial(self.next_arrives, conn))

    def cool(self, conn: LaneConnection) -> None:
        """Have them leave it alone."""
        conn.hot = conn.more = False
        del conn.work, self.hot[conn]
        self.lanes.ignore(conn.descriptor)

    def murder_pending(self) -> None:
        """Close what is late, and give back connections that invoke no more."""
        super().murder_pending()
        cold = time.monotonic() - (STAY_S if self.alive else 0.0)
        for conn, since in list(self.hot.items()):
            if since > cold:
                break
            if not conn.busy:
                self.cool(conn)
                self.finish_request(conn, _done(True))


def _read_ahead(conn: LaneConnection) -> bool:
    """Tell whether gunicorn's parser holds bytes of the next request."""
    return conn.parser is not None and conn.parser.unreader.buf.getbuffer().nbytes > 0


def _goes_on(seen: bytes) -> bool:
    """Tell whether more is about to come: many clients send head and body one by one."""
    found = arrival(seen)
    return bool(
        seen
        and found.missing
        and not found.malformed
        and found.length is not None
        and found.length <= NEXT_BYTES
    )


def _done(goes_on: bool) -> Future[bool]:
    """Return what a thread would that has answered a request."""
    done: Future[bool] = Future()
    done.set_result(goes_on)
    return done
