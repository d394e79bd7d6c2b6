"""What is on disk for one function or collection at one moment, read without a lock."""

from __future__ import annotations

import errno
import logging
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from lowcode_faas_core.errors import EnvCorrupt, SourceCorrupt, StorageUnavailable
from lowcode_faas_core.model import FunctionRef, Language
from lowcode_faas_core.names import check_collection_path, check_function_name
from lowcode_faas_files.disk import Folder, Key, Unreadable, key_of
from lowcode_faas_files.layout import (
    COLLECTION_ENV,
    FUNCTIONS,
    VERSIONS,
    collection_parts,
    env_name,
    meta_name,
    source_name,
)
from lowcode_faas_files.records import Meta, decode_env, decode_meta, sha256

__all__ = ["Home", "Level", "Reader", "View", "Watched", "Working", "enter", "is_unchanged"]

log = logging.getLogger(__name__)

#: Paths and the state they were in when what they feed was read.
Watched = tuple[tuple[str, Key], ...]

#: A file changed less than this long ago (ns) may change again without a trace: kernel timestamps
#: stand still for up to 10 ms.
RACY_NS = 20_000_000
#: A damaged env file younger than this (ns) is taken for half written.
YOUNG_NS = 1_000_000_000
#: Reads in which a writer got between before the reader gives up.
ATTEMPTS = 200
#: Largest env or meta file read, in bytes; the API's own bound on env is far below.
MAX_JSON_BYTES = 4 << 20

_lstat = os.lstat


def is_unchanged(watched: Watched) -> bool:
    """Tell whether every watched path is in the state it was read in."""
    try:
        for path, key in watched:
            now = _lstat(path)
            if (now.st_ino, now.st_mtime_ns, now.st_size, now.st_ctime_ns) != key:
                return False
    except OSError:
        return False
    return True


def enter(folder: Folder, name: str) -> Folder | None:
    """Open a directory inside; ``None`` when it is absent, a symlink, or spelt otherwise."""
    try:
        inner = folder.sub(name)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return None
        raise
    if folder.is_exact(name):
        return inner
    os.close(inner.fd)
    return None


@dataclass(slots=True)
class Working:
    """The source file people see and edit; with a ``fault``, or ``refused``, it is never current."""

    path: str
    shown: str
    legacy: bool
    language: Language
    key: Key
    sha256: str
    fault: str | None
    #: What is wrong with its syntax.
    refused: str | None = None
    #: Its bytes as they were just read, until whoever had it looked at takes them.
    data: bytes | None = None

    def read(self, home: Home, limit: int) -> bytes | None:
        """Return its bytes if it still is in the state that was looked at."""
        folder = home.legacy if self.legacy else home.functions
        if folder is None:
            return None
        try:
            data, status = folder.read(self.path.rpartition("/")[2], limit)
        except (FileNotFoundError, Unreadable):
            return None
        return data if key_of(status) == self.key and sha256(data) == self.sha256 else None


@dataclass(slots=True)
class View:
    """One function as found. Without ``working`` it does not exist, unless ``publishing``."""

    meta: Meta | None
    meta_key: Key | None
    working: Working | None
    #: A commit has happened whose files have not all been put in place.
    publishing: bool
    env: dict[str, str]
    env_error: EnvCorrupt | None
    env_key: Key | None
    watched: Watched
    settled: bool

    @property
    def is_damaged(self) -> bool:
        """Whether there is a meta file, but not one that can be read."""
        return self.meta is None and self.meta_key is not None

    @property
    def exists(self) -> bool:
        """Whether there is a source, or one is about to be put in place."""
        return self.working is not None or self.publishing

    @property
    def is_edited(self) -> bool:
        """Whether the source file holds a version nobody has recorded yet."""
        if self.working is None or self.working.fault or self.working.refused or self.publishing:
            return False
        return self.meta is None or (
            (self.working.sha256, self.working.language)
            != (self.meta.current.sha256, self.meta.current.language)
        )


@dataclass(slots=True)
class Level:
    """The env of one collection as found, or why it cannot be read."""

    env: dict[str, str]
    error: EnvCorrupt | None
    watched: Watched
    settled: bool


@dataclass(slots=True)
class Home:
    """The open folders of one function; each is ``None`` where it does not exist."""

    #: The deepest directory that exists on the way to ``functions``, which it may be itself.
    deepest: Folder
    functions: Folder | None
    legacy: Folder | None


