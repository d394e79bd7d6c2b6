"""Deploys and rollbacks: what a function's next version is, decided under its lock."""

from __future__ import annotations

import msgspec

from lowcode_faas_core.errors import (
    CollectionNotFound,
    FunctionNotFound,
    LanguageConflict,
    Superseded,
)
from lowcode_faas_core.ids import new_id, now
from lowcode_faas_core.model import Deployment, DeployOutcome, Draft, FunctionRef
from lowcode_faas_files.catalogue import Catalogue
from lowcode_faas_files.disk import Folder, Unreadable
from lowcode_faas_files.history import History
from lowcode_faas_files.layout import env_name
from lowcode_faas_files.reader import MAX_JSON_BYTES, View
from lowcode_faas_files.records import Meta, Row, encode, sha256
from lowcode_faas_files.writer import Plan

__all__ = ["Deploys"]


class Deploys:
    """Makes versions."""

    def __init__(self, catalogue: Catalogue, history: History) -> None:
        self._catalogue = catalogue
        self._reader = catalogue.reader
        self._writer = catalogue.writer
        self._tree = catalogue.tree
        self._history = history

    def deploy(self, ref: FunctionRef, draft: Draft) -> DeployOutcome:
        """Create the function or add its next version, as :meth:`Storage.deploy` says."""
        self.require_collection(ref.collection_path)
        with self._catalogue.locked(ref, "deploy") as (root, view):
            digest = sha256(draft.source)
            env = encode(draft.env) if draft.env is not None else None
            # Meta and env without a source are what a removal has left.
            old = view.meta if view.exists else None
            _check_replaced(ref, draft, old)
            if old is not None:
                if old.current.language is not draft.language:
                    raise LanguageConflict(f"{ref} exists in {old.current.language.value}")
                if _is_same(old.current, draft, digest):
                    return self._touch(root, ref, view, old.current, draft, env)
            elif view.working is not None and view.working.language is not draft.language:
                raise LanguageConflict(f"{ref} exists in {view.working.language.value}")
            with self._catalogue.functions_folder(root, ref.collection_path) as functions:
                if not view.exists and view.meta_key is not None:
                    self._writer.clear(functions, ref.name)
                if env is None:
                    env = self._carried_env(root, ref, view)
                row = Row(
                    version=self._catalogue.next_version(root, ref, view) if view.exists else 1,
                    deployment_id=new_id(),
                    language=draft.language,
                    sha256=digest,
                    size=len(draft.source),
                    source_url=draft.source_url,
                    reuse=draft.reuse,
                    limits=draft.limits,
                    created_at=now(),
                    checked=draft.checked,
                    restored_from=None,
                )
                self._commit(functions, ref, "deploy", view, old, row, draft.source, env)
            return DeployOutcome(row.deployment(ref, current=True), created=True)

    def rollback(self, ref: FunctionRef, version: int) -> Deployment:
        """Make an older version current again, as :meth:`Storage.rollback` says."""
        with self._catalogue.locked(ref, "rollback") as (root, view):
            if not view.exists or view.meta is None:
                raise FunctionNotFound(f"there is no function {ref}")
            current = view.meta.current
            with self._catalogue.functions_folder(root, ref.collection_path) as functions:
                with self._history.folder(functions, ref.name) as history:
                    kept = self._history.row(history, current, version, str(ref))
                    source = self._history.read(history, kept, str(ref))
                row = msgspec.structs.replace(
                    kept,
                    version=current.version + 1,
                    deployment_id=new_id(),
                    created_at=now(),
                    restored_from=version,
                )
                env = self._carried_env(root, ref, view)
                self._commit(functions, ref, "rollback", view, view.meta, row, source, env)
            return row.deployment(ref, current=True)

    def require_collection(self, path: str) -> None:
        """Raise before anything is made, so that a refused write leaves no trace."""
        with self._catalogue.reading() as root:
            if root is None:
                if path:
                    raise CollectionNotFound(f"the collection {path!r} is not registered")
                return
            with self._tree.folder(root, path) as folder:
                if folder is not None or not path:
                    return
        raise CollectionNotFound(f"the collection {path!r} is not registered")

    def _touch(
        self,
        root: Folder,
        ref: FunctionRef,
        view: View,
        current: Row,
        draft: Draft,
        env: bytes | None,
    ) -> DeployOutcome:
        """Write the env of a draft that is deployed already, and mend a source file broken since."""
        with self._catalogue.functions_folder(root, ref.collection_path) as functions:
            if env is not None:
                self._writer.replace_json(functions, env_name(ref.name), env, "function-env")
            working = view.working
            if working is not None and (working.fault or working.refused):
                self._writer.replace_source(functions, ref.name, current, draft.source)
        return DeployOutcome(current.deployment(ref, current=True), created=False)

    def _carried_env(self, root: Folder, ref: FunctionRef, view: View) -> bytes | None:
        """Return the env a commit must write although nobody gave one.

        A function leaving the legacy place takes its env along, as it stands. One made anew starts
        without what an earlier one of its name left.
        """
        if view.working is None or not view.working.legacy:
            return None
        with self._reader.home(root, ref) as home:
            if home.functions is not None and home.functions.status(env_name(ref.name)) is not None:
                return None
            if home.legacy is None or home.legacy.status(env_name(ref.name)) is None:
                return None
            try:
                return home.legacy.read(env_name(ref.name), MAX_JSON_BYTES)[0]
            except (FileNotFoundError, Unreadable):
                return None

    def _commit(
        self,
        functions: Folder,
        ref: FunctionRef,
        operation: str,
        view: View,
        old: Meta | None,
        row: Row,
        source: bytes,
        env: bytes | None,
    ) -> None:
        meta = Meta(
            created_at=old.created_at if old is not None else row.created_at,
            current=row,
            replaces=view.working.sha256 if view.working is not None else None,
        )
        plan = Plan(operation, ref.name, old, meta, source, env, publish=True)
        self._writer.commit(functions, plan)


def _check_replaced(ref: FunctionRef, draft: Draft, old: Meta | None) -> None:
    if draft.replaces is None:
        return
    if old is None:
        raise FunctionNotFound(f"there is no function {ref}")
    if old.current.deployment_id != draft.replaces:
        raise Superseded(f"version {old.current.version} of {ref} was deployed meanwhile")


def _is_same(current: Row, draft: Draft, digest: str) -> bool:
    asked = (digest, draft.language, draft.reuse, draft.limits)
    return (current.sha256, current.language, current.reuse, current.limits) == asked
