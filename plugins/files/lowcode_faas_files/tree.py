"""Collections on disk: directories that come and go in one rename."""

from __future__ import annotations

import os
import secrets
import stat
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime

import msgspec

from lowcode_faas_core.errors import (
    CollectionExists,
    CollectionNotEmpty,
    CollectionNotFound,
    CommitUnknown,
    NameClash,
)
from lowcode_faas_core.ids import now
from lowcode_faas_core.names import (
    MAX_COLLECTION_DEPTH,
    MAX_COLLECTION_PATH,
    RESERVED_SEGMENTS,
    ancestors,
    check_collection_path,
)
from lowcode_faas_files.disk import TEMPORARY, Folder, Unreadable
from lowcode_faas_files.faultpoints import Step
from lowcode_faas_files.layout import (
    COLLECTION_ENV,
    COLLECTION_META,
    COLLECTIONS,
    FUNCTIONS,
    VERSIONS,
    collection_parts,
    function_names,
    is_name,
)
from lowcode_faas_files.reader import MAX_JSON_BYTES, enter
from lowcode_faas_files.records import CollectionMeta, encode

__all__ = ["Tree", "sweep", "timestamp"]

#: Temporary names older than this (s) belong to no living writer.
SWEEP_AGE_S = 600
_OWN = {COLLECTION_ENV, COLLECTION_META, FUNCTIONS}
_meta = msgspec.json.Decoder(CollectionMeta)


