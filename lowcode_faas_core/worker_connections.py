"""Keep-alive connections to the worker: it is known what was sent, and no wait outlasts its deadline.

The worker closes an idle connection after 75 s. A request that meets that close on its way counts
as sent, and its caller is told that it may have run: so this side gives the connection up first.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import time
from collections import deque
from collections.abc import Mapping
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from lowcode_faas_core.waits import CONNECT_S, IDLE_S

__all__ = ["Answer", "Late", "Lost", "NotSent", "WorkerConnections"]


#: Longest head of an answer, and most that is taken from the kernel at once, in bytes.
HEAD_BYTES: Final = 64 << 10
RECEIVE_BYTES: Final = 64 << 10

_HEAD_END: Final = b"\r\n\r\n"


class NotSent(Exception):
    """Raised when nothing of the request was sent: no connection could be made."""


class Lost(Exception):
    """Raised when the connection ended, or spoke no HTTP, after something may have been sent."""


class Late(Exception):
    """Raised at the deadline when the whole answer has not come; something may have been sent."""


class Answer(NamedTuple):
    """What the worker said; the names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    data: bytes


class _Idle(NamedTuple):
    peer: socket.socket
    since: float


class WorkerConnections:
    """Exchanges requests with one worker, or with the balancer before several; for many threads."""

    def __init__(self, url: str, most: int) -> None:
        """Keep up to ``most`` idle connections to ``url``, http or https."""
        parts = urlsplit(url)
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._host = parts.hostname or ""
        self._port = parts.port or (80 if self._tls is None else 443)
        self._prefix = parts.path.rstrip("/")
        self._netloc = parts.netloc.rpartition("@")[2]
        self._most = most
        self._idle: deque[_Idle] = deque()
        self._busy: set[socket.socket] = set()
        self._closed = False

    def request(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes, deadline: float
    ) -> Answer:
        """Send one request, once, and return the whole answer by ``deadline`` (``time.monotonic``).

        :raises NotSent: nothing was sent.
        :raises Lost: something may have been sent, and no answer came that can be read.
        :raises Late: the same, at the deadline.
        """
        lines = [f"{method} {self._prefix}{path} HTTP/1.1", f"Host: {self._netloc}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        lines.append(f"Content-Length: {len(body)}")
        # Where a value had a line's end in it, the worker would read a header nobody meant.
        if any("\r" in line or "\n" in line for line in lines):
            raise NotSent("a header of the request holds a line's end")
        head = "\r\n".join(lines).encode("latin-1", "replace") + b"\r\n\r\n"
        peer = self._take() or self._connect(deadline)
        self._busy.add(peer)
        keep = False
        try:
            if self._closed:
                raise NotSent("the connections were closed")
            # In one piece: the worker would otherwise wake twice for it.
            answer, keep = _exchange(peer, head + body, method, deadline)
        finally:
            self._busy.discard(peer)
            if keep:
                self._give_back(peer)
            else:
                peer.close()
        return answer

    def close(self) -> None:
        """End every connection; who waits for an answer is told that it was lost."""
        self._closed = True
        for busy in list(self._busy):
            with contextlib.suppress(OSError):
                busy.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(IndexError):
            while True:
                self._idle.pop().peer.close()

    def _take(self) -> socket.socket | None:
        """Return the connection that was used last, unless it ended or is too old."""
        with contextlib.suppress(IndexError):
            while True:
                peer, since = self._idle.pop()
                if time.monotonic() - since <= IDLE_S and not _readable(peer):
                    return peer
                peer.close()
        return None

    def _give_back(self, peer: socket.socket) -> None:
        now = time.monotonic()
        self._idle.append(_Idle(peer, now))
        with contextlib.suppress(IndexError):
            while len(self._idle) > self._most or now - self._idle[0].since > IDLE_S:
                self._idle.popleft().peer.close()
        if self._closed:
            self.close()

    def _connect(self, deadline: float) -> socket.socket:
        left = min(CONNECT_S, deadline - time.monotonic())
        if left <= 0:
            raise NotSent("there was no time left to connect")
        try:
            peer = socket.create_connection((self._host, self._port), left)
        except (OSError, UnicodeError) as error:
            raise NotSent(str(error)) from error
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._tls is None:
            return peer
        try:
            return self._tls.wrap_socket(peer, server_hostname=self._host)
        except (OSError, ValueError) as error:
            peer.close()
            raise NotSent(f"TLS: {error}") from error


def _exchange(
    peer: socket.socket, request: bytes, method: str, deadline: float
) -> tuple[Answer, bool]:
    """Return the answer, and whether the connection may be used again."""
    try:
        peer.settimeout(max(0.001, deadline - time.monotonic()))
        # Who answers early and closes may have said why: its answer is read all the same.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            peer.sendall(request)
        return _answer(peer, method, deadline)
    except TimeoutError as error:
        raise Late from error
    except (OSError, ValueError) as error:
        raise Lost(str(error) or type(error).__name__) from error


def _answer(peer: socket.socket, method: str, deadline: float) -> tuple[Answer, bool]:
    """Read an answer as workers and balancers give it: its length is known, or ends it.

    Raises ``ValueError`` for anything else, the chunked ones of HTTP included.
    """
    seen = bytearray()
    while (end := seen.find(_HEAD_END)) < 0:
        if len(seen) > HEAD_BYTES:
            raise ValueError("the head of the answer does not end")
        _receive(peer, seen, deadline)
    lines = seen[:end].decode("latin-1").split("\r\n")
    version, _, rest = lines[0].partition(" ")
    status = rest[:3]
    if version not in ("HTTP/1.1", "HTTP/1.0") or not (status.isascii() and status.isdigit()):
        raise ValueError("the answer is not HTTP")
    headers = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if not colon:
            raise ValueError("the answer has a header without a colon")
        headers[name.lower()] = value.strip()
    if "transfer-encoding" in headers or status[0] == "1":
        raise ValueError("the answer is of a kind that no worker gives")
    keep = version == "HTTP/1.1" and headers.get("connection", "").lower() != "close"
    del seen[: end + len(_HEAD_END)]
    if method == "HEAD" or status == "204":
        length = 0
    elif "content-length" in headers:
        length = int(headers["content-length"])
    else:
        with contextlib.suppress(_Ended):
            while True:
                _receive(peer, seen, deadline)
        length, keep = len(seen), False
    while len(seen) < length:
        _receive(peer, seen, deadline)
    # What follows an answer nobody asked for belongs to nothing.
    return Answer(int(status), headers, bytes(seen[:length])), keep and len(seen) == length


class _Ended(ConnectionError):
    """Raised at the end of the stream."""


def _receive(peer: socket.socket, seen: bytearray, deadline: float) -> None:
    """Add what comes next; each wait has only what is left until the deadline."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    peer.settimeout(left)
    data = peer.recv(RECEIVE_BYTES)
    if not data:
        raise _Ended("the connection ended before the answer did")
    seen += data


def _readable(peer: socket.socket) -> bool:
    """Tell whether an idle connection has ended: there is nothing else it could say."""
    poll = select.poll()
    poll.register(peer, select.POLLIN)
    return bool(poll.poll(0))
