"""Runs a write as one transaction, again where that is safe, and finds out how a commit ended."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any, Final, TypeVar

import psycopg2
import psycopg2.errorcodes
import psycopg2.errors

from lowcode_faas_core.errors import CommitUnknown, StorageFull, StorageUnavailable
from lowcode_faas_db_s3.pool import Pool, is_broken, unavailable

__all__ = ["write"]

T = TypeVar("T")

#: Times a transaction is run at most when the database asks for it to be run again.
ATTEMPTS: Final = 4
#: Seconds for finding out whether a transaction was committed.
INQUIRY_S: Final = 5.0

_AGAIN: Final = {psycopg2.errorcodes.SERIALIZATION_FAILURE, psycopg2.errorcodes.DEADLOCK_DETECTED}


class _Lost(Exception):
    """The connection broke while COMMIT was under way; carries the transaction's id."""

    def __init__(self, xid: str) -> None:
        super().__init__(xid)
        self.xid = xid


def write(
    pool: Pool, work: Callable[[Any], T], confirm: Callable[[T], bool] = lambda _answer: True
) -> T:
    """Run ``work`` with a cursor inside a transaction and return its answer once it is committed.

    ``work`` may run several times: it must do nothing outside the database. What it raises undoes
    the transaction. ``confirm`` looks for what was written when the connection broke at COMMIT.

    :raises CommitUnknown: when it cannot be told whether the commit took place.
    :raises StorageUnavailable: when nothing was written.
    """
    failure: Exception
    for attempt in range(ATTEMPTS):
        answers: list[T] = []
        try:
            _attempt(pool, work, answers)
        except _Lost as lost:
            if _was_committed(pool, lost.xid, lambda: confirm(answers[0])):  # noqa: B023  # now
                return answers[0]
            failure = StorageUnavailable("PostgreSQL: the connection broke at COMMIT")
        except psycopg2.Error as error:
            if error.pgcode == psycopg2.errorcodes.DISK_FULL:
                raise StorageFull("PostgreSQL has no space left") from error
            failure = unavailable(error)
            if is_broken(error):  # before COMMIT was sent: the server undoes what it has
                pool.forget_idle()
                if attempt > 0:
                    break
            elif error.pgcode not in _AGAIN:
                raise failure from error
            else:
                time.sleep(random.uniform(0, 0.02 * 2**attempt))  # noqa: S311  # not a secret
        else:
            return answers[0]
    raise failure


def _attempt(pool: Pool, work: Callable[[Any], T], answers: list[T]) -> None:
    with pool.connection() as connection, connection.cursor() as cursor:
        cursor.execute("BEGIN; SELECT pg_current_xact_id()::text")
        xid: str = cursor.fetchone()[0]
        try:
            answers.append(work(cursor))
        except BaseException:
            if not connection.closed:
                try:
                    cursor.execute("ROLLBACK")
                except psycopg2.Error:
                    connection.close()
            raise
        try:
            cursor.execute("COMMIT")
        except psycopg2.Error as error:
            if not is_broken(error):
                raise
            connection.close()
            raise _Lost(xid) from error


def _was_committed(pool: Pool, xid: str, confirm: Callable[[], bool]) -> bool:
    """Ask the database how a transaction ended.

    :raises CommitUnknown: when it does not answer in time, or knows of no such transaction: after
        a failover the server may be one that never heard of it.
    """
    end = time.monotonic() + INQUIRY_S
    while True:
        try:
            status = pool.read("SELECT pg_xact_status(%s::xid8)", (xid,))[0][0]
            if status == "committed" and confirm():
                return True
        except StorageUnavailable:
            status = "in progress"
        if status == "aborted":
            return False
        if status in (None, "committed") or time.monotonic() > end:
            raise CommitUnknown(
                "PostgreSQL: the connection broke at COMMIT, and whether it took place is not "
                "known; read before writing again"
            )
        time.sleep(0.1)
