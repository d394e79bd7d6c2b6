"""What the main loop knows of a client's connection while its requests arrive and are answered.

gunicorn's master has this module, too.
"""

from __future__ import annotations

import socket
from typing import Any

from gunicorn.workers.gthread import TConn

from lowcode_faas_core.arrival import BoundedReader

__all__ = ["Connection"]


class Connection(TConn):  # type: ignore[misc]  # gunicorn has no types
    """A connection whose later bytes a thread reads in a bounded time."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.reader = BoundedReader(self.sock)
        #: Whether it counts among those whose body is being read.
        self.reading = False
        #: Whether its request is an invocation, and of what: its path, or its deployment.
        self.invokes = False
        self.function = b""
        #: That request, where all of it has arrived.
        self.seen = b""
        #: What gunicorn's parser has read of it together with the one before.
        self.ahead = b""
        #: Bytes at which the kernel wakes the main loop.
        self.awaited = 1
        #: Whether the kernel knows no such number, as for Unix sockets, and whether it therefore
        #: wakes the main loop by what is new alone.
        self.unix = self.sock.family == socket.AF_UNIX
        self.by_news = False

    def init(self) -> None:
        """Make gunicorn's parser, which reads through ours."""
        super().init()
        self.parser.unreader.sock = self.reader
