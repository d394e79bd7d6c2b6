"""What ``lowcode-faas doctor`` looks at: both servers, their clocks, the schema, and what fits."""

from __future__ import annotations

import itertools
import time
from collections.abc import Generator, Iterator
from contextlib import closing
from email.utils import parsedate_to_datetime
from typing import Any, Final

import psycopg2
import psycopg2.extensions

from lowcode_faas_core.errors import StorageFull, StorageUnavailable
from lowcode_faas_core.findings import Finding, clock, failure, fine, warning
from lowcode_faas_core.interfaces.examination import Examination
from lowcode_faas_db_s3.garbage import collect_garbage, missing
from lowcode_faas_db_s3.migrations import steps
from lowcode_faas_db_s3.objects import Bucket
from lowcode_faas_db_s3.pool import DEFAULTS, Pool
from lowcode_faas_db_s3.settings import PostgresSettings, S3Settings

__all__ = ["BothServers"]

#: The oldest server that knows what the schema and the confirming reads ask.
OLDEST: Final = 130_000
#: Above so many rows they are not compared with the objects: that would take minutes.
COMPARED: Final = 200_000
#: Rows without objects that are named.
NAMED: Final = 5
#: An object younger than this may belong to a deploy under way, in seconds.
YOUNG_S: Final = 24 * 3600.0


class BothServers(Examination):
    """Connects past the storage, so that nothing is migrated."""

    def __init__(self, postgres: PostgresSettings, s3: S3Settings, *, processes: int) -> None:
        postgres.require()
        s3.require()
        self._postgres = postgres
        self._processes = processes
        self._bucket = Bucket(s3)
        self._name = s3.bucket

    def findings(self) -> Iterator[Finding]:
        """See :class:`Examination`."""
        ready = yield from self._database()
        problem = self._bucket.look()
        if problem is not None:
            yield failure("S3", problem)
            return
        yield fine("S3", f"the bucket {self._name} answers")
        asked = time.time()
        date, answered = self._bucket.date(), time.time()
        if date:
            yield clock("S3", parsedate_to_datetime(date).timestamp(), asked, answered)
        if ready:
            yield from self._compare()

    def close(self) -> None:
        """Drop the connections."""
        self._bucket.close()

    def _database(self) -> Generator[Finding, None, bool]:
        parameters = {**DEFAULTS, **psycopg2.extensions.parse_dsn(self._postgres.dsn)}
        try:
            asked = time.time()
            with closing(psycopg2.connect(**parameters)) as connection:
                connection.autocommit = True
                with connection.cursor() as cursor:
                    return (yield from self._ask(cursor, connection.server_version, asked))
        except psycopg2.Error as error:
            # On the operator's own terminal, libpq's words may name hosts and users.
            yield failure(
                "PostgreSQL", (str(error).strip() or type(error).__name__).splitlines()[0]
            )
            return False

    def _ask(self, cursor: Any, version: int, asked: float) -> Generator[Finding, None, bool]:
        cursor.execute(
            "SELECT extract(epoch FROM clock_timestamp())::float8,"
            " current_setting('max_connections')::int, to_regclass('lowcode_faas_schema') IS NOT NULL"
        )
        theirs, most, has_schema = cursor.fetchone()
        answered = time.time()
        shown = f"{version // 10_000}.{version % 10_000}"
        if version < OLDEST:
            yield failure("PostgreSQL", f"is {shown}; 13 or newer is needed")
        else:
            yield fine("PostgreSQL", f"{shown} answers and takes writes")
        yield clock("PostgreSQL", theirs, asked, answered)
        ours = (self._postgres.pool + self._postgres.executions_pool) * self._processes
        if ours * 2 > most:
            yield warning(
                "PostgreSQL",
                f"this service may open {ours} connections, twice as many during a restart, and "
                f"the server takes {most} of all its clients: lower LOWCODE_FAAS_POSTGRES_POOL",
            )
        applied: set[int] = set()
        if has_schema:
            cursor.execute("SELECT version FROM lowcode_faas_schema")
            applied = {number for (number,) in cursor.fetchall()}
        return (yield from _schema(applied))

    def _compare(self) -> Iterator[Finding]:
        pool = Pool(self._postgres.dsn, 2, lambda _connection, _takes_long: None)
        with closing(pool):
            try:
                ((rows,),) = pool.read("SELECT count(*) FROM deployments")
                if rows > COMPARED:
                    yield fine("sources", f"{rows} versions, too many to be compared with S3 here")
                    return
                lost = list(missing(pool, self._bucket))
                spare = sum(
                    1
                    for _ in itertools.islice(
                        collect_garbage(pool, self._bucket, min_age_s=YOUNG_S, remove=False),
                        COMPARED,
                    )
                )
            except (StorageUnavailable, StorageFull) as error:
                yield failure("sources", error.detail)
                return
        for sentence in lost[:NAMED]:
            yield failure("sources", sentence)
        if len(lost) > NAMED:
            yield failure("sources", f"and {len(lost) - NAMED} more versions have no object")
        if spare:
            yield warning(
                "sources", f"{spare} objects that no version needs: lowcode-faas gc lists them"
            )
        if not lost:
            yield fine("sources", f"all {rows} versions have their object")


def _schema(applied: set[int]) -> Generator[Finding, None, bool]:
    """Compare the database's schema with ours; return whether it is the same."""
    known = {number: name for number, name, _ in steps()}
    newer = applied - known.keys()
    absent = [name for number, name in known.items() if number not in applied]
    if newer:
        yield failure(
            "schema",
            f"the database is at step {max(newer)}, which this release does not know: upgrade here",
        )
    elif absent:
        yield warning(
            "schema",
            f"steps to be applied: {', '.join(absent)}; lowcode-faas migrate or the next start does",
        )
    else:
        yield fine("schema", f"up to date, at step {max(known)}")
    return not newer and not absent
