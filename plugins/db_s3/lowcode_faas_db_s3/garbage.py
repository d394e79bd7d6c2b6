"""Objects that no row needs: left by deploys that were cut short and by deleted functions.

Only ever objects without rows are removed, never rows without objects: an object whose row is
missing costs space, a row removed because its object was not found just now costs a function.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Final

from lowcode_faas_core.errors import StorageUnavailable
from lowcode_faas_core.interfaces.storage import Garbage
from lowcode_faas_db_s3.objects import Bucket, StoredObject
from lowcode_faas_db_s3.pool import Pool

__all__ = ["collect_garbage", "missing"]

#: Keys that are looked up with one statement.
_BATCH: Final = 500
#: Of two collections at one time the second has nothing to do.
_LOCK: Final = 0x4C43_4641_4754

_NEEDED = "SELECT object_key FROM deployments WHERE object_key = ANY(%s::text[])"
_ROWS = """
SELECT DISTINCT ON (d.object_key) d.object_key, f.collection_path, f.name, d.version
FROM deployments d JOIN functions f ON f.id = d.function_id
WHERE d.object_key > %s ORDER BY d.object_key, d.version LIMIT %s"""


def collect_garbage(
    pool: Pool, bucket: Bucket, *, min_age_s: float, remove: bool
) -> Iterator[Garbage]:
    """Yield what no row needs and is old enough, removed or not.

    An object is stored before its row is written, by seconds: ``min_age_s`` must be far above
    that, and a row is looked for after the object was listed.

    :raises StorageUnavailable: when another collection is under way, or a server does not answer.
    """
    with pool.connection(silence_s=float("inf")) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s)", (_LOCK,))
        if not cursor.fetchone()[0]:
            raise StorageUnavailable("another garbage collection is under way")
        try:
            now = datetime.now(UTC)
            old = (
                found
                for found in bucket.listing()
                if (now - found.modified).total_seconds() >= min_age_s
            )
            for batch in _batches(old):
                cursor.execute(_NEEDED, ([found.key for found in batch],))
                needed = {key for (key,) in cursor.fetchall()}
                for found in batch:
                    if found.key not in needed:
                        if remove:
                            bucket.remove(found.key)
                        age_s = (now - found.modified).total_seconds()
                        yield Garbage(found.key, age_s, removed=remove)
        finally:
            if not connection.closed:
                cursor.execute("SELECT pg_advisory_unlock(%s)", (_LOCK,))


def missing(pool: Pool, bucket: Bucket) -> Iterator[str]:
    """Yield a sentence for each row whose object is not in the bucket.

    Rows are read after the listing began: those of deploys since then are not in it, and are
    asked for one by one.
    """
    there = {found.key for found in bucket.listing()}
    after = ""
    while rows := pool.read(_ROWS, (after, _BATCH)):
        for key, path, name, version in rows:
            if key not in there and not bucket.holds(key):
                place = f"{path}/{name}" if path else name
                yield f"version {version} of {place} has no object {key}"
        after = rows[-1][0]


def _batches(found: Iterable[StoredObject]) -> Iterator[list[StoredObject]]:
    each = iter(found)
    while batch := list(itertools.islice(each, _BATCH)):
        yield batch
