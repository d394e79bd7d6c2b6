"""The storage: records in PostgreSQL, sources in S3, one truth for any number of hosts."""

# ruff: noqa: D102  # the interface says what each method does

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from typing import Any, Final

import psycopg2
import psycopg2.errors

from lowcode_faas_core.errors import (
    CollectionExists,
    CollectionNotEmpty,
    CollectionNotFound,
    FunctionNotFound,
    InvalidValue,
    SourceCorrupt,
    StartError,
    StorageUnavailable,
    VersionNotFound,
)
from lowcode_faas_core.ids import now
from lowcode_faas_core.interfaces.storage import Garbage, Storage
from lowcode_faas_core.lanes import elsewhere
from lowcode_faas_core.model import (
    Collection,
    Deployment,
    DeployOutcome,
    Draft,
    EnvLevel,
    Function,
    FunctionRef,
    Page,
    Resolution,
)
from lowcode_faas_core.names import ancestors, check_collection_path, check_function_name
from lowcode_faas_core.paging import decode_cursor, encode_cursor
from lowcode_faas_db_s3 import queries
from lowcode_faas_db_s3.deploys import Deploys, Step
from lowcode_faas_db_s3.garbage import collect_garbage, missing
from lowcode_faas_db_s3.lane_reads import LaneReads, NotNow
from lowcode_faas_db_s3.migrations import SchemaTooNew, migrate
from lowcode_faas_db_s3.objects import READ_S, Bucket, NoSuchObject
from lowcode_faas_db_s3.pool import SILENCE_S, Pool
from lowcode_faas_db_s3.settings import PostgresSettings, S3Settings
from lowcode_faas_db_s3.shared_reads import SharedReads
from lowcode_faas_db_s3.transactions import write

__all__ = ["DbS3Storage"]

#: Above every version: versions are listed downwards from here.
_TOP: Final = 2**62


