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
from urllib.parse import urlsplit

from lowcode_faas_core.lanes import elsewhere
from lowcode_faas_core.name_lookup import Addresses, AddressInfo, NoAddress
from lowcode_faas_core.setting_values import UNIX
from lowcode_faas_core.waits import CONNECT_S, IDLE_S
from lowcode_faas_core.worker_link import Answer, Link

__all__ = ["NotSent", "WorkerConnections"]


class NotSent(Exception):
    """Raised when nothing of the request was sent: no connection could be made."""


class WorkerConnections:
    """Exchanges requests with one worker, or with the balancer before several; for many threads."""

    def __init__(self, url: str, most: int) -> None:
        """Keep up to ``most`` idle connections to ``url``: http, https or ``unix:/path``."""
        self._path = url.removeprefix(UNIX) if url.startswith(UNIX) else ""
        parts = urlsplit("http://localhost" if self._path else url)
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._host = parts.hostname or ""
        self._port = parts.port or (80 if self._tls is None else 443)
        self._addresses = Addresses(self._host, self._port)
        self._prefix = parts.path.rstrip("/")
        self._netloc = parts.netloc.rpartition("@")[2]
        self._most = most
        self._idle: deque[Link] = deque()
        self._busy: set[Link] = set()
        self._closed = False

    def request(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes, deadline: float
    ) -> Answer:
        """Send one request, once; see :meth:`head` and :meth:`send`."""
        return self.send(self.head(method, path, headers), body, deadline)

    def head(self, method: str, path: str, headers: Mapping[str, str]) -> bytes:
        """Return the head of a request but for its length, to be sent any number of times.

        :raises NotSent: it would be another request than was meant.
        """
        lines = [f"{method} {self._prefix}{path} HTTP/1.1", f"Host: {self._netloc}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        # Where a value had a line's end in it, the worker would read a header nobody meant.
        if any("\r" in line or "\n" in line for line in lines):
            raise NotSent("a header of the request holds a line's end")
        return "\r\n".join(lines).encode("latin-1", "replace")

    def send(self, head: bytes, body: bytes, deadline: float) -> Answer:
        """Send one request, once, and return the whole answer by ``deadline`` (``time.monotonic``).

        :raises NotSent: nothing was sent.
        :raises Lost: something may have been sent, and no answer came that can be read.
        :raises Late: the same, at the deadline.
        """
        # In one piece: the worker would otherwise wake twice for it.
        request = b"%b\r\nContent-Length: %d\r\n\r\n%b" % (head, len(body), body)
        link = self._take() or elsewhere(lambda: self._connect(deadline))
        self._busy.add(link)
        keep = False
        try:
            if self._closed:
                raise NotSent("the connections were closed")
            answer, keep = link.exchange(request, deadline)
        finally:
            self._busy.discard(link)
            if keep:
                self._give_back(link)
            else:
                link.close()
        return answer

    def close(self) -> None:
        """End every connection; who waits for an answer is told that it was lost."""
        self._closed = True
        for busy in list(self._busy):
            with contextlib.suppress(OSError):
                busy.peer.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(IndexError):
            while True:
                self._idle.pop().close()

    def _take(self) -> Link | None:
        """Return the connection that was used last, unless it ended or is too old."""
        while True:
            try:
                link = self._idle.pop()
            except IndexError:
                return None
            if time.monotonic() - link.since <= IDLE_S and not link.ended(0):
                return link
            link.close()

    def _give_back(self, link: Link) -> None:
        now = link.since = time.monotonic()
        self._idle.append(link)
        try:
            while len(self._idle) > self._most or now - self._idle[0].since > IDLE_S:
                self._idle.popleft().close()
        except IndexError:
            pass  # others took what was there
        if self._closed:
            self.close()

    def _connect(self, deadline: float) -> Link:
        end = min(time.monotonic() + CONNECT_S, deadline)
        if _left(end) <= 0:
            raise NotSent("there was no time left to connect")
        if self._path:
            return self._connect_here(_left(end))
        try:
            addresses = self._addresses.find(_left(end))
        except NoAddress as error:
            raise NotSent(str(error)) from error
        peer = self._connect_to_one_of(addresses, end)
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._tls is None:
            return Link(peer, encrypted=False)
        try:
            return Link(_shake_hands(self._tls, peer, self._host, end), encrypted=True)
        except (OSError, ValueError) as error:
            peer.close()
            raise NotSent(f"TLS: {error}") from error

    @staticmethod
    def _connect_to_one_of(addresses: list[AddressInfo], end: float) -> socket.socket:
        failed: OSError | None = None
        for number, (family, kind, protocol, _, address) in enumerate(addresses):
            # One that does not answer leaves the others their part of the time.
            left = _left(end) / (len(addresses) - number)
            if left <= 0:
                break
            peer = socket.socket(family, kind, protocol)
            peer.settimeout(left)
            try:
                peer.connect(address)
            except OSError as error:
                peer.close()
                failed = error
            else:
                return peer
        raise NotSent(str(failed or "there was no time left to connect")) from failed

    def _connect_here(self, seconds: float) -> Link:
        peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        peer.settimeout(seconds)
        try:
            peer.connect(self._path)
        except OSError as error:  # as well where so many wait to be accepted that it is full
            peer.close()
            raise NotSent(f"{self._path}: {error}") from error
        return Link(peer, encrypted=False)


def _left(end: float) -> float:
    return end - time.monotonic()


def _shake_hands(
    context: ssl.SSLContext, peer: socket.socket, host: str, end: float
) -> ssl.SSLSocket:
    """Return the connection encrypted; a peer that answers byte by byte has no more time than others."""
    peer.setblocking(False)
    encrypted = context.wrap_socket(peer, server_hostname=host, do_handshake_on_connect=False)
    try:
        while True:
            try:
                encrypted.do_handshake()
            except ssl.SSLWantReadError:
                event = select.POLLIN
            except ssl.SSLWantWriteError:
                event = select.POLLOUT
            else:
                return encrypted
            _await(encrypted, event, end)
    except BaseException:
        encrypted.close()
        raise


def _await(peer: socket.socket, event: int, end: float) -> None:
    ready = select.poll()
    ready.register(peer, event)
    if _left(end) <= 0 or not ready.poll(_left(end) * 1000):
        raise TimeoutError("the handshake timed out")
