"""One connection to the worker: a request out, its whole answer in, and no wait beyond the deadline."""

from __future__ import annotations

import contextlib
import re
import select
import socket
import time
from collections.abc import Mapping
from functools import partial
from typing import Final

import msgspec
from greenlet import getcurrent

from lowcode_faas_core.lanes import Lane, Lanes, Wait, elsewhere

__all__ = ["Answer", "Late", "Link", "Lost"]

#: Longest head of an answer, and most that is taken from the kernel at once, in bytes.
HEAD_BYTES: Final = 64 << 10
RECEIVE_BYTES: Final = 64 << 10

_HEAD_END: Final = b"\r\n\r\n"
#: A head all of whose lines are headers.
_HEADERS: Final = rb"(?:\r\n[!#-'*+\-.0-9A-Z^-z|~]+:[^\r\n]*)*"
_is_answer = re.compile(rb"HTTP/1\.([01]) ([0-9]{3})(?: [^\r\n]*)?" + _HEADERS).fullmatch
#: What a worker answers as a rule, in the order in which it does: nothing else is in such a head.
_usual = re.compile(
    rb"HTTP/1\.1 200 OK\r\nServer: [^\r\n]*\r\nDate: [^\r\n]*\r\nConnection: keep-alive\r\n"
    rb"Content-Length: ([0-9]{1,9})\r\nContent-Type: application/json\r\n"
    rb"X-Lowcode-Faas-Status: [^\r\n]*\r\nX-Lowcode-Faas-Api: [^\r\n]*\r\n"
    rb"X-Request-Id: [^\r\n]*\r\n\r\n"
).match
_length = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,15})[ \t]*(?=\r\n|$)", re.I).findall
_coded = re.compile(rb"\r\ntransfer-encoding:", re.I).search
_closes = re.compile(rb"\r\nconnection:[ \t]*close[ \t]*(?=\r\n|$)", re.I).search


#: Who answers early and closes may have said why: its answer is read all the same.
_EARLY: Final = (BrokenPipeError, ConnectionResetError)


class Lost(Exception):
    """Raised when the connection ended, or spoke no HTTP, after something may have been sent."""


class Late(Exception):
    """Raised at the deadline when the whole answer has not come; something may have been sent."""


