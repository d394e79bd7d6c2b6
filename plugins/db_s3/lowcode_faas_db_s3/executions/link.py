"""The way to the database for what must be answered soon, also when nobody answers there.

Callers of an invocation may be waiting: whoever finds the database down tells the others, so that
one of them at a time waits for it and the rest are told at once.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

import psycopg2
import psycopg2.errorcodes

from lowcode_faas_core.errors import StorageUnavailable
from lowcode_faas_db_s3.migrations import migrate
from lowcode_faas_db_s3.pool import DEFAULTS, Pool, is_broken, unavailable

__all__ = ["Link"]

T = TypeVar("T")

#: Seconds for a statement, for a lock, for an answer of any kind, and for a free connection.
_LIMITS: Final = {
    **DEFAULTS,
    "connect_timeout": "2",
    "options": "-c statement_timeout=3000 -c lock_timeout=1000"
    " -c idle_in_transaction_session_timeout=5000",
}
SILENCE_S: Final = 4.0
WAIT_S: Final = 1.0
#: Seconds for which nobody asks again after the database was found down.
PAUSE_S: Final = 1.0
#: Seconds after which a connection that broke was not found broken, but broke meanwhile.
_STALE_S: Final = 0.5
#: Times that a transaction is run at most when the database asks for it to be run again.
ATTEMPTS: Final = 4

_AGAIN: Final = {psycopg2.errorcodes.SERIALIZATION_FAILURE, psycopg2.errorcodes.DEADLOCK_DETECTED}

Parameters = Sequence[Any] | Mapping[str, Any]


class Link:
    """Runs work over a pool of its own; everything that fails is ``StorageUnavailable``, soon."""

    def __init__(self, dsn: str, size: int) -> None:
        self._pool = Pool(dsn, size, migrate, silence_s=SILENCE_S, wait_s=WAIT_S, defaults=_LIMITS)
        self._lock = threading.Lock()
        self._trouble = ""
        self._silent_until = 0.0

    def rows(
        self, text: str, given: Parameters = (), *, silence_s: float | None = None
    ) -> list[Any]:
        """Run statements as one transaction and one message; return the rows of the last."""
        return self.run(lambda cursor, _again: _rows(cursor, text, given), silence_s=silence_s)

    def run(self, work: Callable[[Any, bool], T], *, silence_s: float | None = None) -> T:
        """Run ``work`` with a cursor in autocommit, and whether it may have been done before.

        :raises StorageUnavailable: soon; it is not known whether the work was done.
        """
        self._ask_leave()
        try:
            answer = self._attempts(work, silence_s)
        except StorageUnavailable as error:
            cause = error.__cause__
            if isinstance(cause, psycopg2.Error) and is_broken(cause):
                with self._lock:
                    self._trouble = error.detail
                    self._silent_until = time.monotonic() + PAUSE_S
            raise
        self._trouble = ""
        return answer

    def close(self) -> None:
        """Close the pool; may be called twice."""
        self._pool.close()

    def _ask_leave(self) -> None:
        if not self._trouble:
            return
        with self._lock:
            now = time.monotonic()
            if now < self._silent_until:
                raise StorageUnavailable(self._trouble)
            # This one tries; it takes as long as a connection and an answer may take.
            self._silent_until = now + SILENCE_S

    def _attempts(self, work: Callable[[Any, bool], T], silence_s: float | None) -> T:
        began = time.monotonic()
        again = False
        for attempt in range(ATTEMPTS):
            try:
                with (
                    self._pool.connection(silence_s=silence_s) as connection,
                    connection.cursor() as cursor,
                ):
                    return work(cursor, again)
            except psycopg2.DataError as error:
                # It would be refused again: that is not for whoever retries.
                raise ValueError(f"PostgreSQL refused it: {str(error).strip()}") from error
            except psycopg2.Error as error:
                failure = unavailable(error)
                failure.__cause__ = error
                if is_broken(error):
                    self._pool.forget_idle()
                    if again or time.monotonic() - began > _STALE_S:
                        break
                    again = True
                elif error.pgcode in _AGAIN:
                    time.sleep(random.uniform(0, 0.02 * 2**attempt))  # noqa: S311  # not a secret
                else:
                    break
        raise failure


def _rows(cursor: Any, text: str, given: Parameters) -> list[Any]:
    cursor.execute(text, given)
    found: list[Any] = cursor.fetchall() if cursor.description else []
    return found
