"""A storage out of anything that keeps bytes by key and has transactions.

Whoever has such a store writes the transaction, four operations long, and gets the whole role;
``docs/writing-a-plugin.md`` shows one. What can answer an invocation in one query of its own, as a
database can, implements :class:`~lowcode_faas_core.interfaces.storage.Storage` itself.
"""

# ruff: noqa: D102  # the interface says what each method does

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable
from contextlib import AbstractContextManager, suppress
from typing import TypeVar

import msgspec

from lowcode_faas_core.errors import (
    CollectionExists,
    CollectionNotEmpty,
    CollectionNotFound,
    EnvCorrupt,
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
    EnvLevel,
    Function,
    FunctionRef,
    Page,
    Resolution,
)
from lowcode_faas_core.names import ancestors, check_collection_path, check_function_name
from lowcode_faas_core.paging import decode_cursor, encode_cursor, page_of

__all__ = ["DocumentStorage", "Documents"]

T = TypeVar("T")

_encode = msgspec.json.encode


class _Collection(msgspec.Struct):
    created_at: str
    env: dict[str, str]


class _Function(msgspec.Struct):
    created_at: str
    updated_at: str
    env: dict[str, str]
    #: The version that is current; they count from 1 without gaps.
    version: int


class Documents(ABC):
    """What one transaction sees and does: bytes by key. Used by one thread."""

    @abstractmethod
    def get(self, key: str) -> bytes | None:
        """**Required.** Return the bytes of ``key``, as this transaction left them, or ``None``."""

    @abstractmethod
    def put(self, key: str, value: bytes) -> None:
        """**Required.** Set the bytes of ``key``."""

    @abstractmethod
    def delete(self, key: str) -> None:
        """**Required.** Remove ``key``, which is there."""

    @abstractmethod
    def keys(self, prefix: str) -> Iterable[str]:
        """**Required.** Return the keys that begin with ``prefix``, in any order.

        Keys are made of ASCII letters, digits, ``_``, ``-``, ``/`` and ``:``.
        """


