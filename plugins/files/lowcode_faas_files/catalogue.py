"""The functions as they are now: hand edits adopted, interrupted writes finished, the rest cached."""

from __future__ import annotations

import errno
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from lowcode_faas_core.errors import (
    CollectionNotFound,
    FaasError,
    FunctionNotFound,
    SourceCorrupt,
    StorageUnavailable,
)
from lowcode_faas_core.ids import new_id, now
from lowcode_faas_core.model import FunctionRef, Limits, Reuse
from lowcode_faas_files.disk import Folder, platform_error
from lowcode_faas_files.faultpoints import Step
from lowcode_faas_files.layout import FUNCTIONS
from lowcode_faas_files.locks import Busy, Locks
from lowcode_faas_files.looks import Looks
from lowcode_faas_files.reader import Level, Reader, View, is_unchanged
from lowcode_faas_files.records import Meta, Row
from lowcode_faas_files.syntax import Syntax
from lowcode_faas_files.tree import Tree, sweep
from lowcode_faas_files.writer import Plan, Writer

__all__ = ["Catalogue", "Known", "NotAdopted", "guarded", "remember"]

log = logging.getLogger(__name__)

#: Functions and collections whose last state is kept in memory: metadata and env, no sources.
MAX_CACHED = 10_000
_READ_ONLY = {errno.EROFS, errno.EACCES, errno.EPERM}

K = TypeVar("K")
V = TypeVar("V")


def remember(cache: dict[K, V], key: K, value: V) -> None:
    """Put a value into a bounded cache that threads share; the oldest leaves."""
    if len(cache) >= MAX_CACHED and key not in cache:
        cache.pop(next(iter(cache)), None)
    cache[key] = value


@contextmanager
def guarded() -> Iterator[None]:
    """Turn errors of the file system into the platform's."""
    try:
        yield
    except OSError as error:
        raise platform_error(error) from error


class NotAdopted(FunctionNotFound):
    """Raised for a new source file that is still changing, or in a folder that is read-only."""


@dataclass(slots=True)
class Known:
    """A function that exists, with its current version recorded."""

    meta: Meta
    view: View
    #: The bytes of the current version, where this look has read them.
    source: bytes | None = None


