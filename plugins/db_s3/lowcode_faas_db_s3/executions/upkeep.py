"""What keeps the store small and true: closes what was lost, deletes what is too old or too much.

Size is counted, not measured: every row counts for its text and a fixed share of headers and
indexes, and each writer keeps an account of what it added and removed. What PostgreSQL's files
take is close to that as long as autovacuum keeps up, for which the tables ask it; long texts take less,
since they are compressed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any, Final

from lowcode_faas_db_s3.executions import statements
from lowcode_faas_db_s3.executions.link import Link
from lowcode_faas_db_s3.executions.owner import Owner

__all__ = ["Upkeep"]

#: Shortest time between two looks at who is gone, and at what nobody uses any more, in seconds.
LOOK_EVERY_S: Final = 1.0
TIDY_EVERY_S: Final = 60.0
#: An owner that was silent for so long, and owns nothing, is forgotten, in seconds.
FOLD_S: Final = 3600.0
#: Of two steps at a time the second has nothing to do; any number of our own.
LOCK: Final = 0x4C43_4641_4558
#: Executions, lines and bytes that one step deletes at most: some 10 ms.
STEP_EXECUTIONS: Final = 200
STEP_LINES: Final = 2000
STEP_BYTES: Final = 4 << 20
#: Executions that are weighed first: the rest is, too, in one go, unless these are enough.
_WEIGHED: Final = 20
#: What may be counted, of the bound: the rest is for rows that are dead and not yet vacuumed.
FULL: Final = 0.9

_EVER: Final = 2**62


class Upkeep:
    """One step at a time, and one process at a time."""

    def __init__(self, link: Link, owner: Owner) -> None:
        self._link = link
        self._owner = owner
        self._guard = threading.Lock()
        self._looked_at = self._tidied_at = float("-inf")

    def step(self, max_age_s: float, max_bytes: int) -> bool:
        """Do one step; return whether the next is due at once."""
        with self._guard:
            now = time.monotonic()
            if now - self._looked_at >= LOOK_EVERY_S:
                self._close_lost()
                self._looked_at = now
            if now - self._tidied_at >= TIDY_EVERY_S:
                self._tidy()
                self._tidied_at = now
            return self._shrink(max_age_s, max_bytes)

    def close(self) -> None:
        """Wait for a step that is under way."""
        with self._guard:
            pass

    def _close_lost(self) -> None:
        given = {
            "owner": self._owner.name,
            "lease": self._owner.lease_s,
            "judge": self._owner.may_judge(),
        }
        self._link.rows(statements.LOSE, given)
        self._owner.was_seen()

    def _tidy(self) -> None:
        given = {"owner": self._owner.name, "fold": FOLD_S}
        for text in (statements.FORGET_OVER, statements.FOLD_OWNERS, statements.FORGET_SOURCES):
            self._link.rows(text, given)

    def _shrink(self, max_age_s: float, max_bytes: int) -> bool:
        [(size, before, due)] = self._link.rows(statements.STATE, {"age": max_age_s})
        excess = size - int(FULL * max_bytes)
        if excess <= 0 and not due:
            return False

        def work(cursor: Any, _again: bool) -> bool:
            # One transaction: what is chosen stays locked until it is gone.
            cursor.execute("BEGIN; SELECT pg_try_advisory_xact_lock(%s)", (LOCK,))
            deleted = cursor.fetchone()[0] and (
                self._delete(cursor, before, _EVER) if due else self._delete(cursor, _EVER, excess)
            )
            cursor.execute("COMMIT")
            return bool(deleted)

        return self._link.run(work)

    def _delete(self, cursor: Any, before: int, excess: int) -> bool:
        """Delete some of the oldest that began before a moment, until the excess is gone."""
        given: dict[str, Any] = {
            "owner": self._owner.name,
            "before": before,
            "most": STEP_EXECUTIONS,
        }
        cursor.execute(statements.OLDEST, given)
        oldest = cursor.fetchall()
        if not oldest:
            return False
        chosen: list[int] = []
        lines = freed = 0
        for row, count, size in _weighed(cursor, oldest):
            too_much = lines + count > STEP_LINES or freed + size > STEP_BYTES
            if freed >= excess or (chosen and too_much):
                break
            chosen.append(row)
            lines += count
            freed += size
        given.update(ids=chosen, most=STEP_LINES)
        cursor.execute(statements.DELETE_LINES, given)
        if lines <= STEP_LINES:  # one that printed a great deal goes in several steps
            cursor.execute(statements.DELETE_EXCHANGES, given)
            cursor.execute(statements.DELETE_EXECUTIONS, given)
        return True


def _weighed(cursor: Any, oldest: list[tuple[int, int]]) -> Iterator[tuple[int, int, int]]:
    """Yield row, lines and bytes of each; lines are counted up to one more than a step takes."""
    for part in (oldest[:_WEIGHED], oldest[_WEIGHED:]):
        sizes = dict(part)
        cursor.execute(statements.WEIGHED, {"ids": list(sizes), "most": STEP_LINES + 1})
        for row, count, size in cursor.fetchall():
            yield row, count, size + sizes[row]
