"""Brings the schema up to date: numbered SQL files, each applied once, by one process at a time."""

from __future__ import annotations

from collections.abc import Callable
from importlib import resources
from typing import Any, Final

from lowcode_faas_core.errors import StorageUnavailable

__all__ = ["SchemaTooNew", "migrate", "steps"]

#: Key of the advisory lock under which the schema is changed; any number of our own.
LOCK: Final = 0x4C43_4641_4153
#: A migration may rewrite a table: the limits of ordinary statements do not bind it.
_UNBOUND: Final = "SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0"

_TABLE: Final = """
CREATE TABLE IF NOT EXISTS lowcode_faas_schema (
    version integer PRIMARY KEY,
    name text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)"""


class SchemaTooNew(StorageUnavailable):
    """Raised when a newer release has changed the schema: this one would write what it cannot know."""


def steps() -> list[tuple[int, str, str]]:
    """Return number, name and SQL of every step, in order."""
    found = []
    for entry in resources.files("lowcode_faas_db_s3.schema").iterdir():
        if entry.name.endswith(".sql"):
            number, _, _ = entry.name.partition("_")
            found.append((int(number), entry.name, entry.read_text(encoding="utf-8")))
    return sorted(found)


def migrate(connection: Any, takes_long: Callable[[], None] = lambda: None) -> list[str]:
    """Apply what is missing and return the names of what was applied; ``[]`` when all was there.

    ``takes_long`` is called when there is something to apply, or to wait for.
    ``connection`` is in autocommit. All steps are one transaction under an advisory lock: of
    processes that start at once one applies them, the others wait and find them applied.

    :raises SchemaTooNew: when the database knows a step that this code does not.
    """
    known = steps()
    with connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass('lowcode_faas_schema') IS NOT NULL")
        if cursor.fetchone()[0] and _applied(cursor, known) == {number for number, *_ in known}:
            return []
        takes_long()
        cursor.execute("BEGIN")
        try:
            cursor.execute(_UNBOUND)
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
            cursor.execute(_TABLE)
            applied = _applied(cursor, known)
            done = []
            for number, name, sql in known:
                if number not in applied:
                    cursor.execute(sql)
                    cursor.execute(
                        "INSERT INTO lowcode_faas_schema (version, name) VALUES (%s, %s)",
                        (number, name),
                    )
                    done.append(name)
            cursor.execute("COMMIT")
        except BaseException:
            if not connection.closed:
                cursor.execute("ROLLBACK")
            raise
    return done


def _applied(cursor: Any, known: list[tuple[int, str, str]]) -> set[int]:
    cursor.execute("SELECT version, name FROM lowcode_faas_schema ORDER BY version")
    rows = cursor.fetchall()
    newest = known[-1][0]
    if rows and rows[-1][0] > newest:
        raise SchemaTooNew(
            f"the database's schema is at step {rows[-1][1]}, which this release does not know "
            f"(its last is {known[-1][1]}): upgrade lowcode-faas here, or use another database"
        )
    return {version for version, _ in rows}
