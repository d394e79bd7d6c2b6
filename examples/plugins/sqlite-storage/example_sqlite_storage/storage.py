"""One table of documents, in a database in WAL mode: readers and the writer do not wait for each other."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

from lowcode_faas_core.documents import Documents, DocumentStorage
from lowcode_faas_core.errors import CommitUnknown, StorageFull, StorageUnavailable

__all__ = ["SqliteStorage"]

#: Seconds to wait for the one writer that there may be, in whatever process.
_PATIENCE_S = 30.0
_TABLE = "CREATE TABLE IF NOT EXISTS documents (key TEXT PRIMARY KEY, value BLOB NOT NULL)"


class SqliteDocuments(Documents):
    """The table, within a transaction of one connection."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def get(self, key: str) -> bytes | None:
        """Return one value."""
        found = self._connection.execute("SELECT value FROM documents WHERE key = ?", (key,))
        row = found.fetchone()
        return None if row is None else row[0]

    def put(self, key: str, value: bytes) -> None:
        """Insert or replace one row."""
        self._connection.execute("REPLACE INTO documents VALUES (?, ?)", (key, value))

    def delete(self, key: str) -> None:
        """Delete one row."""
        self._connection.execute("DELETE FROM documents WHERE key = ?", (key,))

    def keys(self, prefix: str) -> Iterable[str]:
        """Return a range of the index: keys are ASCII, and DEL is after all they are made of."""
        bounds = (prefix, f"{prefix}\x7f")
        return [
            key
            for (key,) in self._connection.execute(
                "SELECT key FROM documents WHERE key >= ? AND key < ?", bounds
            )
        ]


class SqliteStorage(DocumentStorage):
    """A connection for each thread that is in a transaction; idle ones wait for the next."""

    interface_version = 1

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._idle: list[sqlite3.Connection] = []
        #: Connections of the process that forked this one. Closing one would take that one's locks
        #: away, and so would collecting it.
        self._inherited: list[sqlite3.Connection] = []

    @contextlib.contextmanager
    def transaction(self, *, write: bool) -> Iterator[Documents]:
        """Lend a connection to one transaction."""
        try:
            connection = self._take()
            try:
                # A reader sees the moment of its first look until it ends.
                connection.execute("BEGIN IMMEDIATE" if write else "BEGIN DEFERRED")
                yield SqliteDocuments(connection)
                self._commit(connection)
            except BaseException:
                connection.close()  # which rolls back; whatever is wrong with it, it is gone
                raise
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
                raise StorageFull(f"{self._file} cannot grow: {error}") from error
            raise StorageUnavailable(f"{self._file} cannot be used: {error}") from error
        except OSError as error:
            raise StorageUnavailable(f"{self._file} cannot be opened: {error}") from error
        with self._lock:
            self._idle.append(connection)

    def check(self) -> None:
        """Begin what only a writable database lets begin."""
        with self.transaction(write=True):
            pass

    def close(self) -> None:
        """Close what is idle; a transaction under way keeps its connection, to be closed later."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _take(self) -> sqlite3.Connection:
        with self._lock:
            if self._pid != os.getpid():
                self._inherited += self._idle
                self._idle = []
                self._pid = os.getpid()
            if self._idle:
                return self._idle.pop()
        return self._open()

    def _open(self) -> sqlite3.Connection:
        # SQLite would make it readable for everybody, and env holds secrets.
        os.close(os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        connection = sqlite3.connect(
            self._file, timeout=_PATIENCE_S, isolation_level=None, check_same_thread=False
        )
        connection.execute("PRAGMA journal_mode = WAL")
        # Or a power loss takes back what was answered: WAL alone syncs at checkpoints only.
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(_TABLE)
        return connection

    def _commit(self, connection: sqlite3.Connection) -> None:
        try:
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
                raise
            raise CommitUnknown(f"{self._file} failed in a commit: {error}") from error
