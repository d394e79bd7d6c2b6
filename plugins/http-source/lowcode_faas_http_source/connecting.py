"""Connections that lead where they may, and end when they must.

``requests-hardened`` resolves a name once, refuses what is not public, and connects to the address
it looked at. What is added: a stricter notion of public, and that another thread can end whatever
a connection is doing, because time limits of sockets are per receive.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import threading
from pathlib import Path
from typing import Any

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests_hardened import Config, HTTPSession
from requests_hardened.ip_filter import InvalidIPAddress
from requests_hardened.ip_filter_adapter import IPFilterAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection

__all__ = ["Abort", "is_public", "open_session"]

#: Where every public IPv6 address lies.
_GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")


class Abort:
    """Ends what one fetch is doing, from another thread; what it opens later ends at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self.aborted = False

    def watch(self, connected: socket.socket) -> None:
        """Remember a connection, by a descriptor of our own: TLS takes the other one over."""
        duplicate = connected.dup()
        with self._lock:
            self._sockets.append(duplicate)
            if self.aborted:
                _shut(duplicate)

    def now(self) -> None:
        """Let every receive and send end at once."""
        with self._lock:
            self.aborted = True
            for each in self._sockets:
                _shut(each)

    def release(self) -> None:
        """Close our descriptors; the fetch is over."""
        with self._lock:
            for each in self._sockets:
                each.close()
            self._sockets.clear()


def open_session(abort: Abort, *, trusted: bool, authorities: Path | None) -> requests.Session:
    """Return a session for one request, that follows nothing and takes nothing from the environment.

    ``trusted``: the host is the operator's own and may have any address.
    """
    session = _Session(
        Config(
            ip_filter_enable=not trusted,
            ip_filter_allow_loopback_ips=False,
            never_redirect=True,
            default_timeout=(1.0, 1.0),  # in seconds; every request gives its own
        )
    )
    session.trust_env = False
    session.verify = True if authorities is None else str(authorities)
    for scheme in ("https", "http"):
        adapter = _Trusted(abort) if trusted else _Filtered(abort, is_https_proto=scheme == "https")
        session.mount(f"{scheme}://", adapter)
    return session


def is_public(address: str) -> bool:
    """Tell whether an address is one of the public internet, and of nothing else."""
    found = ipaddress.ip_address(address)
    if found.is_multicast or not found.is_global:
        return False
    return found.version == 4 or found in _GLOBAL_UNICAST


class _Session(HTTPSession):  # type: ignore[misc]  # it ships no types
    def get_redirect_target(self, resp: requests.Response) -> str | None:
        # Else requests reads the whole body of a redirect to find out what it would ask next.
        return None


class _Trusted(HTTPAdapter):
    def __init__(self, abort: Abort) -> None:
        self._abort = abort
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _pools(self._abort)


class _Filtered(IPFilterAdapter):  # type: ignore[misc]  # as above
    def __init__(self, abort: Abort, *, is_https_proto: bool) -> None:
        self._abort = abort
        super().__init__(is_https_proto=is_https_proto)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _pools(self._abort)

    def build_connection_pool_key_attributes(self, *args: Any, **kwargs: Any) -> Any:
        where, options = super().build_connection_pool_key_attributes(*args, **kwargs)
        # By now the host is the one address that will be connected to.
        if not is_public(where["host"].strip("[]")):
            raise InvalidIPAddress(where["host"])
        return where, options


def _pools(abort: Abort) -> dict[str, Any]:
    """Return classes of connections that ``abort`` knows from the moment they are there."""

    class Plain(HTTPConnection):
        def _new_conn(self) -> socket.socket:
            connected = super()._new_conn()
            abort.watch(connected)
            return connected

    class Secure(HTTPSConnection):
        def _new_conn(self) -> socket.socket:
            connected = super()._new_conn()
            abort.watch(connected)
            return connected

    class PlainPool(urllib3.HTTPConnectionPool):
        ConnectionCls: Any = Plain

    class SecurePool(urllib3.HTTPSConnectionPool):
        ConnectionCls: Any = Secure

    return {"http": PlainPool, "https": SecurePool}


def _shut(connected: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connected.shutdown(socket.SHUT_RDWR)
