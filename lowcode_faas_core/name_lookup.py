"""The addresses of a host, looked up for no longer than somebody has time for."""

from __future__ import annotations

import socket
import threading
from concurrent.futures import Future
from typing import Any

__all__ = ["AddressInfo", "Addresses", "NoAddress"]

AddressInfo = tuple[socket.AddressFamily, socket.SocketKind, int, str, Any]


class NoAddress(Exception):
    """Raised when none is known, or none was told in time."""


class Addresses:
    """Those of one host and port, as the resolver says each time; used by many threads.

    A resolver that does not answer cannot be given up: its thread lives until it does, and whoever
    comes meanwhile waits for the same one.
    """

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._lock = threading.Lock()
        self._asked: Future[list[AddressInfo]] | None = None

    def find(self, seconds: float) -> list[AddressInfo]:
        """Return them, one at least.

        :raises NoAddress: there is none, or it takes longer than so many seconds.
        """
        try:
            return self._look(socket.AI_NUMERICHOST)
        except (OSError, UnicodeError):
            pass  # a name, as a rule
        with self._lock:
            asked = self._asked
            if asked is None:
                asked = self._asked = Future()
                thread = threading.Thread(
                    target=self._ask, args=(asked,), name="name-lookup", daemon=True
                )
                try:
                    thread.start()
                except RuntimeError as error:
                    self._asked = None
                    raise NoAddress(f"{self._host} cannot be looked up: {error}") from error
        try:
            return asked.result(max(0.0, seconds))
        except TimeoutError:
            raise NoAddress(f"{self._host} was not looked up in time") from None
        except (OSError, UnicodeError) as error:
            raise NoAddress(f"{self._host}: {error}") from error

    def _ask(self, asked: Future[list[AddressInfo]]) -> None:
        try:
            found = self._look(0)
        except Exception as error:  # it is whose who wait
            outcome: Exception | None = error
        else:
            outcome = None
        with self._lock:
            self._asked = None
        if outcome is None:
            asked.set_result(found)
        else:
            asked.set_exception(outcome)

    def _look(self, flags: int) -> list[AddressInfo]:
        kind = socket.SOCK_STREAM
        return [*socket.getaddrinfo(self._host, self._port, type=kind, flags=flags)]
