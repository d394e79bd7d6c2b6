"""Keep-alive connections to the worker; none that has been idle too long carries a request.

The worker closes an idle connection after 75 s. A request that meets that close on its way counts
as sent, and its caller is told that it may have run: so this side gives the connection up first.
"""

from __future__ import annotations

import math
import time
from typing import Any, Final

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

__all__ = ["IDLE_S", "connections"]

#: Idle time after which a connection is not used again, in seconds.
IDLE_S: Final = 30.0


class _Plain(HTTPConnection):
    idle_since = math.inf


class _Secure(HTTPSConnection):
    idle_since = math.inf


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls: Any = _Plain

    def _get_conn(self, timeout: float | None = None) -> Any:
        connection: Any = super()._get_conn(timeout)
        if time.monotonic() - connection.idle_since > IDLE_S:
            connection.close()  # it connects anew with its next request
        return connection

    def _put_conn(self, conn: Any) -> None:
        if conn is not None:
            conn.idle_since = time.monotonic()
        super()._put_conn(conn)


class _SecurePool(_Pool, urllib3.HTTPSConnectionPool):
    ConnectionCls = _Secure


def connections(most: int) -> urllib3.PoolManager:
    """Return a pool that keeps ``most`` connections open and never sends anything twice."""
    pool = urllib3.PoolManager(num_pools=4, maxsize=most, block=False, retries=False)
    pool.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}
    return pool
