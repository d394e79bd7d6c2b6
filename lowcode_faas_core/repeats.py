"""Answers a request whose head is, byte for byte, one that came before on the same connection.

Clients that keep a connection send the same head again and again. gunicorn has parsed and judged it
once; what is equal to the last byte means the same, so its WSGI environment is used again with
another body, and the answer goes out in one piece. Nothing is parsed here: whatever differs is
gunicorn's. gunicorn's master has this module, too: it imports nothing of ours.
"""

from __future__ import annotations

import io
import time
from collections.abc import Iterable
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, Final

from gunicorn import SERVER
from gunicorn.http import wsgi
from gunicorn.util import hop_headers

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

__all__ = ["Heads"]

#: Heads of one connection that are remembered: bodies of several lengths take turns, say.
MOST_HEADS: Final = 4
#: Bytes of the longest of them.
HEAD_BYTES: Final = 2048
_END = b"\r\n\r\n"
#: With these, a request is more than its head and its body.
_NEVER: Final = frozenset(("TRANSFER-ENCODING", "EXPECT", "UPGRADE", "TRAILER", "TE"))


class Heads:
    """The heads of one connection, each with the environment gunicorn made of it."""

    def __init__(self) -> None:
        self._known: dict[bytes, tuple[int, dict[str, Any]]] = {}
        self._last = b""
        self._dated = 0, ""

    def recall(self, seen: bytes) -> tuple[dict[str, Any], bytes] | None:
        """Return environment and body of a request that is all there, with nothing behind it."""
        end = seen.find(_END) + len(_END)
        known = self._known.get(seen[:end])
        if known is None or len(seen) != end + known[0]:
            return None
        return known[1], seen[end:]

    def note(self, seen: bytes, req: Any, conn: Any, cfg: Any) -> None:
        """Remember a head that came twice in a row, as gunicorn understood it the second time."""
        end = seen.find(_END) + len(_END)
        head = seen[:end]
        if head != self._last:
            self._last = head if len(head) <= HEAD_BYTES else b""
            return
        if head in self._known or not _is_plain(req):
            return
        length = next((int(value) for name, value in req.headers if name == "CONTENT-LENGTH"), 0)
        if len(seen) != end + length:
            return
        _, environ = wsgi.create(req, conn.sock, conn.client, conn.server, cfg)
        environ["wsgi.multithread"] = True
        # The callback holds on to the request, and would write into the middle of an answer.
        del environ["wsgi.early_hints"]
        if len(self._known) >= MOST_HEADS:
            del self._known[next(iter(self._known))]
        self._known[head] = (length, environ)

    def answer(self, application: WSGIApplication, known: dict[str, Any], body: bytes) -> bytes:
        """Return the whole answer to a request; the connection goes on after it.

        :raises ValueError: a header that would not be one.
        """
        environ = known.copy()
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


def _is_plain(req: Any) -> bool:
    names = [name for name, _ in req.headers]
    return (
        req.version == (1, 1)
        and not req.should_close()
        and _NEVER.isdisjoint(names)
        and names.count("CONTENT-LENGTH") <= 1
        and names.count("HOST") == 1
    )
