"""Answers a request whose head is, byte for byte, one that came before on the same connection.

Clients that keep a connection send the same head again and again, but for the length of the body.
gunicorn has parsed and judged it once; what is equal to the last byte means the same, so its WSGI
environment is used again with another body, and the answer goes out in one piece. Nothing else is
parsed here: whatever differs is gunicorn's. Its master has this module, too: it imports nothing of
ours.
"""

from __future__ import annotations

import io
import re
import time
from collections.abc import Callable, Iterable
from email.utils import formatdate
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from gunicorn import SERVER
from gunicorn.http import wsgi
from gunicorn.util import hop_headers

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

__all__ = ["Heads", "Recalled", "environ_of", "is_simple"]

#: Heads of one connection that are remembered: several functions take turns, say. With their
#: environments they take some 6 KB each.
MOST_HEADS: Final = 8
#: Bytes of the longest of them.
HEAD_BYTES: Final = 2048
_END = b"\r\n\r\n"
#: With these, a request is more than its head and its body.
_NEVER: Final = frozenset(("TRANSFER-ENCODING", "EXPECT", "UPGRADE", "TRAILER", "TE"))
_length = re.compile(rb"\r\ncontent-length: (0|[1-9][0-9]{0,8})\r\n", re.I).search
_is_length = re.compile(rb"0|[1-9][0-9]{0,8}").fullmatch
_MOST_DIGITS: Final = 9
#: Lines of an answer beside the application's: status, server, date, connection, length, and the end.
_OWN_LINES: Final = 6


#: A request whose head came before: an environment of its own, the body which is still to be put in
#: there, and what it invokes, as the main loop names it. A plain tuple: one is made for each.
Recalled = tuple[dict[str, Any], bytes, bytes]


class Heads:
    """The heads of one connection, each with the environment gunicorn made of it."""

    def __init__(self) -> None:
        #: By the head without the digits of its body's length, the oldest first.
        self._known: dict[bytes, tuple[dict[str, Any], bytes]] = {}
        self._once: dict[int, None] = {}
        #: What was recalled last: the head before those digits and after them, and what is known.
        self._last: tuple[bytes, bytes, dict[str, Any], bytes] | None = None
        self._dated = 0, ""

    def recall(self, seen: bytes) -> Recalled | None:
        """Return an environment and the body of a request that is all there, and nothing behind it."""
        if self._last is not None:
            # As a rule it is the same once more, which is told without looking for anything.
            before, after, environ, function = self._last
            if seen.startswith(before):
                start = len(before)
                stop = seen.find(b"\r", start, start + _MOST_DIGITS + 1)
                digits = seen[start:stop]
                if seen.startswith(after, stop) and _is_length(digits):
                    body = seen[stop + len(after) :]
                    if len(body) != int(digits):
                        return None
                    return {**environ, "CONTENT_LENGTH": digits.decode()}, body, function
        before, digits, after, body = _taken_apart(seen)
        known = self._known.get(before + after)
        if known is None or len(body) != int(digits):
            return None
        environ, function = known
        self._last = before, after, environ, function
        return {**environ, "CONTENT_LENGTH": digits.decode()}, body, function

    def note(self, seen: bytes, function: bytes, made: Callable[[], dict[str, Any] | None]) -> None:
        """Remember a head that came before, with the environment that gunicorn makes of it now.

        :param made: returns ``None`` for a request that must not be answered from memory.
        """
        before, digits, after, body = _taken_apart(seen)
        head = before + after
        if not digits or len(head) > HEAD_BYTES or head in self._known or len(body) != int(digits):
            return
        # Its hash is enough: who meets another's is parsed once less before it is remembered.
        once = hash(head)
        if once not in self._once:
            _bound(self._once)
            self._once[once] = None
            return
        environ = made()
        if environ is not None:
            del self._once[once]
            _bound(self._known)
            self._known[head] = environ, function

    def answer(self, application: WSGIApplication, recalled: Recalled) -> bytes:
        """Return the whole answer to a request; the connection goes on after it.

        :raises ValueError: a header that would not be one.
        """
        environ, body, _ = recalled
        environ["wsgi.input"] = io.BytesIO(body)
        begun: list[tuple[str, list[tuple[str, str]]]] = []

        def start_response(
            status: str, headers: list[tuple[str, str]], _exc_info: object = None, /
        ) -> Any:
            begun.append((status, headers))

        parts: Iterable[bytes] = application(environ, start_response)
        # As a rule it is one piece, with nothing to close.
        content = parts[0] if type(parts) is tuple and len(parts) == 1 else _all_of(parts)
        status, headers = begun[-1]
        told = [f"{name}: {value}\r\n" for name, value in headers if _is_told(name)]
        text = (
            f"HTTP/1.1 {status}{self._stamp(int(time.time()))}{len(content)}\r\n{''.join(told)}\r\n"
        )
        lines = len(told) + _OWN_LINES
        if text.count("\n") != lines or text.count("\r") != lines:
            raise ValueError("a header of the answer holds a line's end")
        return text.encode("latin-1") + content

    def _stamp(self, now: int) -> str:
        """Return what an answer says after its status, up to its length; made once a second."""
        if now != self._dated[0]:
            date = formatdate(now, usegmt=True)
            self._dated = (
                now,
                f"\r\nServer: {SERVER}\r\nDate: {date}\r\nConnection: keep-alive\r\nContent-Length: ",
            )
        return self._dated[1]


def is_simple(seen: bytes) -> bool:
    """Tell whether a request is one head and one body of a length that was announced, no byte more.

    Whatever gunicorn thinks of it: it needs to read nothing else.
    """
    _, digits, _, body = _taken_apart(seen)
    if not digits or len(body) != int(digits):
        return False
    head = seen[: len(seen) - len(body)].lower()
    return b"\r\ntransfer-encoding" not in head and b"\r\nexpect" not in head


def _all_of(parts: Iterable[bytes]) -> bytes:
    try:
        return b"".join(parts)
    finally:
        close = getattr(parts, "close", None)
        if close is not None:
            close()


def _taken_apart(seen: bytes) -> tuple[bytes, bytes, bytes, bytes]:
    """Return the head up to the digits of its length, these, the rest of it, and the body.

    No digits: none fits.
    """
    end = seen.find(_END) + len(_END)
    found = _length(seen, 0, end)
    if found is None:
        return b"", b"", b"", b""
    start, stop = found.span(1)
    return seen[:start], found[1], seen[stop:end], seen[end:]


@lru_cache(maxsize=256)
def _is_told(name: str) -> bool:
    lowered = name.lower()
    return lowered != "content-length" and lowered not in hop_headers


def environ_of(req: Any, conn: Any, cfg: Any) -> dict[str, Any] | None:
    """Return what gunicorn makes of a request; ``None``: there is more to it than head and body."""
    names = [name for name, _ in req.headers]
    if (
        req.version != (1, 1)
        or req.should_close()
        or not _NEVER.isdisjoint(names)
        or names.count("CONTENT-LENGTH") != 1
        or names.count("HOST") != 1
    ):
        return None
    _, environ = wsgi.create(req, conn.sock, conn.client, conn.server, cfg)
    environ["wsgi.multithread"] = True
    # The callback holds on to the request, and would write into the middle of an answer.
    del environ["wsgi.early_hints"]
    made: dict[str, Any] = environ
    return made


def _bound(heads: dict[Any, Any]) -> None:
    if len(heads) >= MOST_HEADS:
        del heads[next(iter(heads))]
