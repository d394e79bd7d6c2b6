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
from collections.abc import Iterable
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, Final

from gunicorn import SERVER
from gunicorn.http import wsgi
from gunicorn.util import hop_headers

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

__all__ = ["Heads", "Recalled"]

#: An environment of its own, and the body: what an application is called with.
Recalled = tuple[dict[str, Any], bytes]

#: Heads of one connection that are remembered: several functions take turns, say.
MOST_HEADS: Final = 4
#: Bytes of the longest of them.
HEAD_BYTES: Final = 2048
_END = b"\r\n\r\n"
#: With these, a request is more than its head and its body.
_NEVER: Final = frozenset(("TRANSFER-ENCODING", "EXPECT", "UPGRADE", "TRAILER", "TE"))
_length = re.compile(rb"\r\ncontent-length: (0|[1-9][0-9]{0,8})\r\n", re.I).search


class Heads:
    """The heads of one connection, each with the environment gunicorn made of it."""

    def __init__(self) -> None:
        #: By the head without the digits of its body's length.
        self._known: dict[bytes, dict[str, Any]] = {}
        self._last = b""
        self._dated = 0, ""

    def recall(self, seen: bytes) -> Recalled | None:
        """Return an environment and the body of a request that is all there, and nothing behind it."""
        head, digits, body = _taken_apart(seen)
        known = self._known.get(head)
        if known is None or len(body) != int(digits):
            return None
        return {**known, "CONTENT_LENGTH": digits.decode()}, body

    def note(self, seen: bytes, req: Any, conn: Any, cfg: Any) -> None:
        """Remember a head that came twice in a row, as gunicorn understood it the second time."""
        head, digits, body = _taken_apart(seen)
        if head != self._last:
            self._last = head if len(head) <= HEAD_BYTES else b""
            return
        if not digits or head in self._known or not _is_plain(req) or len(body) != int(digits):
            return
        _, environ = wsgi.create(req, conn.sock, conn.client, conn.server, cfg)
        environ["wsgi.multithread"] = True
        # The callback holds on to the request, and would write into the middle of an answer.
        del environ["wsgi.early_hints"]
        if len(self._known) >= MOST_HEADS:
            del self._known[next(iter(self._known))]
        self._known[head] = environ

    def answer(self, application: WSGIApplication, environ: dict[str, Any], body: bytes) -> bytes:
        """Return the whole answer to a request; the connection goes on after it.

        :raises ValueError: a header that would not be one.
        """
        environ["wsgi.input"] = io.BytesIO(body)
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
            lowered = name.lower()
            if lowered != "content-length" and lowered not in hop_headers:
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


def _taken_apart(seen: bytes) -> tuple[bytes, bytes, bytes]:
    """Return the head without the digits of its length, these, and the body; no digits: none fits."""
    end = seen.find(_END) + len(_END)
    found = _length(seen, 0, end)
    if found is None:
        return b"", b"", b""
    start, stop = found.span(1)
    return seen[:start] + seen[stop:end], found[1], seen[end:]


def _is_plain(req: Any) -> bool:
    names = [name for name, _ in req.headers]
    return (
        req.version == (1, 1)
        and not req.should_close()
        and _NEVER.isdisjoint(names)
        and names.count("CONTENT-LENGTH") == 1
        and names.count("HOST") == 1
    )
