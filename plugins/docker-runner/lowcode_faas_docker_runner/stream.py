"""The attach stream of one container: Docker's framing undone, with the kernel's own timeouts."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import struct
from collections.abc import Callable
from typing import Final

from lowcode_faas_core.interfaces.launcher import Stream
from lowcode_faas_docker_runner.line import set_timeouts

__all__ = ["AttachStream"]

_HEAD: Final = struct.Struct(">BxxxL")
_HEAD_BYTES: Final = 8
_STDERR: Final = 2
#: Seen without reading: the other side has closed, whatever is still unread before that.
_OVER: Final = select.POLLRDHUP | select.POLLHUP | select.POLLERR | select.POLLNVAL


class AttachStream:
    """Reads and writes the hijacked connection; one thread at a time.

    Each read takes a head, then bytes of that piece only: nothing is ever held back in this
    process, so that a poll of the descriptor tells the truth.
    """

    def __init__(self, connection: socket.socket, close: Callable[[], None]) -> None:
        self._connection = connection
        self._close = close
        self._encrypted = isinstance(connection, ssl.SSLSocket)
        self._head = b""
        self._left = 0
        self._stream = Stream.CHANNEL
        #: Kept apart: after the close the number is somebody else's.
        self.descriptor = connection.fileno()
        self._is_over = select.poll()
        self._is_over.register(self.descriptor, _OVER)
        self._readable = select.poll()
        self._readable.register(self.descriptor, select.POLLIN)

    def timeout(self, seconds: float) -> None:
        """Let reads and writes wait at most this long; 0 is not at all."""
        if self._encrypted:
            self._connection.settimeout(max(0.0, seconds))
        else:
            set_timeouts(self._connection, seconds)

    def read(self, size: int) -> tuple[Stream, bytes]:
        """Return bytes of one stream: stdout is the channel; ``b""`` is the end.

        :raises BlockingIOError: when nothing comes in time.
        """
        while not self._left:
            head = self._head
            if len(head) < _HEAD_BYTES:
                data = self._receive(_HEAD_BYTES - len(head))
                if not data:
                    return Stream.CHANNEL, b""
                self._head = head + data
                continue
            self._head = b""
            number, self._left = _HEAD.unpack(head)
            self._stream = Stream.STDERR if number == _STDERR else Stream.CHANNEL
        data = self._receive(min(size, self._left))
        if not data:
            return Stream.CHANNEL, b""
        self._left -= len(data)
        return self._stream, data

    def write(self, data: bytes | memoryview) -> int:
        """Write what fits.

        :raises BlockingIOError: when nothing fits in time.
        :raises ConnectionError: when the other side is gone. An engine takes what is written after
            the end of its container, so that the write itself would not tell.
        """
        if self._is_over.poll(0):
            raise BrokenPipeError("the container has ended")
        if not self._encrypted:
            return self._connection.send(data)
        self._look_for_farewell()
        try:
            return self._connection.send(data)
        except (TimeoutError, ssl.SSLWantWriteError, ssl.SSLWantReadError) as error:
            raise BlockingIOError from error
        except ssl.SSLError as error:
            raise ConnectionResetError(str(error)) from error

    @property
    def tells_its_end(self) -> bool:
        """Whether :meth:`over` sees the end: TLS says farewell in a message, and closes later."""
        return not self._encrypted

    def over(self, timeout_s: float) -> bool:
        """Wait for the other side's close without reading; True when that has happened."""
        # One of its own: several threads may wait, and one poll object serves one at a time.
        poll = select.poll()
        poll.register(self.descriptor, _OVER)
        return bool(poll.poll(max(0.0, timeout_s) * 1000))

    def shutdown(self) -> None:
        """End the conversation and wake whoever reads; the descriptor stays."""
        # Below the encryption, whose own farewell could block.
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self._connection, socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the descriptor; nobody may read or write any more."""
        self._close()

    def _look_for_farewell(self) -> None:
        """Take what is there between two pieces: the end, or the head of the next one."""
        if self._left or not self._readable.poll(0):
            return
        with contextlib.suppress(BlockingIOError):
            data = self._receive(_HEAD_BYTES - len(self._head))
            if not data:
                raise BrokenPipeError("the container has ended")
            self._head += data

    def _receive(self, size: int) -> bytes:
        try:
            return self._connection.recv(size)
        except ConnectionError:
            return b""
        except (TimeoutError, ssl.SSLWantReadError, ssl.SSLWantWriteError) as error:
            raise BlockingIOError from error
        except ssl.SSLError:
            return b""
