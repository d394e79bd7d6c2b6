"""A client's connection, whose reads and writes hold up nobody where they are done on a lane.

Beside it, what is asked of the kernel about one; with TLS it is another socket than ours.

gunicorn's master has this module, too.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import threading
import time
from functools import partial
from typing import Any, Final

from lowcode_faas_core.lanes import Lanes, elsewhere, lane

__all__ = ["DONT_WAIT", "ClientSocket", "bound_reads", "cork", "half_closed", "has_bytes"]


#: A plain number: to combine members of an enumeration costs more than the call.
DONT_WAIT: Final = int(socket.MSG_DONTWAIT)
#: Time in which a client must have taken its answer, in seconds: 8 MiB at a megabit a second.
SLOW_S: Final = 75.0
#: The same where as many threads as may wait for slow clients already do.
CROWDED_S: Final = 2.0
#: Bytes of answers that may wait on lanes at a time: forty of the longest, as the defaults have them.
MOST_UNTAKEN: Final = 256 << 20


class ClientSocket(socket.socket):
    """Blocks in a thread as it was told to, but for slow clients; on a lane it never does."""

    #: How many threads may wait for clients that do not take their answers.
    seats: threading.Semaphore

    @classmethod
    def of(cls, client: socket.socket, seats: threading.Semaphore) -> ClientSocket:
        """Take over a connection."""
        made = cls(client.family, client.type, client.proto, client.detach())
        made.seats = seats
        return made

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
        """Send all of it, in a bounded time: slow clients neither keep a lane's thread nor all others.

        :raises TimeoutError: it is not taken in time.
        """
        try:
            sent = self.send(data, flags | DONT_WAIT)
        except BlockingIOError:
            sent = 0
        if sent == len(data):
            return
        rest = memoryview(data)[sent:]
        current = lane()
        if current is None:
            self._wait_in_thread(rest, flags)
        else:
            self._wait_on_lane(current.lanes, rest, flags)

    def _wait_in_thread(self, rest: memoryview, flags: int) -> None:
        seat = self.seats.acquire(blocking=False)
        patience = self.gettimeout()
        try:
            # Python has it be the time for all of it.
            self.settimeout(SLOW_S if seat else CROWDED_S)
            super().sendall(rest, flags)
        finally:
            self.settimeout(patience)
            if seat:
                self.seats.release()

    def _wait_on_lane(self, lanes: Lanes, rest: memoryview, flags: int) -> None:
        size = len(rest)
        if lanes.untaken + size > MOST_UNTAKEN:
            raise TimeoutError("too much is waiting for clients that do not take their answers")
        until = time.monotonic() + SLOW_S
        # The lanes attend to what the connection receives under its own number.
        twin = os.dup(self.fileno())
        lanes.untaken += size
        try:
            taken = lanes.departures(twin)
            while rest:
                try:
                    rest = rest[self.send(rest, flags | DONT_WAIT) :]
                except BlockingIOError:
                    if not lanes.wait_until(taken, until):
                        raise TimeoutError("the client does not take its answer") from None
        finally:
            lanes.ignore(twin)
            os.close(twin)
            lanes.untaken -= size


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
