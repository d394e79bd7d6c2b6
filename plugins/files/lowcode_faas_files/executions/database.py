"""The database: its schema, its connections, and what opens it the first time it is needed."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Final

from lowcode_faas_core.errors import StorageUnavailable

__all__ = ["Database"]

#: Raised with every change of the schema.
SCHEMA_VERSION: Final = 1
#: The first with JSON built in, and its operators.
OLDEST_SQLITE: Final = (3, 38)
#: Longest wait for another writer, in seconds: an invocation may be waiting, too.
BUSY_S: Final = 1.0
#: Connections at once beside that of the upkeep. SQLite lets one write at a time anyway, and keeps
#: the descriptors of as many as were ever open at once.
MOST_CONNECTIONS: Final = 2
#: Pages of the log after which the recorder's commits copy it back, and the size it is cut to.
CHECKPOINT_PAGES: Final = 1000
LOG_BYTES: Final = 4 << 20

# An index for each way to look records up that is rare enough to be worth one: a list of what
# succeeded, or began warm, finds its rows by time at once. Rows of ``lines`` are numbered by their
# execution and their number in it, which costs no second tree and keeps long lines in their page.
SCHEMA: Final = """
CREATE TABLE sources (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    collection_path TEXT NOT NULL,
    function_name TEXT NOT NULL,
    deployment_id TEXT NOT NULL,
    UNIQUE (collection_path, function_name, deployment_id)
);
CREATE INDEX sources_by_name ON sources (function_name);
CREATE INDEX sources_by_deployment ON sources (deployment_id);
CREATE TABLE executions (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    execution_id TEXT NOT NULL UNIQUE,
    source_id INTEGER NOT NULL,
    run_id TEXT,
    started_us INTEGER NOT NULL,
    status TEXT NOT NULL,
    start TEXT,
    owner TEXT,
    run_ms REAL,
    total_ms REAL,
    cpu_ms REAL,
    max_rss_bytes INTEGER,
    has_error INTEGER NOT NULL,
    document TEXT NOT NULL
);
CREATE INDEX executions_by_time ON executions (started_us);
CREATE INDEX executions_by_source ON executions (source_id, started_us);
CREATE INDEX executions_by_status ON executions (status, started_us) WHERE status <> 'succeeded';
CREATE INDEX executions_by_start ON executions (start, started_us) WHERE start <> 'warm';
CREATE INDEX executions_by_run ON executions (run_id, started_us) WHERE run_id IS NOT NULL;
CREATE TABLE exchanges (id INTEGER PRIMARY KEY, document TEXT NOT NULL);
CREATE TABLE lines (key INTEGER PRIMARY KEY, document TEXT NOT NULL);
CREATE TABLE interests (execution_id TEXT PRIMARY KEY, until REAL NOT NULL) WITHOUT ROWID;
"""


class Database:
    """Connections to one file, for many threads; opened by the process that first uses one.

    Whoever writes for an invocation never copies the log back into the file, which waits for the
    disk: that is for ``upkeep`` connections, which the recorder's thread has.
    """

    def __init__(self, path: Path) -> None:
        self.path: Final = path
        self._lock = threading.Lock()
        self._idle: dict[bool, deque[sqlite3.Connection]] = {True: deque(), False: deque()}
        self._places = threading.BoundedSemaphore(MOST_CONNECTIONS)
        self._pid = 0
        self._closed = False

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Lend a connection; what a statement reads is of one moment.

        :raises StorageUnavailable: the database cannot be used.
        """
        with self._lent(upkeep=False) as connection:
            yield connection

    @contextmanager
    def writing(self, *, upkeep: bool = False) -> Iterator[sqlite3.Connection]:
        """Lend a connection in a transaction, which is kept unless this raises.

        :raises StorageUnavailable: the database cannot be used, or was busy for too long.
        """
        with self._lent(upkeep=upkeep) as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    @contextmanager
    def upkeep(self) -> Iterator[sqlite3.Connection]:
        """Lend a connection for statements that are transactions of their own."""
        with self._lent(upkeep=True) as connection:
            yield connection

    def size(self) -> int:
        """Return the bytes of the file and of its log."""
        return sum(_size(Path(f"{self.path}{suffix}")) for suffix in ("", "-wal"))

    def log_size(self) -> int:
        """Return the bytes of the log alone."""
        return _size(Path(f"{self.path}-wal"))

    def close(self) -> None:
        """Close what is idle; what is lent is closed when it comes back."""
        with self._lock:
            self._closed = True
        self._close_idle()

    @contextmanager
    def _lent(self, *, upkeep: bool) -> Iterator[sqlite3.Connection]:
        if upkeep:
            with self._connected(upkeep=True) as connection:
                yield connection
            return
        if not self._places.acquire(timeout=BUSY_S):
            raise StorageUnavailable("the database of executions was busy for too long")
        try:
            with self._connected(upkeep=False) as connection:
                yield connection
        finally:
            self._places.release()

    @contextmanager
    def _connected(self, *, upkeep: bool) -> Iterator[sqlite3.Connection]:
        connection = self._take(upkeep)
        try:
            yield connection
        except sqlite3.Error as error:
            raise StorageUnavailable(f"the database of executions: {error}") from error
        finally:
            self._idle[upkeep].append(connection)
            if self._closed:
                self._close_idle()

    def _take(self, upkeep: bool) -> sqlite3.Connection:
        if self._closed:
            raise StorageUnavailable("the store of executions is closed")
        if self._pid != os.getpid():
            with self._lock:
                if self._pid != os.getpid():
                    # Connections that came over a fork are the parent's; closing them here would
                    # drop the parent's locks.
                    self._idle = {True: deque(), False: deque()}
                    self._pid = os.getpid()
        try:
            return self._idle[upkeep].pop()
        except IndexError:
            pass
        try:
            return self._open(upkeep)
        except (sqlite3.Error, OSError) as error:
            raise StorageUnavailable(f"the database of executions: {error}") from error

    def _open(self, upkeep: bool) -> sqlite3.Connection:
        if sqlite3.sqlite_version_info < OLDEST_SQLITE:
            wanted = ".".join(map(str, OLDEST_SQLITE))
            raise StorageUnavailable(
                f"executions need SQLite {wanted}, this is {sqlite3.sqlite_version}"
            )
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._make()
        connection = sqlite3.connect(
            self.path, timeout=BUSY_S, isolation_level=None, check_same_thread=False
        )
        try:
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            _switch_to_log(connection)
            # A commit that only a power failure loses need not wait for the disk.
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute(f"PRAGMA journal_size_limit = {LOG_BYTES}")
            connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES if upkeep else 0}")
            _migrate(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _make(self) -> None:
        """Make the file where there is none.

        The log and its index take their modes from it: what is printed may be secret. A file that
        is there is not touched: closing any descriptor of it drops the locks of this process, and
        others would take what is being used for abandoned.
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        if self.path.is_symlink():
            raise StorageUnavailable(f"{self.path} is a link, which is not followed")
        with suppress(FileExistsError):
            os.close(os.open(self.path, flags, 0o600))

    def _close_idle(self) -> None:
        if self._pid != os.getpid():
            return
        for connections in self._idle.values():
            while connections:
                try:
                    connection = connections.pop()
                except IndexError:
                    break
                with closing(connection):
                    pass


def _switch_to_log(connection: sqlite3.Connection) -> None:
    """Have readers and the writer not wait for each other; of two that open a new file, one waits."""
    end = time.monotonic() + BUSY_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > end:
                raise
            time.sleep(0.01)
        else:
            return


def _migrate(connection: sqlite3.Connection) -> None:
    [(version,)] = connection.execute("PRAGMA user_version")
    if version == 0:
        connection.execute("BEGIN IMMEDIATE")
        [(version,)] = connection.execute("PRAGMA user_version")
        if version == 0:
            for statement in filter(None, map(str.strip, SCHEMA.split(";"))):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            version = SCHEMA_VERSION
        connection.execute("COMMIT")
    if version > SCHEMA_VERSION:
        raise StorageUnavailable("the database of executions was made by a newer release")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