class Reader:
    """Reads functions and collections under one data folder."""

    def __init__(self, root: str, source_bytes: int) -> None:
        self.root = root
        self.source_bytes = source_bytes

    @contextmanager
    def home(self, root: Folder, ref: FunctionRef) -> Iterator[Home]:
        """Open where a function lives; its names are checked again here, below every caller."""
        check_collection_path(ref.collection_path)
        check_function_name(ref.name)
        with ExitStack() as opened:
            deepest = root
            functions: Folder | None = None
            for part in (*collection_parts(ref.collection_path), FUNCTIONS):
                functions = enter(deepest, part)
                if functions is None:
                    break
                deepest = opened.enter_context(functions)
            legacy = None if ref.collection_path else enter(root, FUNCTIONS)
            if legacy is not None:
                opened.enter_context(legacy)
            yield Home(deepest, functions, legacy)

    def view(
        self, root: Folder, ref: FunctionRef, old: View | None = None, *, repair: bool = False
    ) -> View:
        """Return the function as it was at one moment: whole old or whole new, never a mixture.

        ``old`` saves reading again what has not changed since. With ``repair`` a damaged meta file
        counts as absent.

        :raises SourceCorrupt: when its meta file is damaged.
        """
        for _ in range(ATTEMPTS):
            with self.home(root, ref) as home:
                view = self._look(home, ref.name, old, repair)
            if view is not None:
                return view
        raise StorageUnavailable(f"{ref} is being written too often to be read")

    def level(self, root: Folder, path: str, old: Level | None = None) -> Level | None:
        """Return the env of a collection, ``None`` when it is not registered."""
        check_collection_path(path)
        taken = time.time_ns()
        with ExitStack() as opened:
            folder: Folder = root
            for part in collection_parts(path):
                inner = enter(folder, part)
                if inner is None:
                    if path:
                        return None
                    watched = ((folder.path, folder.key()),)
                    return Level({}, None, watched, _is_settled(taken, watched))
                folder = opened.enter_context(inner)
            before = folder.key()
            if folder.status(COLLECTION_ENV) is None:
                watched = ((folder.path, before),)
                return Level({}, None, watched, _is_settled(taken, watched))
            env, error, key = self._env(folder, COLLECTION_ENV, old.env if old else None)
            if key is None:
                return Level(env, error, (), settled=False)
            watched = ((f"{folder.path}/{COLLECTION_ENV}", key),)
            return Level(env, error, watched, _is_settled(taken, watched))

    def shown(self, path: str) -> str:
        """Return a path as messages name it: relative to the data folder."""
        return path.removeprefix(self.root + "/")

    def _look(self, home: Home, name: str, old: View | None, repair: bool) -> View | None:
        """Return the function, or ``None`` when it changed meanwhile."""
        taken = time.time_ns()
        watched = [(home.deepest.path, home.deepest.key())]
        legacy_key = home.legacy.key() if home.legacy is not None else None
        before = self._keys(home, name)

        meta, meta_key = None, None
        if home.functions is not None and home.functions.status(meta_name(name)) is not None:
            if not home.functions.is_exact(meta_name(name)):
                return View(None, None, None, False, {}, None, None, (), False)
            try:
                meta, meta_key = self._meta(home.functions, name, old)
            except SourceCorrupt:
                if not repair:
                    raise
                meta_key = before[0]
            else:
                if meta is None:
                    return None
        working = self._working(home, name, meta, old)
        publishing, staged_env = False, False
        if meta is not None and home.functions is not None:
            publishing, staged_env = self._pending(home.functions, name, meta)

        env: dict[str, str] = {}
        env_error, env_key = None, None
        source = self._env_folder(home, name, working)
        if staged_env and meta is not None and home.functions is not None:
            with home.functions.sub(VERSIONS) as versions, versions.sub(name) as history:
                env, env_error, _ = self._env(history, f"{meta.current.stem}.env.json", None)
        elif source is not None:
            env, env_error, env_key = self._env(source, env_name(name), old.env if old else None)
            if env_key is not None:
                watched.append((f"{source.path}/{env_name(name)}", env_key))
        if working is not None:
            watched.append((working.path, working.key))
        if home.legacy is not None and legacy_key and (working is None or working.legacy):
            watched.append((home.legacy.path, legacy_key))

        if self._keys(home, name) != before:
            return None
        settled = not publishing and _is_settled(taken, watched)
        if source is not None and env_key is None:
            settled = False
        view = View(
            meta, meta_key, working, publishing, env, env_error, env_key, tuple(watched), settled
        )
        view.settled = settled and not view.is_edited
        return view

    @staticmethod
    def _keys(home: Home, name: str) -> list[Key | None]:
        sources = [source_name(name, language) for language in Language]
        keys = []
        for folder, names in (
            (home.functions, [meta_name(name), *sources, env_name(name)]),
            (home.legacy, [*sources, env_name(name)]),
        ):
            for entry in names if folder is not None else ():
                status = folder.status(entry) if folder is not None else None
                keys.append(key_of(status) if status is not None else None)
        return keys

    def _meta(
        self, functions: Folder, name: str, old: View | None
    ) -> tuple[Meta | None, Key | None]:
        file = meta_name(name)
        status = functions.status(file)
        if status is None:
            return None, None
        if old is not None and old.meta is not None and old.meta_key == key_of(status):
            return old.meta, old.meta_key
        shown = self.shown(f"{functions.path}/{file}")
        try:
            data, status = functions.read(file, MAX_JSON_BYTES)
        except FileNotFoundError:
            return None, None
        except Unreadable as error:
            return decode_meta(b"", f"{shown}: {error}"), None
        return decode_meta(data, shown), key_of(status)

    def _working(
        self, home: Home, name: str, meta: Meta | None, old: View | None
    ) -> Working | None:
        """Return the source file that counts: the new place wins, then the newer one."""
        for folder in (home.functions, home.legacy):
            found: list[tuple[int, bool, Language, os.stat_result]] = []
            for language in Language if folder is not None else ():
                status = folder.status(source_name(name, language)) if folder else None
                if status is not None and folder and folder.is_exact(source_name(name, language)):
                    is_current = meta is not None and meta.current.language is language
                    found.append((status.st_mtime_ns, is_current, language, status))
            if folder is None or not found:
                continue
            _, _, language, status = max(found, key=lambda one: one[:2])
            path = f"{folder.path}/{source_name(name, language)}"
            key = key_of(status)
            if old is not None and old.working is not None:
                if (old.working.path, old.working.key) == (path, key):
                    return old.working
                if len(found) > 1:
                    log.warning(
                        "%s has a source in both languages; the newer one counts", self.shown(path)
                    )
            return self._examine(folder, path, language, key, folder is home.legacy)
        return None

    def _examine(
        self, folder: Folder, path: str, language: Language, key: Key, legacy: bool
    ) -> Working | None:
        fault, digest, data = None, "", None
        try:
            data, status = folder.read(path.rpartition("/")[2], self.source_bytes)
            key = key_of(status)
            digest = sha256(data)
            if not data:
                fault = "it is empty"
            else:
                data.decode()
        except FileNotFoundError:
            return None
        except UnicodeDecodeError:
            fault = "it is not UTF-8"
        except Unreadable as error:
            fault = str(error)
        return Working(path, self.shown(path), legacy, language, key, digest, fault, data=data)

    @staticmethod
    def _pending(functions: Folder, name: str, meta: Meta) -> tuple[bool, bool]:
        versions = enter(functions, VERSIONS)
        if versions is None:
            return False, False
        with versions:
            history = enter(versions, name)
            if history is None:
                return False, False
            with history:
                if history.status(f"{meta.current.stem}.publishing") is None:
                    return False, False
                return True, history.status(f"{meta.current.stem}.env.json") is not None

    @staticmethod
    def _env_folder(home: Home, name: str, working: Working | None) -> Folder | None:
        if home.functions is not None and home.functions.status(env_name(name)) is not None:
            return home.functions if home.functions.is_exact(env_name(name)) else None
        if working is None or not working.legacy or home.legacy is None:
            return None
        return home.legacy if home.legacy.status(env_name(name)) is not None else None

    def _env(
        self, folder: Folder, name: str, last_good: dict[str, str] | None
    ) -> tuple[dict[str, str], EnvCorrupt | None, Key | None]:
        """Return an env, or why it cannot be read, and the file's state (``None``: look again)."""
        shown = self.shown(f"{folder.path}/{name}")
        try:
            data, status = folder.read(name, MAX_JSON_BYTES)
        except FileNotFoundError:
            return {}, None, None
        except Unreadable as error:
            found = folder.status(name)
            corrupt = EnvCorrupt(f"{shown} is refused: {error}")
            return {}, corrupt, key_of(found) if found is not None else None
        try:
            return decode_env(data, shown), None, key_of(status)
        except EnvCorrupt as error:
            if last_good is not None and abs(time.time_ns() - status.st_mtime_ns) < YOUNG_NS:
                return last_good, None, None
            return {}, error, key_of(status)


def _is_settled(taken_ns: int, watched: Iterable[tuple[str, Key]]) -> bool:
    return all(abs(taken_ns - key[3]) > RACY_NS for _, key in watched)
