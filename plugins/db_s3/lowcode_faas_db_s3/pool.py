"""A bounded pool of connections that waits, throws away what is broken, and never hangs.

The server's own timeouts bound a statement; a server that is paused, or behind a network that
swallows packets, answers nothing at all. One thread therefore shuts the socket of a connection
that has been silent for longer than any statement may take, and its user gets an error.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import psycopg2
import psycopg2.extensions

from lowcode_faas_core.errors import FaasError, StorageUnavailable

__all__ = ["DEFAULTS", "SILENCE_S", "Pool", "is_broken", "unavailable"]

_log = logging.getLogger(__name__)

#: Seconds that a caller waits for a connection; then it is told to come back.
WAIT_S: Final = 2.0
#: Seconds after which a connection that answers nothing is given up; above ``statement_timeout``.
SILENCE_S: Final = 7.0
#: The same for work of ``prepare`` that takes long: a migration may rewrite a table.
PREPARE_S: Final = 900.0
#: Seconds between two looks for silent connections.
_LOOK_S: Final = 0.5
#: What libpq is told unless the DSN says otherwise. ``read-write``: of several hosts the one that
#: takes writes, so that a failover is followed. Time-outs in milliseconds.
DEFAULTS: Final = {
    "connect_timeout": "3",
    "target_session_attrs": "read-write",
    "application_name": "lowcode-faas",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "7000",
    "options": "-c statement_timeout=5000 -c lock_timeout=2000"
    " -c idle_in_transaction_session_timeout=10000",
}
#: SQLSTATEs after which another connection may do better: the server goes down, was ended, or has
#: become a standby that takes no writes. Their absence means that no server answered at all.
_ELSEWHERE: Final = ("57P", "08", "25006")


def is_broken(error: psycopg2.Error) -> bool:
    """Tell whether it is the connection that failed, and not what was asked over it."""
    if error.pgcode is not None:
        return str(error.pgcode).startswith(_ELSEWHERE)
    return isinstance(error, (psycopg2.OperationalError, psycopg2.InterfaceError))


def unavailable(error: psycopg2.Error) -> StorageUnavailable:
    """Return a database error as the storage's, in one line.

    What libpq says of a connection names hosts, databases and users: that is for the log.
    """
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    if error.pgcode is None:
        _log.warning("PostgreSQL: %s", text)
        return StorageUnavailable("PostgreSQL: the connection failed; the service's log says why")
    return StorageUnavailable(f"PostgreSQL: {text}")


class Pool:
    """At most ``size`` connections of one process, in autocommit; used by many threads at once.

    ``prepare`` is called with the first connection before anybody gets one, again until it returns;
    its second argument is what it calls before work that takes long.
    """

    def __init__(
        self,
        dsn: str,
        size: int,
        prepare: Callable[[Any, Callable[[], None]], object],
        *,
        silence_s: float = SILENCE_S,
        wait_s: float = WAIT_S,
        defaults: Mapping[str, str] = DEFAULTS,
    ) -> None:
        self._silence_s = silence_s
        self._wait_s = wait_s
        given = psycopg2.extensions.parse_dsn(dsn)
        #: What a connection is made with.
        self.parameters: dict[str, Any] = {**defaults, **given}
        self._prepare = prepare
        self._prepared = False
        self._preparing = threading.Lock()
        self._places = threading.BoundedSemaphore(size)
        self._idle: deque[Any] = deque()
        #: Connections in use, by identity, and until when: ``time.monotonic``.
        self._used: dict[int, tuple[Any, float]] = {}
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._closed = threading.Event()
        self._watcher: threading.Thread | None = None

    @contextlib.contextmanager
    def connection(self, *, silence_s: float | None = None) -> Iterator[Any]:
        """Lend a connection; it is kept only when the block ends with it unharmed and idle.

        :raises StorageUnavailable: when none can be had in time.
        """
        self._check_alive()
        if not self._places.acquire(timeout=self._wait_s):
            raise StorageUnavailable(
                f"all connections to PostgreSQL were busy for {self._wait_s:.0f} s"
            )
        try:
            connection = self._take()
            self._watch_over(connection, self._silence_s if silence_s is None else silence_s)
            unharmed = False
            try:
                yield connection
                unharmed = True
            except FaasError:
                unharmed = True  # an answer, not a fault of the connection
                raise
            finally:
                with self._lock:
                    del self._used[id(connection)]
                self._put(connection, unharmed=unharmed)
        finally:
            self._places.release()

    def read(self, query: str, parameters: tuple[Any, ...] = ()) -> list[Any]:
        """Run one statement that changes nothing, in one round trip, and return its rows.

        Connections may have died while they were idle: a broken one is replaced once.
        """
        try:
            return self._read(query, parameters)
        except psycopg2.Error as error:
            if not is_broken(error):
                raise unavailable(error) from error
            self.forget_idle()
        try:
            return self._read(query, parameters)
        except psycopg2.Error as error:
            raise unavailable(error) from error

    def close(self) -> None:
        """Close what is idle; what is in use is closed by its user. May be called twice."""
        self._closed.set()
        if os.getpid() == self._pid:
            self.forget_idle()
            if self._watcher is not None:
                self._watcher.join(timeout=2)

    def _read(self, query: str, parameters: tuple[Any, ...]) -> list[Any]:
        with self.connection() as connection, connection.cursor() as cursor:
            cursor.execute(query, parameters)
            rows: list[Any] = cursor.fetchall()
            return rows

    def _check_alive(self) -> None:
        if os.getpid() != self._pid:
            # Its connections are the parent's: a word from here would mix up the parent's answers.
            raise StorageUnavailable("this storage was opened before a fork; open one in the child")
        if self._closed.is_set():
            raise StorageUnavailable("the storage is closed")

    def _take(self) -> Any:
        with contextlib.suppress(IndexError):
            return self._idle.pop()
        connection = self._connect()
        try:
            self._prepare_once(connection)
        except psycopg2.Error as error:
            connection.close()
            raise unavailable(error) from error
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare_once(self, connection: Any) -> None:
        if self._prepared:
            return
        if not self._preparing.acquire(timeout=self._wait_s):
            raise StorageUnavailable(
                "PostgreSQL: the schema is being looked at, or brought up to date"
            )
        try:
            if not self._prepared:
                self._watch_over(connection, self._silence_s)
                self._prepare(connection, lambda: self._watch_over(connection, PREPARE_S))
                self._prepared = True
        finally:
            self._preparing.release()
            with self._lock:
                self._used.pop(id(connection), None)

    def _watch_over(self, connection: Any, silence_s: float) -> None:
        with self._lock:
            self._used[id(connection)] = (connection, time.monotonic() + silence_s)

    def _connect(self) -> Any:
        self._watch()
        try:
            connection = psycopg2.connect(**self.parameters)
        except psycopg2.Error as error:
            raise unavailable(error) from error
        connection.autocommit = True
        return connection

    def _put(self, connection: Any, *, unharmed: bool) -> None:
        status = psycopg2.extensions.TRANSACTION_STATUS_IDLE
        if (
            unharmed
            and not connection.closed
            and connection.info.transaction_status == status
            and not self._closed.is_set()
        ):
            self._idle.append(connection)
        else:
            with contextlib.suppress(psycopg2.Error):
                connection.close()

    def forget_idle(self) -> None:
        """Close what nobody uses: when one connection broke, most likely the others did too."""
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return
            with contextlib.suppress(psycopg2.Error):
                connection.close()

    def _watch(self) -> None:
        with self._lock:
            if self._watcher is None:
                watcher = threading.Thread(
                    target=self._end_the_silent, name="faas-postgres-watch", daemon=True
                )
                try:
                    watcher.start()
                except RuntimeError as error:
                    raise StorageUnavailable("no thread can be had to watch PostgreSQL") from error
                self._watcher = watcher

    def _end_the_silent(self) -> None:
        while not self._closed.wait(_LOOK_S):
            now = time.monotonic()
            with self._lock:
                for connection, until in self._used.values():
                    if now > until:
                        _shut(connection)


def _shut(connection: Any) -> None:
    """Shut the socket under a connection that another thread waits on; its user gets an error."""
    with contextlib.suppress(OSError, psycopg2.Error):
        duplicate = socket.socket(fileno=os.dup(connection.fileno()))
        try:
            duplicate.shutdown(socket.SHUT_RDWR)
        finally:
            duplicate.close()