class DocumentStorage(Storage):
    """Keeps every function and collection in documents.

    Keys begin with ``collection:``, ``function:``, ``version:``, ``id:`` and ``source:``. Left to
    the implementation are :meth:`transaction`, ``check`` and ``close``.
    """

    checks_replaced = True

    @abstractmethod
    def transaction(self, *, write: bool) -> AbstractContextManager[Documents]:
        """**Required.** Begin a transaction, which ends with the block.

        It sees one moment of the store and no other writer. Without ``write`` nothing is put or
        deleted. When the block raises, nothing has happened; when it does not, all of it has, and
        survives power loss before this returns.

        :raises StorageUnavailable: when the store cannot be reached, read or written now.
        :raises CommitUnknown: when it cannot be known whether the transaction took effect.
        """

    def create_collection(self, path: str, env: dict[str, str]) -> Collection:
        check_collection_path(path)
        with self.transaction(write=True) as documents:
            if not path or documents.get(f"collection:{path}") is not None:
                raise CollectionExists(f"the collection {path!r} is registered")
            for each in ancestors(path)[1:]:
                if documents.get(f"collection:{each}") is None:
                    kept = _Collection(now(), env if each == path else {})
                    documents.put(f"collection:{each}", _encode(kept))
            return _shown(path, _collection(documents, path))

    def collection(self, path: str) -> Collection:
        with self.transaction(write=False) as documents:
            return _shown(path, _collection(documents, path))

    def collections(self, prefix: str, limit: int, cursor: str | None = None) -> Page[Collection]:
        with self.transaction(write=False) as documents:
            paths = [key.partition(":")[2] for key in documents.keys("collection:")]
            below = [
                path
                for path in paths
                if path and (not prefix or path == prefix or path.startswith(f"{prefix}/"))
            ]
            found, following = page_of(below, limit, cursor)
            shown = [_shown(path, _collection(documents, path)) for path in found]
            return Page(shown, following)

    def delete_collection(self, path: str) -> None:
        with self.transaction(write=True) as documents:
            _collection(documents, path)
            prefixes = (f"collection:{path}/", f"function:{path}:")
            if not path or any(any(documents.keys(prefix)) for prefix in prefixes):
                raise CollectionNotEmpty(f"the collection {path!r} is not empty")
            documents.delete(f"collection:{path}")

    def collection_env(self, path: str) -> dict[str, str]:
        with self.transaction(write=False) as documents:
            return _collection(documents, path).env

    def set_collection_env(self, path: str, env: dict[str, str]) -> None:
        with self.transaction(write=True) as documents:
            kept = _collection(documents, path)
            kept.env = env
            documents.put(f"collection:{path}", _encode(kept))

    def deploy(self, ref: FunctionRef, draft: Draft) -> DeployOutcome:
        check_function_name(ref.name)
        sha256 = hashlib.sha256(draft.source).hexdigest()
        with self.transaction(write=True) as documents:
            _collection(documents, ref.collection_path)
            function = _found(documents, ref)
            if function is None:
                if draft.replaces is not None:
                    raise FunctionNotFound(f"there is no function {ref}")
                moment = now()
                function = _Function(moment, moment, draft.env or {}, 0)
            else:
                current = _version(documents, ref, function)
                if draft.replaces not in (None, current.deployment_id):
                    raise Superseded(f"version {current.version} of {ref} was deployed meanwhile")
                if current.language is not draft.language:
                    raise LanguageConflict(f"{ref} exists in {current.language.value}")
                if draft.env is not None:
                    function.env, function.updated_at = draft.env, now()
                asked = (sha256, draft.reuse, draft.limits)
                if (current.sha256, current.reuse, current.limits) == asked:
                    documents.put(_key(ref), _encode(function))
                    return DeployOutcome(current, created=False)
            row = Deployment(
                deployment_id=new_id(),
                function_name=ref.name,
                collection_path=ref.collection_path,
                version=function.version + 1,
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
            _add(documents, function, row, draft.source)
            return DeployOutcome(row, created=True)

    def deployment(self, ref: FunctionRef, version: int | None = None) -> Deployment:
        with self.transaction(write=False) as documents:
            return _version(documents, ref, _function(documents, ref), version)

    def deployment_by_id(self, deployment_id: str, ref: FunctionRef) -> Deployment:
        with self.transaction(write=False) as documents:
            function = _function(documents, ref)
            version = documents.get(f"id:{ref.collection_path}:{ref.name}:{deployment_id}")
            if version is None:
                raise VersionNotFound(f"{ref} has no deployment {deployment_id}")
            return _version(documents, ref, function, int(version))

    def source(self, deployment: Deployment) -> bytes:
        with self.transaction(write=False) as documents:
            return _source(documents, deployment)

    def versions(self, ref: FunctionRef, limit: int, cursor: str | None = None) -> Page[Deployment]:
        with self.transaction(write=False) as documents:
            function = _function(documents, ref)
            newest = function.version
            if cursor is not None:
                key = decode_cursor(cursor)
                if not (key.isascii() and key.isdigit()):
                    raise InvalidValue("the cursor is of another list", "cursor", where="query")
                newest = min(newest, int(key) - 1)
            last = max(newest - limit, 0)
            rows = [_version(documents, ref, function, n) for n in range(newest, last, -1)]
            return Page(rows, encode_cursor(str(last + 1)) if last else None)

    def rollback(self, ref: FunctionRef, version: int) -> Deployment:
        with self.transaction(write=True) as documents:
            function = _function(documents, ref)
            old = _version(documents, ref, function, version)
            row = msgspec.structs.replace(
                old,
                deployment_id=new_id(),
                version=function.version + 1,
                created_at=now(),
                current=True,
                restored_from=version,
            )
            _add(documents, function, row, _source(documents, old))
            return row

    def function(self, ref: FunctionRef) -> Function:
        with self.transaction(write=False) as documents:
            return _listed(documents, ref)

    def functions(
        self, collection_path: str, limit: int, cursor: str | None = None
    ) -> Page[Function]:
        with self.transaction(write=False) as documents:
            _collection(documents, collection_path)
            keys = documents.keys(f"function:{collection_path}:")
            names, following = page_of((key.rpartition(":")[2] for key in keys), limit, cursor)
            items: list[Function] = []
            for name in names:
                with suppress(EnvCorrupt, VersionNotFound):
                    items.append(_listed(documents, FunctionRef(collection_path, name)))
            return Page(items, following)

    def delete_function(self, ref: FunctionRef) -> None:
        with self.transaction(write=True) as documents:
            function = _function(documents, ref)
            for number in range(1, function.version + 1):
                row = _version(documents, ref, function, number)
                for key in _keys(row):
                    documents.delete(key)
            documents.delete(_key(ref))

    def function_env(self, ref: FunctionRef) -> dict[str, str]:
        with self.transaction(write=False) as documents:
            return _function(documents, ref).env

    def set_function_env(self, ref: FunctionRef, env: dict[str, str]) -> None:
        with self.transaction(write=True) as documents:
            function = _function(documents, ref)
            function.env, function.updated_at = env, now()
            documents.put(_key(ref), _encode(function))

    def resolve(self, ref: FunctionRef, version: int | None = None) -> Resolution:
        with self.transaction(write=False) as documents:
            function = _function(documents, ref)
            deployment = _version(documents, ref, function, version)
            levels = [
                EnvLevel("collection", path, _collection(documents, path).env)
                for path in ancestors(ref.collection_path)
            ]
            levels.append(EnvLevel("function", str(ref), function.env))
            return Resolution(deployment, tuple(levels))


def _key(ref: FunctionRef) -> str:
    return f"function:{ref.collection_path}:{ref.name}"


def _keys(row: Deployment) -> tuple[str, str, str]:
    of = f"{row.collection_path}:{row.function_name}"
    return (
        f"version:{of}:{row.version}",
        f"id:{of}:{row.deployment_id}",
        f"source:{row.deployment_id}",
    )


def _decoded(kept: bytes, kind: type[T], what: str) -> T:
    try:
        return msgspec.json.decode(kept, type=kind)
    except msgspec.MsgspecError as error:
        raise EnvCorrupt(f"what is kept of {what} cannot be read: {error}") from error


def _collection(documents: Documents, path: str) -> _Collection:
    check_collection_path(path)
    kept = documents.get(f"collection:{path}")
    if kept is not None:
        return _decoded(kept, _Collection, f"the collection {path!r}")
    if path:
        raise CollectionNotFound(f"the collection {path!r} is not registered")
    return _Collection("1970-01-01T00:00:00.000000Z", {})  # the root, before it has an env


def _shown(path: str, kept: _Collection) -> Collection:
    return Collection(path=path, env_keys=sorted(kept.env), created_at=kept.created_at)


def _found(documents: Documents, ref: FunctionRef) -> _Function | None:
    check_collection_path(ref.collection_path)
    check_function_name(ref.name)
    kept = documents.get(_key(ref))
    return None if kept is None else _decoded(kept, _Function, f"the function {ref}")


def _function(documents: Documents, ref: FunctionRef) -> _Function:
    function = _found(documents, ref)
    if function is None:
        raise FunctionNotFound(f"there is no function {ref}")
    return function


def _version(
    documents: Documents, ref: FunctionRef, function: _Function, version: int | None = None
) -> Deployment:
    number = function.version if version is None else version
    kept = documents.get(f"version:{ref.collection_path}:{ref.name}:{number}")
    if kept is None:
        raise VersionNotFound(f"{ref} has no version {number}")
    row = _decoded(kept, Deployment, f"version {number} of {ref}")
    return msgspec.structs.replace(row, current=number == function.version)


def _listed(documents: Documents, ref: FunctionRef) -> Function:
    function = _function(documents, ref)
    current = _version(documents, ref, function)
    return Function(
        name=ref.name,
        collection_path=ref.collection_path,
        language=current.language,
        current=current,
        env_keys=sorted(function.env),
        created_at=function.created_at,
        updated_at=function.updated_at,
    )


def _source(documents: Documents, deployment: Deployment) -> bytes:
    where = f"version {deployment.version} of {deployment.ref}"
    source = documents.get(f"source:{deployment.deployment_id}")
    if source is None:
        raise VersionNotKept(f"{where} was not kept")
    if hashlib.sha256(source).hexdigest() != deployment.sha256:
        raise SourceCorrupt(f"{where} does not match its hash")
    return source


def _add(documents: Documents, function: _Function, row: Deployment, source: bytes) -> None:
    version, by_id, source_key = _keys(row)
    documents.put(version, _encode(row))
    documents.put(by_id, str(row.version).encode())
    documents.put(source_key, source)
    function.version, function.updated_at = row.version, row.created_at
    documents.put(_key(row.ref), _encode(function))