class Catalogue:
    """Finds functions and keeps their records in step with their files."""

    def __init__(
        self, path: str, reader: Reader, writer: Writer, tree: Tree, reuse: Reuse, step: Step
    ) -> None:
        self.path = path
        self.reader = reader
        self.writer = writer
        self.tree = tree
        self.locks = Locks()
        self.syntax = Syntax()
        self._reuse = reuse
        self._step = step
        self._looks = Looks()
        self._views: dict[FunctionRef, View] = {}
        self._levels: dict[str, Level] = {}
        self._swept = False
        self._sweeping = threading.Lock()

    @contextmanager
    def reading(self) -> Iterator[Folder | None]:
        """Open the data folder, ``None`` when nothing was ever written to it."""
        with guarded():
            try:
                root = Folder.root(self.path)
            except FileNotFoundError:
                yield None
                return
            with root:
                self._sweep(root)
                yield root

    @contextmanager
    def writing(self) -> Iterator[Folder]:
        """Open the data folder, made when it is absent."""
        with guarded():
            try:
                root = Folder.root(self.path)
            except FileNotFoundError:
                root = _make_root(self.path)
            with root:
                self._sweep(root)
                yield root

    def known(self, ref: FunctionRef, *, wait: bool = True) -> Known:
        """Return a function as it is now.

        A source edited by hand is adopted first, once it has stopped changing; with ``wait`` that
        may take two looks 50 ms apart.

        :raises FunctionNotFound: when there is none.
        :raises SourceCorrupt: when there is no version that could run.
        """
        old = self._views.get(ref)
        if old is not None and old.meta is not None and old.settled and is_unchanged(old.watched):
            return Known(old.meta, old)
        with self.reading() as root:
            if root is None:
                raise FunctionNotFound(f"there is no function {ref}")
            view = self.reader.view(root, ref, old)
            if view.publishing or view.is_edited:
                view = self._catch_up(root, ref, view, wait)
        if not view.exists:
            self._views.pop(ref, None)
            raise FunctionNotFound(f"there is no function {ref}")
        source = _taken(view)
        remember(self._views, ref, view)
        return _known(ref, view, source)

    @contextmanager
    def locked(self, ref: FunctionRef, operation: str) -> Iterator[tuple[Folder, View]]:
        """Hold a function for writing, its files and records in step; it need not exist.

        A damaged meta file counts as absent: what is to be written replaces it.
        """
        with self.writing() as root, self.locks.function(root, ref):
            self._step(f"{operation}.locked")
            view = self.reader.view(root, ref, repair=True)
            if view.publishing or (
                view.is_edited and view.working and self._looks.is_settled(view.working)
            ):
                self._settle(root, ref, view)
                edited, view = view.working, self.reader.view(root, ref, repair=True)
                if edited and view.working and edited.key == view.working.key:
                    view.working.refused = edited.refused
            yield root, view

    def level(self, path: str) -> Level:
        """Return the env of one collection as it is now.

        :raises CollectionNotFound: when it is not registered.
        """
        old = self._levels.get(path)
        if old is not None and old.settled and is_unchanged(old.watched):
            return old
        with self.reading() as root:
            found = self.reader.level(root, path, old) if root is not None else None
        if found is None:
            self._levels.pop(path, None)
            if path:
                raise CollectionNotFound(f"the collection {path!r} is not registered")
            return Level({}, None, (), settled=False)
        if old is not None and old.error is None and found.error is None and old.env == found.env:
            found.env = old.env
        remember(self._levels, path, found)
        return found

    @contextmanager
    def functions_folder(self, root: Folder, collection_path: str) -> Iterator[Folder]:
        """Open where a collection's functions are written, made when it is absent."""
        with (
            self.tree.made(root, collection_path) as collection,
            collection.make(FUNCTIONS) as functions,
        ):
            yield functions

    def next_version(self, root: Folder, ref: FunctionRef, view: View) -> int:
        """Return the number of a function's next version; its lock is held."""
        if view.meta is not None:
            return view.meta.current.version + 1
        if not view.is_damaged:
            return 1
        with self.reader.home(root, ref) as home:
            return self.writer.last_version(home.functions, ref.name) + 1

    def check(self) -> None:
        """Raise ``StorageUnavailable`` when the data folder can be neither read nor made."""
        with guarded():
            try:
                with Folder.root(self.path) as root:
                    root.names()
            except FileNotFoundError:
                above = next(one for one in Path(self.path).parents if one.exists())
                if not os.access(above, os.W_OK | os.X_OK):
                    raise StorageUnavailable(f"{self.path} is absent and cannot be made") from None

    def _catch_up(self, root: Folder, ref: FunctionRef, view: View, wait: bool) -> View:
        """Bring records in step where that is possible now; else the last good version serves."""
        is_new = view.meta is None
        if view.working is not None and not view.publishing:
            settled = (
                self._looks.wait_settled(view.working, alone=not is_new)
                if wait
                else self._looks.is_settled(view.working)
            )
            if not settled:
                return view
        try:
            with self.locks.function(root, ref, wait=is_new):
                again = self.reader.view(root, ref, view)
                if again.publishing or (
                    again.working and view.working and again.working.key == view.working.key
                ):
                    self._settle(root, ref, again)
        except Busy:
            return view
        except (OSError, FaasError) as error:
            if is_new and not (isinstance(error, OSError) and error.errno in _READ_ONLY):
                raise
            shown = view.working.shown if view.working is not None else str(ref)
            log.warning("%s is not adopted: %s", shown, error)
            return view
        return self.reader.view(root, ref, view)

    def _settle(self, root: Folder, ref: FunctionRef, view: View) -> None:
        """Finish an interrupted write, then adopt an edit; the function's lock is held."""
        if view.publishing:
            with self.functions_folder(root, ref.collection_path) as functions:
                self._step("recover.locked")
                self.writer.recover(functions, ref.name, view)
            return
        working, old = view.working, view.meta
        if not view.is_edited or working is None:
            return
        with self.reader.home(root, ref) as home:
            source = working.read(home, self.reader.source_bytes)
        if source is None:
            return
        working.refused = self.syntax.fault(working, source)
        if working.refused is not None:
            return
        self._step("adopt.locked")
        last = old.current if old is not None else None
        made_at = now()
        row = Row(
            version=self.next_version(root, ref, view),
            deployment_id=new_id(),
            language=working.language,
            sha256=working.sha256,
            size=len(source),
            source_url=None,
            reuse=last.reuse if last is not None else self._reuse,
            limits=last.limits if last is not None else Limits(),
            created_at=made_at,
            checked=False,
            restored_from=None,
        )
        meta = Meta(created_at=old.created_at if old is not None else made_at, current=row)
        with self.functions_folder(root, ref.collection_path) as functions:
            plan = Plan("adopt", ref.name, old, meta, source, env=None, publish=False)
            self.writer.commit(functions, plan)
        self._looks.forget(working)
        log.info("%s was edited by hand and is version %s now", working.shown, row.version)

    def _sweep(self, root: Folder) -> None:
        """Once a process, remove what interrupted writers left."""
        if self._swept or not self._sweeping.acquire(blocking=False):
            return
        try:
            if not self._swept:
                sweep(root)
                self._swept = True
        except OSError as error:
            self._swept = True
            log.warning("leftovers of interrupted writes were not removed: %s", error)
        finally:
            self._sweeping.release()


def _make_root(path: str) -> Folder:
    """Make the data folder and what is missing above it, each durable in its parent."""
    above = next(one for one in Path(path).parents if one.is_dir())
    folder = Folder.root(str(above))
    for name in Path(path).relative_to(above).parts:
        with folder:
            folder = folder.make(name)
    return folder


def _taken(view: View) -> bytes | None:
    """Take what the look has read, so that the view can be kept without it."""
    if view.working is None:
        return None
    data, view.working.data = view.working.data, None
    is_current = view.meta is not None and view.meta.current.sha256 == view.working.sha256
    return data if is_current else None


def _known(ref: FunctionRef, view: View, source: bytes | None) -> Known:
    working = view.working
    if view.meta is not None:
        if working is not None and working.fault is not None:
            log.debug("%s: %s; the last good version runs on", working.shown, working.fault)
        return Known(view.meta, view, source)
    if working is not None and working.fault is not None:
        raise SourceCorrupt(f"{working.shown} cannot be a source: {working.fault}")
    if working is not None and working.refused is not None:
        raise FunctionNotFound(
            f"there is no function {ref}: {working.shown} was refused: {working.refused}"
        )
    raise NotAdopted(f"there is no function {ref}; its source was not adopted (yet)")