def timestamp(nanoseconds: int) -> str:
    """Return a file's time as the rest of the platform writes times."""
    # A file may bear any time at all; years of more than four digits have no such text.
    seconds = min(max(nanoseconds // 1000 / 1_000_000, 0.0), 253_402_300_799.0)
    moment = datetime.fromtimestamp(seconds, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class Tree:
    """Finds, makes and removes collections; who writes holds the tree lock."""

    def __init__(self, step: Step) -> None:
        self._step = step

    @contextmanager
    def folder(self, root: Folder, path: str) -> Iterator[Folder | None]:
        """Open a collection's directory, ``None`` when it is not registered."""
        check_collection_path(path)
        with ExitStack() as opened:
            folder = root
            for part in collection_parts(path):
                inner = enter(folder, part)
                if inner is None:
                    yield None
                    return
                folder = opened.enter_context(inner)
            yield folder

    @contextmanager
    def made(self, root: Folder, path: str) -> Iterator[Folder]:
        """Open a collection's directory for writing; the root's is made when absent."""
        check_collection_path(path)
        with ExitStack() as opened:
            folder = root
            for part in collection_parts(path):
                if path:
                    inner = enter(folder, part)
                    if inner is None:
                        raise CollectionNotFound(f"the collection {path!r} is not registered")
                else:
                    inner = folder.make(part)
                folder = opened.enter_context(inner)
            yield folder

    def created_at(self, folder: Folder) -> str:
        """Return when a collection was made; for one made by hand, its directory's own time."""
        try:
            return _meta.decode(folder.read(COLLECTION_META, MAX_JSON_BYTES)[0]).created_at
        except (OSError, Unreadable, msgspec.MsgspecError, UnicodeDecodeError):
            return timestamp(os.fstat(folder.fd).st_mtime_ns)

    def paths(self, root: Folder, prefix: str) -> list[str]:
        """Return the registered paths at and below ``prefix``, in no order."""
        found: list[str] = []
        if prefix:
            with self.folder(root, prefix) as start:
                if start is not None:
                    found.append(prefix)
                    _walk(start, prefix, found)
            return found
        top = enter(root, COLLECTIONS)
        if top is not None:
            with top:
                _walk(top, "", found)
        return found

    def create(self, root: Folder, path: str, env: dict[str, str]) -> None:
        """Register a collection and its missing parents in one step."""
        check_collection_path(path)
        if not path:
            raise CollectionExists("the root is always registered")
        self._step("collection-create.locked")
        with ExitStack() as opened:
            folder = opened.enter_context(root.make(COLLECTIONS))
            segments = path.split("/")
            while segments:
                status = folder.status(segments[0])
                if status is None:
                    break
                if not folder.is_exact(segments[0]) or not stat.S_ISDIR(status.st_mode):
                    raise NameClash(f"{segments[0]!r} is taken in the data folder by another name")
                folder = opened.enter_context(folder.sub(segments[0]))
                segments = segments[1:]
            if not segments:
                raise CollectionExists(f"the collection {path!r} is registered")
            temporary = f"{TEMPORARY}{os.getpid()}-{secrets.token_hex(8)}"
            try:
                self._stage(folder, temporary, segments[1:], env)
                self._step("collection-create.staged")
                folder.rename(temporary, segments[0])
            except BaseException:
                folder.remove_tree(temporary)
                raise
            self._step("collection-create.renamed")
            _sync(folder, path)
            self._step("collection-create.synced")

    def _stage(self, folder: Folder, name: str, below: list[str], env: dict[str, str]) -> None:
        with folder.make(name) as made:
            content = encode(CollectionMeta(now()))
            made.put(COLLECTION_META, content)
            made.put(COLLECTION_ENV, encode({} if below else env))
            with made.make(FUNCTIONS):
                pass
            if below:
                self._stage(made, below[0], below[1:], env)
            made.sync()

    def delete(self, root: Folder, path: str) -> None:
        """Remove a collection that holds nothing but our own bookkeeping."""
        check_collection_path(path)
        if not path:
            raise CollectionNotEmpty("the root cannot be deleted")
        self._step("collection-delete.locked")
        parent, _, segment = f"{COLLECTIONS}/{path}".rpartition("/")
        with ExitStack() as opened:
            above: Folder = root
            for part in parent.split("/"):
                inner = enter(above, part)
                if inner is None:
                    raise CollectionNotFound(f"the collection {path!r} is not registered")
                above = opened.enter_context(inner)
            folder = enter(above, segment)
            if folder is None:
                raise CollectionNotFound(f"the collection {path!r} is not registered")
            with folder:
                _refuse_content(folder, path)
            self._step("collection-delete.checked")
            temporary = f"{TEMPORARY}{os.getpid()}-{secrets.token_hex(8)}"
            above.rename(segment, temporary)
            self._step("collection-delete.renamed")
            # People take no lock: what one of them put there meanwhile is theirs.
            with above.sub(temporary) as taken:
                try:
                    _refuse_content(taken, path)
                except CollectionNotEmpty:
                    above.rename(temporary, segment)
                    raise
            _sync(above, path)
            self._step("collection-delete.synced")
            above.remove_tree(temporary)
            self._step("collection-delete.swept")


def sweep(root: Folder) -> None:
    """Remove what interrupted writers left under temporary names long enough ago."""
    oldest = time.time() - SWEEP_AGE_S
    for directory, folders, files, fd in os.fwalk(".", dir_fd=root.fd, follow_symlinks=False):
        del directory
        for name in [one for one in (*folders, *files) if one.startswith(TEMPORARY)]:
            try:
                status = os.stat(name, dir_fd=fd, follow_symlinks=False)
            except OSError:
                continue
            if max(status.st_mtime, status.st_ctime) >= oldest:
                continue
            if name in folders:
                folders.remove(name)
                Folder(fd, "").remove_tree(name)
            else:
                Folder(fd, "").discard(name)


def _sync(folder: Folder, path: str) -> None:
    try:
        folder.sync()
    except OSError as error:
        raise CommitUnknown(f"{path!r} may not outlive a power loss: {error.strerror}") from error


def _walk(folder: Folder, path: str, found: list[str]) -> None:
    depth = len(ancestors(path))
    if depth > MAX_COLLECTION_DEPTH:
        return
    for entry in folder.names():
        below = f"{path}/{entry}" if path else entry
        if not is_name(entry) or entry in RESERVED_SEGMENTS or len(below) > MAX_COLLECTION_PATH:
            continue
        inner = enter(folder, entry)
        if inner is not None:
            with inner:
                found.append(below)
                _walk(inner, below, found)


def _refuse_content(folder: Folder, path: str) -> None:
    for entry in folder.names():
        if entry not in _OWN and not entry.startswith(TEMPORARY):
            raise CollectionNotEmpty(f"the collection {path!r} still holds {entry}")
    functions = enter(folder, FUNCTIONS)
    if functions is None:
        if folder.status(FUNCTIONS) is not None:
            raise CollectionNotEmpty(f"the collection {path!r} still holds {FUNCTIONS}")
        return
    with functions:
        entries = functions.names()
        held = sorted(function_names(entries))
        if held:
            raise CollectionNotEmpty(f"the collection {path!r} still holds {held[0]}")
        # A function removed by half leaves its meta and env; both without a source say nothing.
        metas = {entry[:-10] for entry in entries if entry.endswith(".meta.json")}
        for entry in entries:
            leftover = entry.endswith((".meta.json", ".env.json")) and entry.split(".")[0] in metas
            if not (leftover or entry == VERSIONS or entry.startswith(TEMPORARY)):
                raise CollectionNotEmpty(f"the collection {path!r} still holds {entry}")
