"""What has arrived of a request, told from its first bytes, and how the rest may arrive.

gunicorn's master has this module, too: it imports nothing of ours.
"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple

__all__ = ["PEEK_BYTES", "Arrival", "BoundedReader", "Chunks", "arrival"]

#: Bytes looked at: gunicorn's own limits on a head are below it, so it can judge what is longer.
PEEK_BYTES: Final = 64 << 10

_HEAD_END = b"\r\n\r\n"
_content_length = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,9})[ \t]*\r\n", re.I).search
_chunked = re.compile(rb"\r\ntransfer-encoding:[ \t]*chunked[ \t]*\r\n", re.I).search
_expects = re.compile(rb"\r\nexpect:", re.I).search
#: The last chunk and its trailers. Trailers are bounded: many starts would each read to the end.
_last_chunk = re.compile(rb"\r\n0+(?:;[^\r\n]{0,255})?\r\n(?:[^\r\n]{1,255}\r\n){0,8}\r\n").search
#: A body that is announced in some way that was not understood here; gunicorn may.
_announced = re.compile(rb"\r\n(?:content-length|transfer-encoding)[ \t]*:", re.I).search
#: Time in which a request that has arrived is read, in seconds: it is there.
READ_S: Final = 10.0
#: Some readers end a line here, others do not: what follows would be two different requests.
_bare_line_feed = re.compile(rb"(?<!\r)\n").search
_bare_first_chunk = re.compile(rb"[^\r\n]{1,255}\n").match


class Arrival(NamedTuple):
    """What the first bytes of a connection say."""

    #: How many more to wait for at least before a thread can begin; 0: it can.
    missing: int
    #: Whether all of the request is there, so that no thread will wait for its client.
    whole: bool = True
    #: Whether it can never become a request.
    malformed: bool = False
    #: Whether its head is there and announces chunks, some of which are missing.
    chunked: bool = False
    #: Bytes of the whole request where that is known.
    length: int | None = None


def arrival(seen: bytes) -> Arrival:
    """Judge the first bytes, up to :data:`PEEK_BYTES` of them."""
    room = PEEK_BYTES - len(seen)
    end = seen.find(_HEAD_END)
    if end < 0:
        return Arrival(min(1, room), malformed=_bare_line_feed(seen) is not None)
    body = end + len(_HEAD_END)
    waits_for_us = _expects(seen, 0, end + 2) is not None
    found = _content_length(seen, 0, end + 2)
    if found is None:
        if not _chunked(seen, 0, end + 2):
            return Arrival(0, whole=_announced(seen, 0, end + 2) is None)
        # From the line's end before the body on: there may be no other chunk. What looks like the
        # last one may be data of another, so that a thread may have to wait after all.
        if _last_chunk(seen, body - 2):
            return Arrival(0, whole=False)
        if _bare_first_chunk(seen, body):
            return Arrival(0, malformed=True)
        if waits_for_us or not room:
            return Arrival(0, whole=False)
        return Arrival(1, chunked=True)
    length = body + int(found.group(1))
    if len(seen) >= length:
        return Arrival(0)
    if waits_for_us or not room:
        return Arrival(0, whole=False, length=length)
    return Arrival(min(length - len(seen), room), length=length)


class BoundedReader:
    """Stands in for a client's socket where a thread reads a request: in a bounded time, whatever comes."""

    def __init__(self, client: socket.socket) -> None:
        self._client = client
        self._left: int | None = None
        self._seconds = READ_S
        #: ``None``: nothing of the request was read yet.
        self._until: float | None = None
        self._arrived: Callable[[], None] | None = None

    def expect(self, length: int | None, seconds: float, arrived: Callable[[], None]) -> None:
        """Have the next request be read in so many seconds; ``arrived`` is called when it was.

        :param length: its bytes, ``None`` where only who reads it can tell: see :meth:`is_read`.
        """
        self._left, self._seconds, self._until = length, seconds, None
        self._arrived = arrived

    def expect_nothing(self) -> None:
        """Have the next request, which has arrived, be read as it is."""
        self._left, self._seconds, self._until = None, READ_S, None
        self._arrived = None

    def is_read(self) -> None:
        """Say that the request was read to its end."""
        arrived, self._arrived = self._arrived, None
        if arrived is not None:
            arrived()

    def recv(self, size: int) -> bytes:
        """Read what is there; each wait is bounded by the socket's own timeout, too.

        :raises TimeoutError: it takes too long in all, from the first read on.
        """
        now = time.monotonic()
        if self._until is None:
            self._until = now + self._seconds
        elif now >= self._until:
            raise TimeoutError("the request did not arrive in time")
        data = self._client.recv(size)
        if self._left is not None:
            self._left -= len(data)
            if self._left <= 0:
                self.is_read()
        if not data:
            self.is_read()
        return data

    def gettimeout(self) -> None:
        """Return what gunicorn puts back after it has read what nobody wanted: nothing."""

    def settimeout(self, seconds: float | None) -> None:
        """Have what is left be read in so many seconds at most, as gunicorn wants it."""
        if seconds is not None:
            until = time.monotonic() + seconds
            self._until = until if self._until is None else min(until, self._until)


class Chunks:
    """Stands in for gunicorn's reader of chunks, the only one who knows where they end."""

    def __init__(self, reader: Any, ended: Callable[[], None]) -> None:
        self._reader = reader
        self._ended = ended

    def read(self, size: int) -> bytes:
        """Read so many bytes of the body, fewer at its end only."""
        data: bytes = self._reader.read(size)
        if len(data) < size:
            self._ended()
        return data
