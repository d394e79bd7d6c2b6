"""What keeps the store small and true: closes what was lost, deletes what is too old or too much."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from typing import Final

import msgspec

from lowcode_faas_core.errors import StorageUnavailable
from lowcode_faas_files.executions import statements
from lowcode_faas_files.executions.database import LOG_BYTES, Database
from lowcode_faas_files.executions.owners import Owners

__all__ = ["Upkeep"]

#: Shortest time between two looks at who is gone, in seconds.
LOOK_EVERY_S: Final = 1.0
#: Executions, and lines, that one step deletes at most: some 10 ms in which no other writes.
STEP_EXECUTIONS: Final = 200
STEP_LINES: Final = 2000
#: Pages that one step moves to give their space back.
STEP_PAGES: Final = 256
#: What may be in use, of the bound: the rest is for the log and for pages that wait to be used.
FULL: Final = 0.88
#: Size of the file, of the bound, above which free pages are given back, although new records could
#: use them; and free space, of what is in use, above which they are in any case.
LARGE: Final = 0.95
SLACK: Final = 0.25
#: Log, of the bound, above which it is cut.
LOG_SHARE: Final = 0.02
#: Longest wait for a turn, in seconds: those who write much at once take turns at deleting, too.
TURN_S: Final = 0.05


class Upkeep:
    """One step at a time, and one process at a time."""

    def __init__(self, database: Database, owners: Owners) -> None:
        self._database = database
        self._owners = owners
        self._guard = threading.Lock()
        self._looked_at = -LOOK_EVERY_S

    def step(self, max_age_s: float, max_bytes: int) -> bool:
        """Do one step; return whether the next is due at once."""
        with self._guard:
            now = time.monotonic()
            if now - self._looked_at >= LOOK_EVERY_S:
                self._close_lost()
                self._looked_at = now
            with self._turn() as ours:
                return ours and self._shrink(max_age_s, max_bytes)

    def close(self) -> None:
        """Wait for a step that is under way."""
        with self._guard:
            pass

    def _close_lost(self) -> None:
        with self._database.reading() as connection:
            named = {owner for (owner,) in connection.execute(statements.RUNNING_OWNERS) if owner}
        gone = self._owners.gone(named)
        if not gone:
            return
        if gone & named:
            with self._database.writing() as connection:
                connection.execute(statements.LOSE, (msgspec.json.encode(sorted(gone)).decode(),))
        # Their files last: whoever is killed before this finds them again.
        for owner in gone:
            self._owners.forget(owner)

    @contextlib.contextmanager
    def _turn(self) -> Iterator[bool]:
        """Tell whether this process may shrink the store now; one at a time is enough."""
        path = self._database.path.with_name("upkeep.lock")
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StorageUnavailable(f"the upkeep of executions: {error}") from error
        try:
            yield _locked(descriptor)
        finally:
            os.close(descriptor)

    def _shrink(self, max_age_s: float, max_bytes: int) -> bool:
        with self._database.upkeep() as connection:
            if self._database.log_size() > min(LOG_BYTES, LOG_SHARE * max_bytes):
                _cut_log(connection)
            page_bytes = _pragma(connection, "page_size")
            free = _pragma(connection, "freelist_count") * page_bytes
            used = _pragma(connection, "page_count") * page_bytes - free
        before = int((time.time() - max_age_s) * 1e6)
        if self._delete(1 << 62 if used > FULL * max_bytes else before):
            return True
        if free <= SLACK * used and (free + used <= LARGE * max_bytes or not free):
            return False
        with self._database.upkeep() as connection:
            # Each row of this pragma is a page that was moved.
            connection.execute(f"PRAGMA incremental_vacuum({STEP_PAGES})").fetchall()
        return True

    def _delete(self, before: int) -> bool:
        """Delete some of the oldest that began before a moment; return whether there were any."""
        with self._database.reading() as connection:
            oldest = connection.execute(
                statements.OLDEST, {"before": before, "most": STEP_EXECUTIONS}
            ).fetchall()
        if not oldest:
            return False
        chosen: list[int] = []
        lines = 0
        for row, count in oldest:
            if chosen and lines + count > STEP_LINES:
                break
            chosen.append(row)
            lines += count
        ids = msgspec.json.encode(chosen).decode()
        with self._database.writing(upkeep=True) as connection:
            connection.execute(statements.DELETE_LINES, {"ids": ids, "most": STEP_LINES})
            if lines > STEP_LINES:
                return True  # one that printed a great deal goes in several steps
            for statement in statements.DELETE:
                connection.execute(statement, {"ids": ids})
        return True


def _locked(descriptor: int) -> bool:
    end = time.monotonic() + TURN_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if time.monotonic() > end:
                return False
            time.sleep(TURN_S / 20)
        else:
            return True


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    [(value,)] = connection.execute(f"PRAGMA {name}")
    return int(value)


def _cut_log(connection: sqlite3.Connection) -> None:
    """Copy the log back and cut it, unless somebody reads or writes: nobody is to wait for this."""
    [(patience,)] = connection.execute("PRAGMA busy_timeout")
    connection.execute("PRAGMA busy_timeout = 0")
    try:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    finally:
        connection.execute(f"PRAGMA busy_timeout = {patience}")
