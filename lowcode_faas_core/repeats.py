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
from typing import TYPE_CHECKING, Any, Final, NamedTuple

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


class Recalled(NamedTuple):
    """A request whose head came before."""

    #: An environment of its own, the body of which is still to be put in.
    environ: dict[str, Any]
    body: bytes
    #: What it invokes, as the main loop names it.
    function: bytes


class Heads:
    """The heads of one connection, each with the environment gunicorn made of it."""

    def __init__(self) -> None:
        #: By the head without the digits of its body's length, the oldest first.
        self._known: dict[bytes, tuple[dict[str, Any], bytes]] = {}
        self._once: dict[int, None] = {}
        self._dated = 0, ""

    def recall(self, seen: bytes) -> Recalled | None:
        """Return an environment and the body of a request that is all there, and nothing behind it."""
        head, digits, body = _taken_apart(seen)
        known = self._known.get(head)
        if known is None or len(body) != int(digits):
            return None
        environ, function = known
        return Recalled({**environ, "CONTENT_LENGTH": digits.decode()}, body, function)

    def note(self, seen: bytes, function: bytes, made: Callable[[], dict[str, Any] | None]) -> None:
        """Remember a head that came before, with the environment that gunicorn makes of it now.

        :param made: returns ``None`` for a request that must not be answered from memory.
        """
        head, digits, body = _taken_apart(seen)
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
        environ = recalled.environ
        environ["wsgi.input"] = io.BytesIO(recalled.body)
        begun: list[tuple[str, list[tuple[str, str]]]] = []

        def start_response(
            status: str, headers: list[tuple[str, str]], _exc_info: object = None, /
        ) -> Any:
            begun.append((status, headers))

        parts: Iterable[bytes] = application(environ, start_response)
        try:
            content = b"".join(parts)
        finally:
            close = getattr(parts, "close", None)
            if close is not None:
                close()
        status, headers = begun[-1]
        lines = [
            f"HTTP/1.1 {status}",
            f"Server: {SERVER}",
            f"Date: {self._date(int(time.time()))}",
            "Connection: keep-alive",
            f"Content-Length: {len(content)}",
        ]
        for name, value in headers:
            if _is_told(name):
                lines.append(f"{name}: {value}")
        text = "\r\n".join(lines)
        if text.count("\n") != len(lines) - 1 or text.count("\r") != len(lines) - 1:
            raise ValueError("a header of the answer holds a line's end")
        return text.encode("latin-1") + _END + content

    def _date(self, now: int) -> str:
        """Return the present second as HTTP writes it; made once a second."""
        if now != self._dated[0]:
            self._dated = now, formatdate(now, usegmt=True)
        return self._dated[1]


def is_simple(seen: bytes) -> bool:
    """Tell whether a request is one head and one body of a length that was announced, no byte more.

    Whatever gunicorn thinks of it: it needs to read nothing else.
    """
    _, digits, body = _taken_apart(seen)
    if not digits or len(body) != int(digits):
        return False
    head = seen[: len(seen) - len(body)].lower()
    return b"\r\ntransfer-encoding" not in head and b"\r\nexpect" not in head


def _taken_apart(seen: bytes) -> tuple[bytes, bytes, bytes]:
    """Return the head without the digits of its length, these, and the body; no digits: none fits."""
    end = seen.find(_END) + len(_END)
    found = _length(seen, 0, end)
    if found is None:
        return b"", b"", b""
    start, stop = found.span(1)
    return seen[:start] + seen[stop:end], found[1], seen[end:]


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