class Answer(msgspec.Struct, frozen=True, gc=False):
    """What the worker said."""

    status: int
    head: bytes
    data: bytes

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers by their names in lower case; of several of one name the last."""
        lines = self.head.decode("latin-1").split("\r\n")[1:]
        pairs = (line.partition(":") for line in lines)
        return {name.lower(): value.strip() for name, _, value in pairs}


class _Ended(ConnectionError):
    """Raised at the end of the stream."""


class Link:
    """A connection that is kept; for one request at a time, in a thread or on a lane."""

    def __init__(self, peer: socket.socket, *, encrypted: bool) -> None:
        self.peer = peer
        self._encrypted = encrypted
        #: When it was used last, by ``time.monotonic``.
        self.since = 0.0
        ended = select.poll()
        ended.register(peer, select.POLLIN)
        #: Called with 0, finds something where it has ended while idle: there is nothing else it
        #: could say.
        self.ended = ended.poll
        #: What a lane waits by for the answer; made for the first one.
        self._arrivals: Wait
        #: Whose main loop attends to it; while nobody's, it blocks.
        self._lanes: Lanes | None = None
        #: Whether the kernel may hold more of the answer than was taken.
        self._more = False

    def close(self) -> None:
        """Close it."""
        self.peer.close()

    def exchange(self, request: bytes, deadline: float) -> tuple[Answer, bool]:
        """Return the answer, and whether the connection may be used again.

        :raises Late: at ``deadline``, by ``time.monotonic``.
        :raises Lost: there was no answer that could be read.
        """
        current = getcurrent()
        if self._encrypted or type(current) is not Lane:
            # The one who encrypts has pieces of an answer that no poll would show.
            return elsewhere(partial(self._exchange, request, deadline))
        try:
            if self._lanes is not current.lanes:
                self._attend(current.lanes)
            # Unless all of it goes out at once, the answer may come before there is a wait for it.
            self._more = True
            try:
                sent = self.peer.send(request)
            except BlockingIOError:
                sent = 0
            except _EARLY:
                sent = -1
            if sent == len(request):
                self._more = False
            elif sent >= 0:
                elsewhere(partial(self._send_all, request[sent:], deadline))
                self._attend(current.lanes)
            return self._answer(current, deadline)
        except TimeoutError as error:
            raise Late from error
        except (OSError, ValueError) as error:
            raise Lost(str(error) or type(error).__name__) from error

    def _exchange(self, request: bytes, deadline: float) -> tuple[Answer, bool]:
        """Do it in a thread."""
        try:
            self._send_all(request, deadline)
            return self._answer(None, deadline)
        except TimeoutError as error:
            raise Late from error
        except (OSError, ValueError) as error:
            raise Lost(str(error) or type(error).__name__) from error

    def _attend(self, lanes: Lanes) -> None:
        self.peer.setblocking(False)
        made = getattr(self, "_arrivals", None)
        if made is None or made.lanes is not lanes:
            self._arrivals = lanes.arrivals(self.peer.fileno())
        self._lanes = lanes

    def _send_all(self, request: bytes, deadline: float) -> None:
        self._lanes = None
        self.peer.settimeout(max(0.001, deadline - time.monotonic()))
        with contextlib.suppress(*_EARLY):
            self.peer.sendall(request)

    def _answer(self, current: Lane | None, deadline: float) -> tuple[Answer, bool]:
        """Read an answer as workers and balancers give it: its length is known, or ends it.

        Raises ``ValueError`` for anything else, the chunked ones of HTTP included.
        """
        seen = self._receive(current, deadline)
        usual = _usual(seen)
        if usual is not None and len(seen) == (end := usual.end()) + int(usual[1]):
            return Answer(200, seen[: end - len(_HEAD_END)], seen[end:]), True
        while (end := seen.find(_HEAD_END)) < 0:
            if len(seen) > HEAD_BYTES:
                raise ValueError("the head of the answer does not end")
            seen += self._receive(current, deadline)
        head = seen[:end]
        found = _is_answer(head)
        if found is None:
            raise ValueError("the answer is not HTTP")
        status = int(found[2])
        if status < 200 or _coded(head):
            raise ValueError("the answer is of a kind that no worker gives")
        keep = found[1] == b"1" and not _closes(head)
        parts = [seen[end + len(_HEAD_END) :]]
        got = len(parts[0])
        lengths = _length(head)
        if len(set(lengths)) > 1:
            raise ValueError("the answer has two lengths")
        length = 0 if status == 204 else int(lengths[0]) if lengths else None
        if length is None:
            keep = False
            with contextlib.suppress(_Ended):
                while True:
                    parts.append(self._receive(current, deadline))
            return Answer(status, head, b"".join(parts)), keep
        while got < length:
            parts.append(self._receive(current, deadline))
            got += len(parts[-1])
        # What follows an answer nobody asked for belongs to nothing.
        data = b"".join(parts) if len(parts) > 1 else parts[0]
        return Answer(status, head, data[:length]), keep and got == length

    def _receive(self, current: Lane | None, deadline: float) -> bytes:
        """Return what comes next; each wait has only what is left until the deadline."""
        while True:
            if current is None:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError
                self._lanes = None
                self.peer.settimeout(left)
            elif self._more:
                if time.monotonic() >= deadline:
                    raise TimeoutError
            elif not current.lanes.wait_until(self._arrivals, deadline):
                raise TimeoutError
            try:
                data = self.peer.recv(RECEIVE_BYTES)
            except BlockingIOError:
                self._more = False
                continue
            if not data:
                raise _Ended("the connection ended before the answer did")
            # The rest, or the end, may have come with it: of that there is no news any more.
            self._more = True
            return data
