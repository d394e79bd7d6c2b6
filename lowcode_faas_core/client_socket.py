"""A client's connection, whose reads and writes hold up nobody where they are done on a lane.

Beside it, what is asked of the kernel about one; with TLS it is another socket than ours.

gunicorn's master has this module, too.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
from functools import partial
from typing import Any, Final

from lowcode_faas_core.lanes import elsewhere, lane

__all__ = ["DONT_WAIT", "ClientSocket", "bound_reads", "cork", "half_closed", "has_bytes"]


#: A plain number: to combine members of an enumeration costs more than the call.
DONT_WAIT: Final = int(socket.MSG_DONTWAIT)
#: Time in which a client must have taken its answer, in seconds: 8 MiB at a megabit a second.
SLOW_S: Final = 75.0


class ClientSocket(socket.socket):
    """Blocks in a thread as it was told to; on a lane it never does."""

    @classmethod
    def of(cls, client: socket.socket) -> ClientSocket:
        """Take over a connection."""
        return cls(client.family, client.type, client.proto, client.detach())

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        """Read what is there; on a lane at once.

        :raises BlockingIOError: on a lane, where all of a request has arrived before it is read.
        """
        if lane() is None:
            return super().recv(size, flags)
        if self.gettimeout():
            # Told to wait so long, Python would wait before it looks at the flags.
            return elsewhere(partial(super().recv, size, flags))
        return super().recv(size, flags | DONT_WAIT)

    def sendall(self, data: Any, flags: int = 0, /) -> None:
        """Send all of it; from a lane a thread sends what a slow client does not take at once."""
        if lane() is None:
            super().sendall(data, flags)
            return
        try:
            sent = self.send(data, flags | DONT_WAIT)
        except BlockingIOError:
            sent = 0
        if sent < len(data):
            elsewhere(partial(self._send_slowly, memoryview(data)[sent:], flags))

    def _send_slowly(self, rest: memoryview, flags: int) -> None:
        patience = self.gettimeout()
        self.settimeout(SLOW_S)
        try:
            super().sendall(rest, flags)
        finally:
            self.settimeout(patience)


def cork(client: socket.socket, value: int) -> None:
    """Have the kernel keep what is written until it is one piece; 0 sends it."""
    with contextlib.suppress(OSError):  # closed by now, or no TCP
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, value)


def bound_reads(client: socket.socket, seconds: int, microseconds: int) -> None:
    """Have the kernel end a read for which nothing comes."""
    bound = struct.pack("ll", seconds, microseconds)
    with contextlib.suppress(OSError):
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, bound)


def has_bytes(client: socket.socket) -> bool:
    """Tell whether anything has come that is not read."""
    try:
        return bool(client.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
    except OSError:
        return False


def half_closed(client: socket.socket) -> bool:
    """Tell whether the client sends nothing more."""
    poll = select.poll()
    poll.register(client, select.POLLRDHUP)
    return bool(poll.poll(0))
