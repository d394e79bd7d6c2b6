"""How a function changes on disk: staged, committed by one rename, then put where people look.

Callers hold the function's lock.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import dataclass

from lowcode_faas_core.errors import CommitUnknown, FunctionNotFound
from lowcode_faas_core.model import Language
from lowcode_faas_files.disk import Folder, stamp_after
from lowcode_faas_files.faultpoints import Step
from lowcode_faas_files.history import History
from lowcode_faas_files.layout import (
    VERSIONS,
    env_name,
    meta_name,
    source_name,
)
from lowcode_faas_files.reader import Home, View, enter
from lowcode_faas_files.records import Meta, Row, encode

__all__ = ["Plan", "Writer"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """One commit: the new meta, its bytes, and what of it people shall see under its name.

    ``env=None`` leaves the env file; ``publish`` is false when the source file is already there.
    """

    operation: str
    name: str
    old: Meta | None
    new: Meta
    source: bytes
    env: bytes | None
    publish: bool


class Writer:
    """Writes functions; ``step`` is called at every point where a crash could cut a write short."""

    def __init__(self, history: History, step: Step) -> None:
        self._history = history
        self._step = step

    def commit(self, functions: Folder, plan: Plan) -> None:
        """Make a new version current.

        Before the rename of the meta file nothing has happened; after it everything has, and what
        a crash leaves undone is finished by whoever looks next.

        :raises CommitUnknown: when the disk does not say whether the rename will last.
        """
        name, row, operation = plan.name, plan.new.current, plan.operation
        functions.refuse_clash(
            meta_name(name), env_name(name), *(source_name(name, one) for one in Language)
        )
        with functions.make(VERSIONS) as versions, versions.make(name) as history:
            self._step(f"{operation}.history-open")
            staged: list[tuple[Folder, str]] = []
            try:
                source = self._stage(functions, history, plan, staged)
                meta = functions.stage(
                    encode(plan.new), stamp_after(functions.status(meta_name(name)))
                )
                staged.append((functions, meta))
                self._step(f"{operation}.meta-staged")
                functions.rename(meta, meta_name(name))
            except BaseException:
                for folder, file in reversed(staged):
                    folder.discard(file)
                raise
            self._step(f"{operation}.committed")
            try:
                functions.sync()
            except OSError as error:
                functions.discard(source)
                raise CommitUnknown(
                    f"version {row.version} of {name} may not outlive a power loss: {error.strerror}"
                ) from error
            self._step(f"{operation}.commit-synced")
            try:
                if plan.publish:
                    self._publish(functions, history, plan, source)
                self._history.prune(history, plan.new.current)
                self._step(f"{operation}.pruned")
                # A power loss could bring the marker back, and with it the staged env: whoever
                # recovers would put it in the place of one that was set since.
                history.sync()
            except OSError as error:
                # The commit stands, and readers go by it: the files follow at the next look.
                functions.discard(source)
                log.warning("version %s of %s is current, but: %s", row.version, name, error)

    def _stage(
        self, functions: Folder, history: Folder, plan: Plan, staged: list[tuple[Folder, str]]
    ) -> str:
        """Write everything the commit needs, durably; return the staged source's name."""
        name, row, operation = plan.name, plan.new.current, plan.operation
        if plan.old is not None and self._history.keep_versions > 1:
            old_row = f"{plan.old.current.stem}.json"
            if history.status(old_row) is None:
                history.put(old_row, encode(plan.old.current))
        self._step(f"{operation}.row-kept")
        archive = history.stage(plan.source)
        staged.append((history, archive))
        self._step(f"{operation}.archive-staged")
        history.rename(archive, row.archive)
        staged.append((history, row.archive))
        self._step(f"{operation}.archived")
        if plan.env is not None:
            stamp = stamp_after(functions.status(env_name(name)))
            history.put(f"{row.stem}.env.json", plan.env, stamp)
            staged.append((history, f"{row.stem}.env.json"))
            self._step(f"{operation}.env-staged")
        source = ""
        if plan.publish:
            history.touch(f"{row.stem}.publishing")
            staged.append((history, f"{row.stem}.publishing"))
            self._step(f"{operation}.marked")
            source = functions.stage(plan.source, self._source_stamp(functions, name))
            staged.append((functions, source))
            self._step(f"{operation}.source-staged")
        history.sync()
        self._step(f"{operation}.history-synced")
        return source

    def _publish(self, functions: Folder, history: Folder, plan: Plan, source: str) -> None:
        row, operation = plan.new.current, plan.operation
        if plan.env is not None:
            history.rename(f"{row.stem}.env.json", env_name(plan.name), functions)
            self._step(f"{operation}.env-published")
        functions.rename(source, source_name(plan.name, row.language))
        self._step(f"{operation}.source-published")
        functions.sync()
        self._step(f"{operation}.published-synced")
        history.discard(f"{row.stem}.publishing")
        self._step(f"{operation}.marker-removed")

    def last_version(self, functions: Folder | None, name: str) -> int:
        """Return the highest version there was, for a function whose meta file is damaged."""
        return self._history.last_version(functions, name)

    def recover(self, functions: Folder, name: str, view: View) -> None:
        """Finish what a crash cut short after the commit."""
        if view.meta is None:
            return
        row, working = view.meta.current, view.working
        with functions.sub(VERSIONS) as versions, versions.sub(name) as history:
            staged_env = f"{row.stem}.env.json"
            if history.status(staged_env) is not None:
                history.rename(staged_env, env_name(name), functions)
            self._step("recover.env-published")
            # A valid file that is neither the old source nor the new was edited by hand since.
            if (
                working is None
                or working.fault is not None
                or working.sha256 in (view.meta.replaces, row.sha256)
            ):
                source = self._history.read(history, row, name)
                self._step("recover.source-read")
                stamp = self._source_stamp(functions, name)
                functions.put(source_name(name, row.language), source, stamp)
            self._step("recover.source-published")
            functions.sync()
            history.sync()
            self._step("recover.published-synced")
            history.discard(f"{row.stem}.publishing")
            history.sync()
            self._step("recover.marker-removed")
            log.info("finished the interrupted deploy of version %s of %s", row.version, name)

    def replace_source(self, functions: Folder, name: str, row: Row, data: bytes) -> None:
        """Put the current version's bytes back under its name."""
        stamp = self._source_stamp(functions, name)
        functions.put(source_name(name, row.language), data, stamp)
        functions.sync()

    def replace_json(self, folder: Folder, name: str, data: bytes, operation: str) -> None:
        """Write an env file whole or not at all."""
        folder.refuse_clash(name)
        temporary = folder.stage(data, stamp_after(folder.status(name)))
        try:
            self._step(f"{operation}.staged")
            folder.rename(temporary, name)
        except BaseException:
            folder.discard(temporary)
            raise
        self._step(f"{operation}.renamed")
        try:
            folder.sync()
        except OSError as error:
            raise CommitUnknown(f"{name} may not outlive a power loss: {error.strerror}") from error
        self._step(f"{operation}.synced")

    def delete(self, home: Home, name: str, view: View) -> None:
        """Remove a function; the removal of the source that counts is the commit.

        What that source shadows goes first: a crash in between must not bring it to light. Meta,
        env and history without a source are leftovers, which nothing reads.
        """
        working = view.working
        if working is None:
            raise FunctionNotFound(f"there is no function {name}")
        sources = [source_name(name, language) for language in Language]
        counts = working.path.rpartition("/")[2]
        place = home.legacy if working.legacy else home.functions
        if place is not None:
            place.refuse_clash(counts)
        if home.legacy is not None and not working.legacy:
            _remove_all(home.legacy, [env_name(name)])
            self._step("delete.legacy-env-removed")
            _remove_all(home.legacy, sources)
        if home.functions is not None:
            _remove_all(home.functions, [source for source in sources if source != counts])
        self._step("delete.shadowed-removed")
        if place is not None:
            if working.legacy:
                _remove_all(place, [source for source in sources if source != counts])
            place.remove(counts)
            self._step("delete.source-removed")
            try:
                place.sync()
            except OSError as error:
                raise CommitUnknown(
                    f"the end of {name} may not outlive a power loss: {error.strerror}"
                ) from error
            self._step("delete.removal-synced")
        # It is gone: what stays behind is cleared by the next write of that name.
        try:
            if place is not None and working.legacy:
                _remove_all(place, [env_name(name)])
            if home.functions is not None:
                self.clear(home.functions, name)
        except OSError as error:
            if place is None:
                raise
            log.warning("%s is deleted, but not all it had: %s", name, error)

    def clear(self, functions: Folder, name: str) -> None:
        """Remove what a function without a source has left."""
        functions.remove(env_name(name))
        self._step("delete.env-removed")
        versions = enter(functions, VERSIONS)
        if versions is not None:
            with versions:
                versions.remove_tree(name)
        self._step("delete.history-removed")
        functions.remove(meta_name(name))
        self._step("delete.meta-removed")
        with suppress(OSError):
            functions.sync()

    @staticmethod
    def _source_stamp(functions: Folder, name: str) -> int:
        """Return an mtime newer than both sources': the newer one of two counts."""
        return max(
            stamp_after(functions.status(source_name(name, language))) for language in Language
        )


def _remove_all(folder: Folder, names: list[str]) -> None:
    found = [name for name in names if folder.status(name) is not None]
    for name in found:
        folder.remove(name)
    if found:
        folder.sync()