class DbS3Storage(Storage):
    """Every version is kept until its function is deleted; see the package's README."""

    on_lanes = True
    checks_replaced = True

    def __init__(
        self,
        postgres: PostgresSettings,
        s3: S3Settings,
        *,
        step: Step = lambda _point: None,
        silence_s: float = SILENCE_S,
        read_s: float = READ_S,
    ) -> None:
        postgres.require()
        s3.require()
        self._migrated: list[str] = []
        self._pool = Pool(
            postgres.dsn,
            postgres.pool,
            lambda found, takes_long: self._migrated.extend(migrate(found, takes_long)),
            silence_s=silence_s,
        )
        self._lane_reads = LaneReads(self._pool.parameters, postgres.pool, silence_s)
        self._resolutions: SharedReads[Resolution] = SharedReads()
        self._bucket = Bucket(s3, read_s=read_s)
        self._deploys = Deploys(self._pool, self._bucket, step)

    @classmethod
    def open(cls, postgres: PostgresSettings, s3: S3Settings) -> DbS3Storage:
        """Build it and bring the schema up to date, when the database answers now.

        :raises StartError: when the schema is newer than this code.
        """
        storage = cls(postgres, s3)
        try:
            storage._ping()
        except SchemaTooNew as error:
            storage.close()
            raise StartError(error.detail) from error
        except StorageUnavailable:
            # Not ready yet; the first use that gets through does what is missing.
            return storage
        return storage

    # Collections

    def create_collection(self, path: str, env: dict[str, str]) -> Collection:
        check_collection_path(path, "/path")

        def work(cursor: Any) -> Collection:
            made_at = now()
            for ancestor in ancestors(path)[:-1]:
                _insert_collection(cursor, ancestor, {}, made_at)
            if not path or not _insert_collection(cursor, path, env, made_at):
                raise CollectionExists(f"the collection {path!r} is registered")
            return Collection(path=path, env_keys=sorted(env), created_at=made_at)

        return write(self._pool, work)

    def collection(self, path: str) -> Collection:
        return queries.collection(self._collection_row(path))

    def collections(self, prefix: str, limit: int, cursor: str | None = None) -> Page[Collection]:
        after = "" if cursor is None else decode_cursor(cursor)
        if "\0" in prefix:
            return Page([], None)
        below = queries.like_prefix(f"{prefix}/" if prefix else "")
        rows = self._pool.read(queries.COLLECTIONS, (after, prefix, below, limit + 1))
        items = [queries.collection(row) for row in rows[:limit]]
        return Page(items, encode_cursor(items[-1].path) if len(rows) > limit else None)

    def delete_collection(self, path: str) -> None:
        if not path:
            raise CollectionNotEmpty("the root always exists")

        def work(cursor: Any) -> None:
            try:
                cursor.execute("DELETE FROM collections WHERE path = %s", (path,))
            except psycopg2.errors.ForeignKeyViolation:
                raise CollectionNotEmpty(f"the collection {path!r} is not empty") from None
            if cursor.rowcount == 0:
                raise _no_collection(path)

        _without_nul(path, _no_collection(path))
        write(self._pool, work)

    def collection_env(self, path: str) -> dict[str, str]:
        return queries.env_of(self._collection_row(path)[1])

    def set_collection_env(self, path: str, env: dict[str, str]) -> None:
        def work(cursor: Any) -> None:
            cursor.execute(
                "UPDATE collections SET env = %s WHERE path = %s", (queries.env_text(env), path)
            )
            if cursor.rowcount == 0:
                raise _no_collection(path)

        _without_nul(path, _no_collection(path))
        write(self._pool, work)

    # Functions and versions

    def deploy(self, ref: FunctionRef, draft: Draft) -> DeployOutcome:
        check_collection_path(ref.collection_path)
        check_function_name(ref.name)
        return self._deploys.deploy(ref, draft)

    def deployment(self, ref: FunctionRef, version: int | None = None) -> Deployment:
        return self._row(ref, version)[0]

    def deployment_by_id(self, deployment_id: str, ref: FunctionRef) -> Deployment:
        _without_nul(deployment_id, VersionNotFound("no deployment has such an id"))
        rows = self._function_rows(ref, queries.DEPLOYMENT_BY_ID, (deployment_id,))
        if rows[0][0] is None:
            raise VersionNotFound(f"{ref} has no deployment {deployment_id}")
        return queries.deployment(ref, rows[0])[0]

    def source(self, deployment: Deployment) -> bytes:
        rows = self._pool.read(
            "SELECT object_key FROM deployments WHERE deployment_id = %s",
            (deployment.deployment_id,),
        )
        if not rows:
            raise VersionNotFound(f"{deployment.ref} has no version {deployment.version} any more")
        name = f"the object of version {deployment.version} of {deployment.ref}"
        try:
            content = self._bucket.get(rows[0][0], deployment.size)
        except NoSuchObject:
            raise SourceCorrupt(f"{name} is missing from the bucket") from None
        if hashlib.sha256(content).hexdigest() != deployment.sha256:
            raise SourceCorrupt(f"{name} does not match its hash")
        return content

    def versions(self, ref: FunctionRef, limit: int, cursor: str | None = None) -> Page[Deployment]:
        before = _TOP
        if cursor is not None:
            key = decode_cursor(cursor)
            if not (key.isascii() and key.isdigit() and len(key) < 19):
                raise InvalidValue("the cursor is of another list", "cursor", where="query")
            before = int(key)
        _check_ref(ref)
        rows = self._pool.read(queries.VERSIONS, (ref.collection_path, ref.name, before, limit + 1))
        if not rows:
            self.deployment(ref)  # an empty page of a function, or no function
        items = [queries.deployment(ref, row)[0] for row in rows[:limit]]
        return Page(items, encode_cursor(str(items[-1].version)) if len(rows) > limit else None)

    def rollback(self, ref: FunctionRef, version: int) -> Deployment:
        _check_ref(ref)
        return self._deploys.rollback(ref, _within(version) or 0)

    def function(self, ref: FunctionRef) -> Function:
        return queries.function(self._function_rows(ref, queries.FUNCTION)[0])

    def functions(
        self, collection_path: str, limit: int, cursor: str | None = None
    ) -> Page[Function]:
        after = "" if cursor is None else decode_cursor(cursor)
        _without_nul(collection_path, _no_collection(collection_path))
        rows = self._pool.read(queries.FUNCTIONS, (collection_path, after, limit + 1))
        if not rows:
            self._collection_row(collection_path)
        items = [queries.function(row) for row in rows[:limit]]
        return Page(items, encode_cursor(items[-1].name) if len(rows) > limit else None)

    def delete_function(self, ref: FunctionRef) -> None:
        """Remove the records; the objects stay for those who are reading them, then for ``gc``."""
        _check_ref(ref)

        def work(cursor: Any) -> None:
            cursor.execute(
                "DELETE FROM functions WHERE collection_path = %s AND name = %s",
                (ref.collection_path, ref.name),
            )
            if cursor.rowcount == 0:
                raise FunctionNotFound(f"there is no function {ref}")

        write(self._pool, work)

    def function_env(self, ref: FunctionRef) -> dict[str, str]:
        return queries.env_of(
            self._function_rows(
                ref, "SELECT env FROM functions WHERE collection_path = %s AND name = %s"
            )[0][0]
        )

    def set_function_env(self, ref: FunctionRef, env: dict[str, str]) -> None:
        _check_ref(ref)

        def work(cursor: Any) -> None:
            cursor.execute(
                "UPDATE functions SET env = %s, updated_at = %s"
                " WHERE collection_path = %s AND name = %s",
                (queries.env_text(env), now(), ref.collection_path, ref.name),
            )
            if cursor.rowcount == 0:
                raise FunctionNotFound(f"there is no function {ref}")

        write(self._pool, work)

    def resolve(self, ref: FunctionRef, version: int | None = None) -> Resolution:
        return self._resolutions.read((ref, version), lambda: self._resolve(ref, version))

    def _resolve(self, ref: FunctionRef, version: int | None) -> Resolution:
        paths = ancestors(ref.collection_path)
        row = self._resolved_rows(ref, (list(paths), _within(version)))[0]
        if row[0] is None:
            raise VersionNotFound(f"{ref} has no version {version}")
        found, _ = queries.deployment(ref, row)
        *_, own, above = row
        levels = [
            EnvLevel("collection", path, queries.env_of(env))
            for path, env in zip(paths, above, strict=True)
        ]
        return Resolution(found, (*levels, EnvLevel("function", str(ref), queries.env_of(own))))

    # The backend itself

    def check(self) -> None:
        self._ping()

    def degraded(self) -> list[str]:
        problem = self._bucket.problem()
        return (
            [] if problem is None else [f"{problem}: no deploys, and no source not yet in memory"]
        )

    def migrate(self) -> list[str]:
        # The first connection has done it, if it was this one that had to.
        self._ping()
        return self._migrated

    def collect_garbage(self, *, min_age_s: float, remove: bool) -> Iterator[Garbage]:
        return collect_garbage(self._pool, self._bucket, min_age_s=min_age_s, remove=remove)

    def missing(self) -> Iterator[str]:
        return missing(self._pool, self._bucket)

    def close(self) -> None:
        self._lane_reads.close()
        self._pool.close()
        self._bucket.close()

    def _ping(self) -> None:
        self._pool.read("SELECT 1")

    def _row(self, ref: FunctionRef, version: int | None) -> tuple[Deployment, str]:
        version = _within(version)
        row = self._function_rows(ref, queries.DEPLOYMENT, (version,))[0]
        if row[0] is None:
            raise VersionNotFound(f"{ref} has no version {version}")
        return queries.deployment(ref, row)

    def _resolved_rows(self, ref: FunctionRef, first: tuple[Any, ...]) -> list[Any]:
        _check_ref(ref)
        try:
            rows = self._lane_reads.read(queries.RESOLVE, (*first, ref.collection_path, ref.name))
        except NotNow:
            return elsewhere(lambda: self._function_rows(ref, queries.RESOLVE, first))
        if not rows:
            raise FunctionNotFound(f"there is no function {ref}")
        return rows

    def _function_rows(
        self, ref: FunctionRef, query: str, first: tuple[Any, ...] = ()
    ) -> list[Any]:
        _check_ref(ref)
        rows = self._pool.read(query, (*first, ref.collection_path, ref.name))
        if not rows:
            raise FunctionNotFound(f"there is no function {ref}")
        return rows

    def _collection_row(self, path: str) -> Any:
        _without_nul(path, _no_collection(path))
        rows = self._pool.read(queries.COLLECTION, (path,))
        if not rows:
            raise _no_collection(path)
        return rows[0]


def _insert_collection(cursor: Any, path: str, env: dict[str, str], made_at: str) -> bool:
    """Register one path below a registered one; tell whether it was not there."""
    cursor.execute(
        "INSERT INTO collections (path, parent, env, created_at) VALUES (%s, %s, %s, %s)"
        " ON CONFLICT (path) DO NOTHING",
        (path, path.rpartition("/")[0] if path else None, queries.env_text(env), made_at),
    )
    return bool(cursor.rowcount == 1)


def _within(version: int | None) -> int | None:
    """Return a version PostgreSQL can be asked for; what is beyond its integers never was one."""
    return version if version is None or 0 < version < _TOP else 0


def _check_ref(ref: FunctionRef) -> None:
    _without_nul(ref.collection_path + ref.name, FunctionNotFound(f"there is no function {ref!r}"))


def _without_nul(text: str, otherwise: Exception) -> None:
    """Raise ``otherwise`` for what PostgreSQL cannot hold, and nothing kept is therefore called."""
    with contextlib.suppress(UnicodeEncodeError):
        if b"\0" not in text.encode():
            return
    raise otherwise


def _no_collection(path: str) -> CollectionNotFound:
    return CollectionNotFound(f"the collection {path!r} is not registered")
