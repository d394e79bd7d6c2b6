"""Writes deployments: the object first, then one transaction, whose commit alone makes the version."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psycopg2.errors

from lowcode_faas_core.errors import (
    CollectionNotFound,
    FunctionNotFound,
    LanguageConflict,
    Superseded,
    VersionNotFound,
)
from lowcode_faas_core.ids import new_id, now
from lowcode_faas_core.model import Deployment, DeployOutcome, Draft, FunctionRef
from lowcode_faas_db_s3 import queries
from lowcode_faas_db_s3.objects import Bucket
from lowcode_faas_db_s3.pool import Pool
from lowcode_faas_db_s3.transactions import write

__all__ = ["Deploys", "Step"]

#: Called with the name of each point a deploy passes: ``stored``, ``committed``. Does nothing
#: unless a checker ends the process there.
Step = Callable[[str], None]

_LOCK = """
SELECT id, language, latest_version FROM functions
WHERE collection_path = %s AND name = %s FOR UPDATE"""

_CREATE = """
INSERT INTO functions (collection_path, name, language, created_at, updated_at)
VALUES (%s, %s, %s, %s, %s) ON CONFLICT (collection_path, name) DO NOTHING"""

_ADVANCE = """
UPDATE functions SET latest_version = %s, env = COALESCE(%s, env), updated_at = %s WHERE id = %s"""

_INSERT = """
INSERT INTO deployments (deployment_id, function_id, version, sha256, size, source_url, reuse,
    limits, created_at, checked, restored_from, object_key)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"""

_SAME = """
SELECT 1 FROM deployments
WHERE function_id = %s AND version = %s AND sha256 = %s AND reuse = %s AND limits = %s"""

_IS_THERE = "SELECT 1 FROM deployments WHERE deployment_id = %s"


@dataclass(frozen=True)
class _Wanted:
    """A draft with what is worked out once, however often the transaction runs."""

    ref: FunctionRef
    draft: Draft
    deployment_id: str
    sha256: str
    key: str

    @property
    def limits(self) -> str:
        return queries.limits_text(self.draft.limits)


class Deploys:
    """The two ways to a new version."""

    def __init__(self, pool: Pool, bucket: Bucket, step: Step) -> None:
        self._pool = pool
        self._bucket = bucket
        self._step = step

    def deploy(self, ref: FunctionRef, draft: Draft) -> DeployOutcome:
        """Add the next version, or find that the current one is what is wanted."""
        deployment_id = new_id()
        wanted = _Wanted(
            ref,
            draft,
            deployment_id,
            hashlib.sha256(draft.source).hexdigest(),
            self._bucket.key_for(deployment_id, draft.language.suffix),
        )
        if self._is_current(wanted):
            outcome = write(self._pool, lambda cursor: self._record(cursor, wanted, stored=False))
            if outcome is not None:
                return outcome
            # Somebody else deployed between the look and the lock.
        self._bucket.put(wanted.key, draft.source)
        self._step("stored")
        outcome = write(
            self._pool,
            lambda cursor: self._record(cursor, wanted, stored=True),
            lambda made: made is not None and self._is_there(made.deployment.deployment_id),
        )
        assert outcome is not None, "with its object stored, a draft is recorded or refused"  # noqa: S101
        self._step("committed")
        return outcome

    def rollback(self, ref: FunctionRef, version: int) -> Deployment:
        """Make an older version's snapshot current again, as a new version over the same object."""
        deployment_id = new_id()
        return write(
            self._pool,
            lambda cursor: self._restore(cursor, ref, version, deployment_id),
            lambda made: self._is_there(made.deployment_id),
        )

    def _is_current(self, wanted: _Wanted) -> bool:
        ref = wanted.ref
        rows = self._pool.read(queries.DEPLOYMENT, (None, ref.collection_path, ref.name))
        if not rows:
            if wanted.draft.replaces is not None:
                raise FunctionNotFound(f"there is no function {ref}")
            # An object for a collection that is not there would be an orphan at every mistake.
            if not self._pool.read(queries.COLLECTION, (ref.collection_path,)):
                raise _no_collection(ref)
            return False
        current, _ = queries.deployment(ref, rows[0])
        draft = wanted.draft
        # Another language is refused in the transaction, and needs no object either.
        return current.language is not draft.language or (
            (current.sha256, current.reuse, current.limits)
            == (wanted.sha256, draft.reuse, draft.limits)
        )

    def _is_there(self, deployment_id: str) -> bool:
        return bool(self._pool.read(_IS_THERE, (deployment_id,)))

    def _record(self, cursor: Any, wanted: _Wanted, *, stored: bool) -> DeployOutcome | None:
        """Inside the transaction. ``None``: a version is needed, and its object is not stored."""
        ref, draft = wanted.ref, wanted.draft
        made_at = now()
        if stored and draft.replaces is None:
            try:
                cursor.execute(
                    _CREATE, (ref.collection_path, ref.name, draft.language.value, made_at, made_at)
                )
            except psycopg2.errors.ForeignKeyViolation:
                raise _no_collection(ref) from None
        cursor.execute(_LOCK, (ref.collection_path, ref.name))
        row = cursor.fetchone()
        if row is None:
            if draft.replaces is not None:
                raise FunctionNotFound(f"there is no function {ref}")
            return None
        function_id, language, latest = row
        if draft.replaces is not None:
            replaced = _current(cursor, ref)
            if replaced.deployment_id != draft.replaces:
                raise Superseded(f"version {replaced.version} of {ref} was deployed meanwhile")
        if language != draft.language.value:
            raise LanguageConflict(f"{ref} exists in {language}")
        env = None if draft.env is None else queries.env_text(draft.env)
        made_at = now()  # under the lock: in the order of versions
        cursor.execute(
            _SAME, (function_id, latest, wanted.sha256, draft.reuse.value, wanted.limits)
        )
        if cursor.fetchone() is not None:
            if env is not None:
                cursor.execute(_ADVANCE, (latest, env, made_at, function_id))
            return DeployOutcome(_current(cursor, ref), created=False)
        if not stored:
            return None
        cursor.execute(_ADVANCE, (latest + 1, env, made_at, function_id))
        cursor.execute(
            _INSERT,
            (
                wanted.deployment_id,
                function_id,
                latest + 1,
                wanted.sha256,
                len(draft.source),
                draft.source_url,
                draft.reuse.value,
                wanted.limits,
                made_at,
                draft.checked,
                None,
                wanted.key,
            ),
        )
        return DeployOutcome(_current(cursor, ref), created=True)

    def _restore(
        self, cursor: Any, ref: FunctionRef, version: int, deployment_id: str
    ) -> Deployment:
        cursor.execute(_LOCK, (ref.collection_path, ref.name))
        row = cursor.fetchone()
        if row is None:
            raise FunctionNotFound(f"there is no function {ref}")
        function_id, _, latest = row
        cursor.execute(queries.DEPLOYMENT, (version, ref.collection_path, ref.name))
        found = cursor.fetchone()
        if found[0] is None:
            raise VersionNotFound(f"{ref} has no version {version}")
        old, key = queries.deployment(ref, found)
        made_at = now()
        cursor.execute(_ADVANCE, (latest + 1, None, made_at, function_id))
        cursor.execute(
            _INSERT,
            (
                deployment_id,
                function_id,
                latest + 1,
                old.sha256,
                old.size,
                old.source_url,
                old.reuse.value,
                queries.limits_text(old.limits),
                made_at,
                old.checked,
                version,
                key,
            ),
        )
        return _current(cursor, ref)


def _current(cursor: Any, ref: FunctionRef) -> Deployment:
    cursor.execute(queries.DEPLOYMENT, (None, ref.collection_path, ref.name))
    row, _ = queries.deployment(ref, cursor.fetchone())
    return row


def _no_collection(ref: FunctionRef) -> CollectionNotFound:
    return CollectionNotFound(f"the collection {ref.collection_path!r} is not registered")
