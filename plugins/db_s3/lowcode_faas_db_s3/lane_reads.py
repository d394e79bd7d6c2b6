"""Reads on a lane: over connections of their own that never block, so that the main loop goes on."""

from __future__ import annotations

import contextlib
import hashlib
import select
import time
from collections import deque
from collections.abc import Mapping
from typing import Any, Final

import psycopg2
import psycopg2.extensions

from lowcode_faas_core.errors import StorageUnavailable
from lowcode_faas_core.lanes import Lanes, Wait, elsewhere, lane
from lowcode_faas_db_s3.pool import WAIT_S

__all__ = ["LaneReads", "NotNow"]

_OK: Final = psycopg2.extensions.POLL_OK
_READ: Final = psycopg2.extensions.POLL_READ
_STATEMENT: Final = "lowcode_faas"
#: SQLSTATEs by which a pooler shows: a prepared statement is not there, or was made by another.
_BETWEEN: Final = ("26000", "42P05")
#: Time in which a connection is made, in seconds, as for those of the pool.
CONNECT_S: Final = 3.0
#: Longest idle time of a connection, in seconds: what is between may have forgotten it by then.
IDLE_S: Final = 30.0


class NotNow(Exception):
    """Raised when this way cannot answer; whoever asked takes the ordinary one."""


class _Line:
    """A connection that never blocks; for one read at a time."""

    def __init__(self, connection: Any, lanes: Lanes) -> None:
        self.connection = connection
        self.arrivals: Wait = lanes.arrivals(connection.fileno())
        self.since = time.monotonic()
        self.prepared = ""
        self._news = select.poll()
        self._news.register(connection.fileno(), select.POLLIN)

    def has_news(self) -> bool:
        """Tell whether something came while it was idle: its end, whose news is over by now."""
        return bool(self._news.poll(0))

    def read(self, query: str, parameters: tuple[Any, ...], until: float) -> list[Any]:
        """Run it as it is."""
        return self._run(query, parameters, until).fetchall()  # type: ignore[no-any-return]

    def read_prepared(self, query: str, parameters: tuple[Any, ...], until: float) -> list[Any]:
        """Run it as the server has planned it before, the same query each time."""
        if not self.prepared:
            places = len(parameters)
            numbered = query % tuple(f"${number + 1}" for number in range(places))
            # Named by what it asks: a pooler may hand on the connection of another release.
            name = f"{_STATEMENT}_{hashlib.sha256(query.encode()).hexdigest()[:16]}"
            self._run(f"PREPARE {name} AS {numbered}", (), until)
            if self.has_news():
                raise NotNow
            self.prepared = f"EXECUTE {name} ({', '.join(['%s'] * places)})"
        return self._run(self.prepared, parameters, until).fetchall()  # type: ignore[no-any-return]

    def _run(self, query: str, parameters: tuple[Any, ...], until: float) -> Any:
        cursor = self.connection.cursor()
        cursor.execute(query, parameters or None)
        lanes = self.arrivals.lanes
        waited = False
        while (state := self.connection.poll()) != _OK:
            left = until - time.monotonic()
            # What is asked fits the socket's buffer: it never waits to be written.
            if state != _READ:
                raise NotNow
            # It reads once: what came together with that, as the end after the last words of a
            # server that was told to end, is no news any more.
            if waited and left > 0 and self.has_news():
                lanes.turn()
                continue
            waited = True
            if left <= 0 or not lanes.wait(self.arrivals, left):
                raise StorageUnavailable("PostgreSQL: it does not answer")
        return cursor


class LaneReads:
    """At most ``size`` such connections; used on one main loop."""

    def __init__(self, parameters: Mapping[str, Any], size: int, silence_s: float) -> None:
        self._parameters = parameters
        self._silence_s = silence_s
        self._free = size
        self._idle: deque[_Line] = deque()
        #: Who waits for a place, and who was given one meanwhile.
        self._waiting: deque[Wait] = deque()
        self._granted: set[Wait] = set()
        #: Whether connections keep what was prepared; not those of a pooler that hands them on.
        self._prepares = True
        self._closed = False

    def read(self, query: str, parameters: tuple[Any, ...]) -> list[Any]:
        """Run one statement that changes nothing, in one round trip, and return its rows.

        :raises NotNow: all connections are busy, or this one did not answer well.
        :raises StorageUnavailable: it did not answer in time.
        """
        current = lane()
        if current is None or self._closed or not self._enter(current.lanes):
            raise NotNow
        line: _Line | None = None
        try:
            line = self._take() or self._connect(current.lanes)
            until = time.monotonic() + self._silence_s
            ask = line.read_prepared if self._prepares else line.read
            rows = ask(query, parameters, until)
        except (psycopg2.Error, OSError) as error:
            self._drop(line)
            if isinstance(error, psycopg2.Error) and error.pgcode in _BETWEEN:
                self._prepares = False
            raise NotNow from error
        except BaseException:
            self._drop(line)
            raise
        finally:
            self._leave()
        line.since = time.monotonic()
        self._idle.append(line)
        if self._is_closed():
            self.close()
        return rows

    def close(self) -> None:
        """Close what is idle; what is in use is closed by its user. May be called twice."""
        self._closed = True
        while self._idle:
            self._drop(self._idle.pop())

    def _is_closed(self) -> bool:
        # It may have been closed while the lane waited.
        return self._closed

    def _enter(self, lanes: Lanes) -> bool:
        """Take a place, waiting for one as long as the pool has its callers wait."""
        if self._free > 0:
            self._free -= 1
            return True
        by = Wait(lanes)
        self._waiting.append(by)
        lanes.wait(by, WAIT_S)
        if by in self._granted:
            self._granted.discard(by)
            return True
        self._waiting.remove(by)
        return False

    def _leave(self) -> None:
        """Hand the place on to who has waited longest."""
        if self._waiting:
            by = self._waiting.popleft()
            self._granted.add(by)
            by.lanes.soon(by.end)
        else:
            self._free += 1

    def _take(self) -> _Line | None:
        while self._idle:
            line = self._idle.pop()
            if time.monotonic() - line.since <= IDLE_S and not line.has_news():
                return line
            self._drop(line)
        return None

    def _connect(self, lanes: Lanes) -> _Line:
        def connect() -> Any:
            connection = psycopg2.connect(**self._parameters, async_=1)
            try:
                _await_connected(connection, time.monotonic() + CONNECT_S)
            except BaseException:
                connection.close()
                raise
            return connection

        return _Line(elsewhere(connect), lanes)

    def _drop(self, line: _Line | None) -> None:
        if line is not None:
            with contextlib.suppress(psycopg2.Error):
                line.connection.close()


def _await_connected(connection: Any, until: float) -> None:
    """Wait until a connection is made; libpq's own timeout is not for those that do not block."""
    while (state := connection.poll()) != _OK:
        # By poll, since select knows no descriptor above 1023; made anew, since several hosts are
        # tried in turn.
        news = select.poll()
        news.register(connection.fileno(), select.POLLIN if state == _READ else select.POLLOUT)
        left = until - time.monotonic()
        if left <= 0 or not news.poll(left * 1000):
            raise StorageUnavailable("PostgreSQL: it does not answer")
