"""A storage in memory: the stub that tests build on, and the reference the contract is read by."""

# ruff: noqa: D102  # the interface says what each method does

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass, field

import msgspec

from lowcode_faas_core.errors import (
    CollectionExists,
    CollectionNotEmpty,
    CollectionNotFound,
    FaasError,
    FunctionNotFound,
    InvalidValue,
    LanguageConflict,
    SourceCorrupt,
    Superseded,
    VersionNotFound,
    VersionNotKept,
)
from lowcode_faas_core.ids import new_id, now
from lowcode_faas_core.interfaces.storage import Storage
from lowcode_faas_core.model import (
    Collection,
    Deployment,
    DeployOutcome,
    Draft,
    Function,
    FunctionRef,
    Page,
    Resolution,
)
from lowcode_faas_core.names import ancestors
from lowcode_faas_core.paging import decode_cursor, encode_cursor, page_of

__all__ = ["MemoryStorage"]


@dataclass
class _Collection:
    created_at: str
    env: dict[str, str]


@dataclass
class _Function:
    created_at: str
    updated_at: str
    env: dict[str, str]
    rows: list[Deployment] = field(default_factory=list)

    @property
    def current(self) -> Deployment:
        return self.rows[-1]


class MemoryStorage(Storage):
    """Keeps everything in dictionaries under one lock; gone with the process.

    For tests of what stands on a storage: ``sources`` may be damaged to see a corrupt source
    refused, and while ``fail_with`` is set every method raises it.
    """

    checks_replaced = True

    def __init__(self, *, keep_versions: int | None = None) -> None:
        #: How many versions of a function keep their bytes; ``None``: all.
        self.keep_versions = keep_versions
        #: Deployed bytes by deployment id.
        self.sources: dict[str, bytes] = {}
        self.fail_with: FaasError | None = None
        self._collections: dict[str, _Collection] = {"": _Collection(now(), {})}
        self._functions: dict[FunctionRef, _Function] = {}
        self._lock = threading.RLock()

    def create_collection(self, path: str, env: dict[str, str]) -> Collection:
        with self._lock:
            self._fail()
            if path in self._collections:
                raise CollectionExists(f"the collection {path!r} is registered")
            for parent in ancestors(path):
                self._collections.setdefault(parent, _Collection(now(), {}))
            self._collections[path].env = dict(env)
            return self.collection(path)

    def collection(self, path: str) -> Collection:
        with self._lock:
            kept = self._collection(path)
            return Collection(path=path, env_keys=sorted(kept.env), created_at=kept.created_at)

    def collections(self, prefix: str, limit: int, cursor: str | None = None) -> Page[Collection]:
        with self._lock:
            self._fail()
            paths = [
                path
                for path in self._collections
                if path and (not prefix or path == prefix or path.startswith(prefix + "/"))
            ]
            found, following = page_of(paths, limit, cursor)
            return Page([self.collection(path) for path in found], following)

    def delete_collection(self, path: str) -> None:
        with self._lock:
            self._collection(path)
            if (
                not path
                or any(other.startswith(path + "/") for other in self._collections)
                or any(ref.collection_path == path for ref in self._functions)
            ):
                raise CollectionNotEmpty(f"the collection {path!r} is not empty")
            del self._collections[path]

    def collection_env(self, path: str) -> dict[str, str]:
        with self._lock:
            return dict(self._collection(path).env)

    def set_collection_env(self, path: str, env: dict[str, str]) -> None:
        with self._lock:
            self._collection(path).env = dict(env)

    def deploy(self, ref: FunctionRef, draft: Draft) -> DeployOutcome:
        with self._lock:
            self._collection(ref.collection_path)
            function = self._functions.get(ref)
            sha256 = hashlib.sha256(draft.source).hexdigest()
            if function is None and draft.replaces is not None:
                raise FunctionNotFound(f"there is no function {ref}")
            if function is not None:
                current = function.current
                if draft.replaces not in (None, current.deployment_id):
                    raise Superseded(f"version {current.version} of {ref} was deployed meanwhile")
                if current.language is not draft.language:
                    raise LanguageConflict(f"{ref} exists in {current.language.value}")
                if draft.env is not None:
                    function.env, function.updated_at = dict(draft.env), now()
                asked = (sha256, draft.reuse, draft.limits)
                if (current.sha256, current.reuse, current.limits) == asked:
                    return DeployOutcome(current, created=False)
            else:
                made_at = now()
                function = _Function(made_at, made_at, dict(draft.env or {}))
                self._functions[ref] = function
            row = Deployment(
                deployment_id=new_id(),
                function_name=ref.name,
                collection_path=ref.collection_path,
                version=1,
                language=draft.language,
                sha256=sha256,
                size=len(draft.source),
                source_url=draft.source_url,
                reuse=draft.reuse,
                limits=draft.limits,
                created_at=now(),
                current=True,
                checked=draft.checked,
                restored_from=None,
            )
            return DeployOutcome(self._append(function, row, bytes(draft.source)), created=True)

    def deployment(self, ref: FunctionRef, version: int | None = None) -> Deployment:
        with self._lock:
            function = self._function(ref)
            if version is None:
                return function.current
            if not 1 <= version <= function.current.version:
                raise VersionNotFound(f"{ref} has no version {version}")
            row = function.rows[version - 1]
            if row.deployment_id not in self.sources:
                raise VersionNotKept(f"version {version} of {ref} was not kept")
            return row

    def deployment_by_id(self, deployment_id: str, ref: FunctionRef) -> Deployment:
        with self._lock:
            for row in self._function(ref).rows:
                if row.deployment_id == deployment_id and deployment_id in self.sources:
                    return row
            raise VersionNotFound(f"{ref} keeps no deployment {deployment_id}")

    def source(self, deployment: Deployment) -> bytes:
        with self._lock:
            self._fail()
            source = self.sources.get(deployment.deployment_id)
        if source is None:
            raise VersionNotKept(f"version {deployment.version} of {deployment.ref} was not kept")
        if hashlib.sha256(source).hexdigest() != deployment.sha256:
            raise SourceCorrupt(
                f"version {deployment.version} of {deployment.ref} does not match its hash"
            )
        return source

    def versions(self, ref: FunctionRef, limit: int, cursor: str | None = None) -> Page[Deployment]:
        with self._lock:
            rows = [
                row
                for row in reversed(self._function(ref).rows)
                if row.deployment_id in self.sources
            ]
        if cursor is not None:
            key = decode_cursor(cursor)
            if not (key.isascii() and key.isdigit()):
                raise InvalidValue("the cursor is of another list", "cursor", where="query")
            rows = [row for row in rows if row.version < int(key)]
        following = encode_cursor(str(rows[limit - 1].version)) if len(rows) > limit else None
        return Page(rows[:limit], following)

    def rollback(self, ref: FunctionRef, version: int) -> Deployment:
        with self._lock:
            old = self.deployment(ref, version)
            row = msgspec.structs.replace(
                old, deployment_id=new_id(), created_at=now(), current=True, restored_from=version
            )
            return self._append(self._function(ref), row, self.source(old))

    def function(self, ref: FunctionRef) -> Function:
        with self._lock:
            function = self._function(ref)
            return Function(
                name=ref.name,
                collection_path=ref.collection_path,
                language=function.current.language,
                current=function.current,
                env_keys=sorted(function.env),
                created_at=function.created_at,
                updated_at=function.updated_at,
            )

    def functions(
        self, collection_path: str, limit: int, cursor: str | None = None
    ) -> Page[Function]:
        with self._lock:
            self._collection(collection_path)
            names = [ref.name for ref in self._functions if ref.collection_path == collection_path]
            found, following = page_of(names, limit, cursor)
            items = [self.function(FunctionRef(collection_path, name)) for name in found]
            return Page(items, following)

    def delete_function(self, ref: FunctionRef) -> None:
        with self._lock:
            for row in self._function(ref).rows:
                self.sources.pop(row.deployment_id, None)
            del self._functions[ref]

    def function_env(self, ref: FunctionRef) -> dict[str, str]:
        with self._lock:
            return dict(self._function(ref).env)

    def set_function_env(self, ref: FunctionRef, env: dict[str, str]) -> None:
        with self._lock:
            function = self._function(ref)
            function.env, function.updated_at = dict(env), now()

    def resolve(self, ref: FunctionRef, version: int | None = None) -> Resolution:
        with self._lock:  # the version and the env of one moment
            return super().resolve(ref, version)

    def check(self) -> None:
        self._fail()

    def close(self) -> None:
        """Keep everything: a test may look at what was written after the service closed it."""

    def _fail(self) -> None:
        if self.fail_with is not None:
            raise self.fail_with

    def _collection(self, path: str) -> _Collection:
        self._fail()
        try:
            return self._collections[path]
        except KeyError:
            raise CollectionNotFound(f"the collection {path!r} is not registered") from None

    def _function(self, ref: FunctionRef) -> _Function:
        self._fail()
        try:
            return self._functions[ref]
        except KeyError:
            raise FunctionNotFound(f"there is no function {ref}") from None

    def _append(self, function: _Function, row: Deployment, source: bytes) -> Deployment:
        rows = [msgspec.structs.replace(old, current=False) for old in function.rows]
        row = msgspec.structs.replace(row, version=len(rows) + 1)
        function.rows = [*rows, row]
        function.updated_at = row.created_at
        self.sources[row.deployment_id] = source
        if self.keep_versions is not None:
            for old in function.rows[: -self.keep_versions]:
                self.sources.pop(old.deployment_id, None)
        return row
