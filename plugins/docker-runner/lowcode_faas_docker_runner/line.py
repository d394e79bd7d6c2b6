"""The conversation with a container of this machine: a socket, and the pipes of its raw output."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from typing import Final

from lowcode_faas_core.interfaces.launcher import Stream

__all__ = ["Line", "set_timeouts"]

_TIMEVAL: Final = struct.Struct("@ll")
_CHANNEL: Final = Stream.CHANNEL


def set_timeouts(connection: socket.socket, seconds: float) -> None:
    """Let reads and writes wait at most this long, by the kernel's own timeouts; 0 is not at all."""
    if seconds <= 0:
        connection.setblocking(False)
        return
    # All zeros would mean for ever.
    micros = max(1, int(seconds * 1_000_000))
    value = _TIMEVAL.pack(*divmod(micros, 1_000_000))
    connection.setblocking(True)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, value)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, value)


class Line:
    """Reads and writes the socket; one thread at a time."""

    def __init__(self, connection: socket.socket, stdout: int, stderr: int) -> None:
        self._connection = connection
        self._receive = connection.recv
        #: Kept apart: after the close the number is somebody else's.
        self.descriptor = connection.fileno()
        #: Non-blocking, readable: what was written past the bootstrap.
        self.outputs = ((stdout, Stream.STDOUT), (stderr, Stream.STDERR))
        self.write = connection.send
        self._open = True

    def timeout(self, seconds: float) -> None:
        """Let reads and writes wait at most this long; 0 is not at all."""
        set_timeouts(self._connection, seconds)

    def read(self, size: int) -> tuple[Stream, bytes]:
        """Return bytes of the channel; ``b""`` is the end.

        :raises BlockingIOError: when nothing comes in time.
        """
        try:
            return _CHANNEL, self._receive(size)
        except ConnectionResetError:
            return _CHANNEL, b""

    def shutdown(self) -> None:
        """Wake whoever reads; the descriptors stay.

        Only this direction: at the end of the other one the container would end itself, and its
        exit code would hide the kill.
        """
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RD)

    def close(self) -> None:
        """Close the descriptors; nobody may read or write any more. May be repeated."""
        if self._open:
            self._open = False
            self._connection.close()
            for descriptor, _ in self.outputs:
                os.close(descriptor)
