"""A datagram an event, to a socket of this host or over UDP."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Sequence

from example_syslog_sink.message import datagrams
from example_syslog_sink.settings import Address
from lowcode_faas_core.interfaces.log_sink import LogSink, Undelivered
from lowcode_faas_core.model import LogEvent

__all__ = ["SyslogSink"]

#: Seconds one datagram may wait for a receiver that takes none.
_PATIENCE_S = 2.0


class SyslogSink(LogSink):
    """Connects with the first event, and again when the receiver was restarted."""

    interface_version = 1

    def __init__(self, address: Address, facility: int, max_bytes: int) -> None:
        self._address = address
        self._facility = facility
        self._max_bytes = max_bytes
        self._socket: socket.socket | None = None

    def emit(self, batch: Sequence[LogEvent]) -> None:
        """Send event by event; the first that fails and those behind it are given up."""
        for done, event in enumerate(batch):
            try:
                for datagram in datagrams(event, self._facility, self._max_bytes):
                    self._send(datagram)
            except OSError as error:
                self.close()
                raise Undelivered(len(batch) - done, f"syslog: {error}") from error

    def flush(self, deadline_ns: int) -> int:
        """Answer 0: nothing is held back."""
        return 0

    def close(self) -> None:
        """Close the socket; a later event would open it again."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, datagram: bytes) -> None:
        if self._socket is not None:
            # What answers here is the fate of an earlier datagram, or of a receiver that is gone.
            with contextlib.suppress(ConnectionError):
                self._socket.send(datagram)
                return
            self.close()
        self._socket = self._connect()
        self._socket.send(datagram)

    def _connect(self) -> socket.socket:
        if isinstance(self._address, str):
            family: int = socket.AF_UNIX
            address: Address = self._address
        else:
            host, port = self._address
            found = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
            family, _, _, _, address = found[0]  # type: ignore[assignment]
        connected = socket.socket(family, socket.SOCK_DGRAM)
        try:
            connected.settimeout(_PATIENCE_S)
            connected.connect(address)
        except BaseException:
            connected.close()
            raise
        return connected
