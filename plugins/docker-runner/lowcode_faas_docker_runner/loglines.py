"""The log stream of a container, followed by a thread and handed to the invocation's own."""

from __future__ import annotations

import contextlib
import queue
import socket
import struct
import threading
from collections.abc import Iterator
from typing import Any, Final

from lowcode_faas_core.errors import RunnerUnavailable
from lowcode_faas_core.interfaces.launcher import Stream
from lowcode_faas_docker_runner.engine import Engine

__all__ = ["LogStream"]

_HEAD: Final = struct.Struct(">BxxxL")
#: Chunks that wait for the invocation's thread; the engine waits when there are more.
WAITING: Final = 64
#: Longest silence of a container that runs, in seconds: more than any deadline.
SILENCE_S: Final = 7 * 24 * 3600.0
_CHUNK: Final = 64 << 10
_STDERR: Final = 2

Piece = tuple[Stream, bytes]


class LogStream:
    """Follows one container from its start to its end; a broken stream loses lines, no run."""

    def __init__(self, engine: Engine, container: str) -> None:
        self._engine = engine
        self._container = container
        self._queue: queue.Queue[Piece | None] = queue.Queue(WAITING)
        self._response: Any = None
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="docker-log", daemon=True)
        self._thread.start()

    def take(self, timeout_s: float) -> Piece | None:
        """Return the next piece, ``None`` when the stream is over.

        :raises queue.Empty: when nothing comes in time.
        """
        return self._queue.get(timeout=max(0.0, timeout_s))

    def close(self) -> None:
        """Stop following: nothing undrained may hold up a kill. May be repeated."""
        self._closed = True
        response = self._response
        if response is not None:
            with contextlib.suppress(Exception):
                _shut(response)
        with contextlib.suppress(queue.Empty):
            while True:
                self._queue.get_nowait()

    def _run(self) -> None:
        try:
            for piece in self._pieces():
                while not self._closed:
                    with contextlib.suppress(queue.Full):
                        self._queue.put(piece, timeout=0.2)
                        break
                if self._closed:
                    break
        except RunnerUnavailable:
            pass
        finally:
            with contextlib.suppress(queue.Full):
                self._queue.put(None, timeout=1.0)

    def _pieces(self) -> Iterator[Piece]:
        with self._engine.following(self._container, SILENCE_S) as response:
            self._response = response
            pending = bytearray()
            for chunk in response.iter_content(_CHUNK):
                pending += chunk
                while len(pending) >= _HEAD.size:
                    number, size = _HEAD.unpack_from(pending)
                    if len(pending) < _HEAD.size + size:
                        break
                    data = bytes(pending[_HEAD.size : _HEAD.size + size])
                    del pending[: _HEAD.size + size]
                    yield (Stream.STDERR if number == _STDERR else Stream.STDOUT), data
                if self._closed:
                    return


def _shut(response: Any) -> None:
    connection = response.raw._fp.fp.raw._sock
    socket.socket.shutdown(connection, socket.SHUT_RDWR)
