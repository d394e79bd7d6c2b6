"""The ``files`` storage: one data folder for people and for the platform alike."""

# ruff: noqa: D102  # the interface says what each method does

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from lowcode_faas_core.errors import (
    CollectionNotFound,
    FaasError,
    FunctionNotFound,
    InvalidValue,
    VersionNotFound,
    VersionNotKept,
)
from lowcode_faas_core.interfaces.storage import SourceChecker, Storage
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
    Reuse,
)
from lowcode_faas_core.names import ancestors
from lowcode_faas_core.paging import decode_cursor, encode_cursor, page_of
from lowcode_faas_files.catalogue import Catalogue, Known, NotAdopted, remember
from lowcode_faas_files.deploys import Deploys
from lowcode_faas_files.disk import Folder
from lowcode_faas_files.faultpoints import Step, no_step
from lowcode_faas_files.history import History
from lowcode_faas_files.layout import COLLECTION_ENV, FUNCTIONS, env_name, function_names
from lowcode_faas_files.looks import APART_S
from lowcode_faas_files.reader import Reader, Watched, enter, is_unchanged
from lowcode_faas_files.records import Row, encode
from lowcode_faas_files.tree import Tree, timestamp
from lowcode_faas_files.writer import Writer

__all__ = ["FilesStorage"]

#: Sources kept between the look that has read them and the run it was for, and their longest, in bytes.
MAX_JUST_READ = 16
MAX_JUST_READ_BYTES = 64 << 10


@dataclass(slots=True)
class _Resolved:
    """What an invocation was last answered, and the files that this depends on."""

    watched: Watched
    #: Whether a change of those files is sure to show.
    settled: bool
    resolution: Resolution
    pinned: dict[int, Resolution] = field(default_factory=dict)


