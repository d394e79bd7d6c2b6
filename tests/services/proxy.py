"""A TCP proxy that hurts: it refuses, swallows, delays, trickles, or cuts at a word of the client's."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable

__all__ = ["Proxy"]


class Proxy:
    """Forwards connections to ``target`` until it is told otherwise; close it after use."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        #: Close new connections at once.
        self.refusing = False
        #: Take what comes and pass nothing on, in either direction.
        self.swallowing = False
        #: Seconds before each piece is passed on, in either direction.
        self.delay_s = 0.0
        #: Pass on what the server sends byte by byte, with this pause between, in seconds.
        self.trickle_s = 0.0
        #: Looks at what a client sends: ``before``: cut instead of passing it on; ``after``: pass
        #: it on and cut before anything comes back; ``silent``: pass it on, and nothing comes back;
        #: ``None``: go on.
        self.watch: Callable[[bytes], str | None] = lambda _data: None
        #: Faults that took place.
        self.bitten = 0
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def cut_all(self) -> None:
        """Reset every connection there is."""
        with self._lock:
            found = list(self._open)
        for each in found:
            _end(each)

    def close(self) -> None:
        """Listen no more, and end every connection."""
        # A close alone leaves the thread in its accept, and that takes one more connection.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut_all()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.refusing:
                self.bitten += 1
                client.close()
                continue
            try:
                server = socket.create_connection(self._target, 5)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            with self._lock:
                self._open |= {client, server}
            cut = threading.Event()
            for arguments in ((client, server, True, cut), (server, client, False, cut)):
                threading.Thread(target=self._pump, args=arguments, daemon=True).start()

    def _pump(
        self, source: socket.socket, sink: socket.socket, outward: bool, cut: threading.Event
    ) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if self.swallowing or cut.is_set():
                    self.bitten += 1
                    continue
                fate = self.watch(data) if outward else None
                if fate is not None:
                    self.bitten += 1
                if fate == "before":
                    break
                if fate in ("after", "silent"):
                    cut.set()
                if fate == "after":
                    sink.sendall(data)
                    # The server has time to do it; its answer goes nowhere.
                    threading.Event().wait(0.3)
                    break
                if self.delay_s:
                    time.sleep(self.delay_s)
                if self.trickle_s and not outward:
                    for byte in data:
                        time.sleep(self.trickle_s)
                        sink.sendall(bytes((byte,)))
                    continue
                sink.sendall(data)
        for each in (source, sink):
            _end(each)
        with self._lock:
            self._open -= {source, sink}


def _end(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