class FilesStorage(Storage):
    """Keeps functions as files; the README says what lies where and what a crash leaves.

    Reads take no lock. Nothing is opened before the first use, and nothing stays open after it.
    """

    checks_replaced = True

    def __init__(
        self,
        data_dir: Path,
        *,
        keep_versions: int = 1,
        source_bytes: int = 1 << 20,
        default_reuse: Reuse = Reuse.WARM,
        step: Step = no_step,
    ) -> None:
        path = os.path.abspath(data_dir)  # noqa: PTH100  # Path.resolve() would touch the disk
        self._reader = Reader(path, source_bytes)
        self._history = History(keep_versions)
        self._writer = Writer(self._history, step)
        self._tree = Tree(step)
        self._catalogue = Catalogue(
            path, self._reader, self._writer, self._tree, default_reuse, step
        )
        self._deploys = Deploys(self._catalogue, self._history)
        self._step = step
        self._resolved: dict[FunctionRef, _Resolved] = {}
        self._just_read: deque[tuple[str, bytes]] = deque(maxlen=MAX_JUST_READ)

    def resolve(self, ref: FunctionRef, version: int | None = None) -> Resolution:
        known = self.known(ref, version)
        if known is not None:
            return known
        resolved = self._resolve(ref)
        found = _of(resolved, version)
        if found is None:
            assert version is not None  # noqa: S101  # the current one is there
            deployment = self.deployment(ref, version)
            if deployment.current:
                return self.resolve(ref)
            found = Resolution(deployment, resolved.resolution.levels)
            resolved.pinned[version] = found
        return found

    def known(self, ref: FunctionRef, version: int | None = None) -> Resolution | None:
        resolved = self._resolved.get(ref)
        if resolved is None or not resolved.settled or not is_unchanged(resolved.watched):
            return None
        return _of(resolved, version)

    def _resolve(self, ref: FunctionRef) -> _Resolved:
        known = self._catalogue.known(ref)
        if known.view.env_error is not None:
            raise known.view.env_error
        watched = list(known.view.watched)
        settled = known.view.settled
        levels = []
        for path in ancestors(ref.collection_path):
            try:
                level = self._catalogue.level(path)
            except CollectionNotFound:
                raise FunctionNotFound(f"there is no function {ref}") from None
            if level.error is not None:
                raise level.error
            levels.append(EnvLevel("collection", path, level.env))
            watched += level.watched
            settled = settled and level.settled
        levels.append(EnvLevel("function", str(ref), known.view.env))
        current, source = known.meta.current, known.source
        if source is not None and len(source) <= MAX_JUST_READ_BYTES:
            self._just_read.append((current.deployment_id, source))
        resolution = Resolution(current.deployment(ref, current=True), tuple(levels))
        resolved = _Resolved(tuple(dict.fromkeys(watched)), settled, resolution)
        old = self._resolved.get(ref)
        if old is not None and old.resolution == resolution:
            resolved.resolution, resolved.pinned = old.resolution, old.pinned
        remember(self._resolved, ref, resolved)
        return resolved

    def deployment(self, ref: FunctionRef, version: int | None = None) -> Deployment:
        known = self._catalogue.known(ref)
        current = known.meta.current
        if version is None or version == current.version:
            return current.deployment(ref, current=True)
        with self._kept(ref) as history:
            row = self._history.row(history, current, version, str(ref))
        return row.deployment(ref, current=False)

    def deployment_by_id(self, deployment_id: str, ref: FunctionRef) -> Deployment:
        current = self._catalogue.known(ref).meta.current
        if current.deployment_id == deployment_id:
            return current.deployment(ref, current=True)
        with self._kept(ref) as history:
            for row in self._history.rows(history, current, lambda _, one: one == deployment_id):
                return row.deployment(ref, current=False)
        raise VersionNotFound(f"{ref} keeps no deployment {deployment_id}")

    def source(self, deployment: Deployment) -> bytes:
        for entry in tuple(self._just_read):
            if entry[0] == deployment.deployment_id:
                with suppress(ValueError):
                    self._just_read.remove(entry)
                return entry[1]
        ref = deployment.ref
        row = Row(
            version=deployment.version,
            deployment_id=deployment.deployment_id,
            language=deployment.language,
            sha256=deployment.sha256,
            size=deployment.size,
            source_url=deployment.source_url,
            reuse=deployment.reuse,
            limits=deployment.limits,
            created_at=deployment.created_at,
            checked=deployment.checked,
            restored_from=deployment.restored_from,
        )
        try:
            with self._kept(ref) as history:
                return self._history.read(history, row, str(ref))
        except VersionNotKept:
            source = self._from_working(ref, row)
            if source is None:
                raise
            return source

    def versions(self, ref: FunctionRef, limit: int, cursor: str | None = None) -> Page[Deployment]:
        rows = self._rows(ref)
        if cursor is not None:
            key = decode_cursor(cursor)
            if not (key.isascii() and key.isdigit() and len(key) < 20):
                raise InvalidValue("the cursor is of another list", "cursor", where="query")
            rows = [row for row in rows if row.version < int(key)]
        following = encode_cursor(str(rows[limit - 1].version)) if len(rows) > limit else None
        return Page(rows[:limit], following)

    def function(self, ref: FunctionRef) -> Function:
        return _function(ref, self._catalogue.known(ref))

    def functions(
        self, collection_path: str, limit: int, cursor: str | None = None
    ) -> Page[Function]:
        names: set[str] = set()
        with self._catalogue.reading() as root:
            if root is not None:
                with self._tree.folder(root, collection_path) as folder:
                    if folder is None and collection_path:
                        raise CollectionNotFound(f"no collection {collection_path!r}")
                    names |= _names_in(folder)
                if not collection_path:
                    names |= _names_in(root)
            elif collection_path:
                raise CollectionNotFound(f"no collection {collection_path!r}")
        page, following = page_of(names, limit, cursor)
        found: dict[str, Function] = {}
        again = []
        for name in page:
            ref = FunctionRef(collection_path, name)
            try:
                known = self._catalogue.known(ref, wait=False)
            except NotAdopted:
                again.append(name)
            except FaasError:
                continue
            else:
                found[name] = _function(ref, known)
                if known.view.is_edited:
                    again.append(name)
        if again:
            # One wait serves the second look at all of them.
            time.sleep(APART_S)
        for name in again:
            ref = FunctionRef(collection_path, name)
            try:
                found[name] = _function(ref, self._catalogue.known(ref, wait=False))
            except FaasError:
                found.pop(name, None)
        return Page([found[name] for name in page if name in found], following)

    def function_env(self, ref: FunctionRef) -> dict[str, str]:
        view = self._catalogue.known(ref).view
        if view.env_error is not None:
            raise view.env_error
        return dict(view.env)

    def deploy(self, ref: FunctionRef, draft: Draft) -> DeployOutcome:
        return self._deploys.deploy(ref, draft)

    def rollback(self, ref: FunctionRef, version: int) -> Deployment:
        return self._deploys.rollback(ref, version)

    def delete_function(self, ref: FunctionRef) -> None:
        with self._catalogue.locked(ref, "delete") as (root, view):
            if view.working is None:
                raise FunctionNotFound(f"there is no function {ref}")
            with self._reader.home(root, ref) as home:
                self._writer.delete(home, ref.name, view)

    def set_function_env(self, ref: FunctionRef, env: dict[str, str]) -> None:
        with self._catalogue.locked(ref, "function-env") as (root, view):
            if not view.exists:
                raise FunctionNotFound(f"there is no function {ref}")
            with self._catalogue.functions_folder(root, ref.collection_path) as functions:
                self._writer.replace_json(
                    functions, env_name(ref.name), encode(env), "function-env"
                )

    def create_collection(self, path: str, env: dict[str, str]) -> Collection:
        with self._catalogue.writing() as root, self._catalogue.locks.tree(root):
            self._tree.create(root, path, env)
        return self.collection(path)

    def collection(self, path: str) -> Collection:
        level = self._catalogue.level(path)
        with self._catalogue.reading() as root:
            if root is None:
                return Collection(path=path, env_keys=[], created_at=timestamp(0))
            with self._tree.folder(root, path) as folder:
                if folder is None and path:
                    raise CollectionNotFound(f"the collection {path!r} is not registered")
                created_at = self._tree.created_at(folder if folder is not None else root)
        return Collection(path=path, env_keys=sorted(level.env), created_at=created_at)

    def collections(self, prefix: str, limit: int, cursor: str | None = None) -> Page[Collection]:
        with self._catalogue.reading() as root:
            paths = self._tree.paths(root, prefix) if root is not None else []
        page, following = page_of(paths, limit, cursor)
        items = []
        for path in page:
            try:
                items.append(self.collection(path))
            except CollectionNotFound:
                continue
        return Page(items, following)

    def delete_collection(self, path: str) -> None:
        with self._catalogue.writing() as root, self._catalogue.locks.tree(root):
            self._tree.delete(root, path)

    def collection_env(self, path: str) -> dict[str, str]:
        level = self._catalogue.level(path)
        if level.error is not None:
            raise level.error
        return dict(level.env)

    def set_collection_env(self, path: str, env: dict[str, str]) -> None:
        if path:
            self._deploys.require_collection(path)
        with self._catalogue.writing() as root, self._catalogue.locks.tree(root):
            self._step("collection-env.locked")
            with self._tree.made(root, path) as folder:
                self._writer.replace_json(folder, COLLECTION_ENV, encode(env), "collection-env")

    def check_sources_with(self, checker: SourceChecker) -> None:
        self._catalogue.syntax.checker = checker

    def check(self) -> None:
        self._catalogue.check()

    def close(self) -> None:
        """Do nothing: no descriptor, thread or lock outlives the call that opened it."""

    @contextmanager
    def _kept(self, ref: FunctionRef) -> Iterator[Folder | None]:
        """Open the folder of a function's kept versions."""
        with self._catalogue.reading() as root:
            if root is None:
                yield None
                return
            with (
                self._reader.home(root, ref) as home,
                self._history.folder(home.functions, ref.name) as history,
            ):
                yield history

    def _rows(self, ref: FunctionRef) -> list[Deployment]:
        current = self._catalogue.known(ref).meta.current
        with self._kept(ref) as history:
            rows = self._history.rows(history, current)
        return [row.deployment(ref, current=row is current) for row in rows]

    def _from_working(self, ref: FunctionRef, row: Row) -> bytes | None:
        """Return a version whose kept bytes somebody removed, if the source file still is it."""
        with self._catalogue.reading() as root:
            if root is None:
                return None
            view = self._reader.view(root, ref, repair=True)
            if view.working is None or view.working.sha256 != row.sha256:
                return None
            with self._reader.home(root, ref) as home:
                return view.working.read(home, row.size)


def _names_in(folder: Folder | None) -> set[str]:
    functions = enter(folder, FUNCTIONS) if folder is not None else None
    if functions is None:
        return set()
    with functions:
        # A meta file without a source is a commit cut short, or what a removal has left.
        return function_names(functions.names(), meta=True)


def _function(ref: FunctionRef, known: Known) -> Function:
    current = known.meta.current
    updated_at = current.created_at
    if known.view.env_key is not None:
        updated_at = max(updated_at, timestamp(known.view.env_key[1]))
    return Function(
        name=ref.name,
        collection_path=ref.collection_path,
        language=current.language,
        current=current.deployment(ref, current=True),
        env_keys=sorted(known.view.env),
        created_at=known.meta.created_at,
        updated_at=updated_at,
    )


def _of(resolved: _Resolved, version: int | None) -> Resolution | None:
    current = resolved.resolution
    if version is None or version == current.deployment.version:
        return current
    return resolved.pinned.get(version)
