"""A tree of collections in one file: a tar.gz with a manifest that names and hashes every member.

Members lie as in the data folder of the storage ``files``. The same tree makes the same bytes.
Nothing is ever unpacked: a member is read in memory, and only under the name its place has.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, Final

import msgspec

from lowcode_faas_core.errors import InvalidValue
from lowcode_faas_core.model import Language, Limits, Reuse
from lowcode_faas_core.names import check_collection_path, check_env, check_function_name

__all__ = ["ArchiveBroken", "FunctionCopy", "Tree", "read", "write"]

MANIFEST: Final = "manifest.json"
FORMAT: Final = "lowcode-faas export"
VERSION: Final = 1
#: Unpacked size of what is read at most, in bytes: a small file may claim to hold anything.
MOST_BYTES: Final = 1 << 30
#: Bytes read at a time where they mean nothing.
CHUNK: Final = 1 << 16
#: How the data folder calls the root.
ROOT: Final = "__root__"


class ArchiveBroken(Exception):
    """Raised for a file that is no archive of a tree, or not all of one; names the member."""


class FunctionCopy(msgspec.Struct, frozen=True, kw_only=True):
    """A function's current version; its collection is named from the root of the archive."""

    collection: str
    name: str
    language: Language
    reuse: Reuse
    limits: Limits = Limits()
    #: What it was in the tree that was exported.
    version: int
    source_url: str | None = None

    @property
    def member(self) -> str:
        """Where its source is in the archive."""
        return f"{_folder(self.collection)}/functions/{self.name}{self.language.suffix}"

    @property
    def env_member(self) -> str:
        """Where its env is, if it has one."""
        return f"{_folder(self.collection)}/functions/{self.name}.env.json"


@dataclass
class Tree:
    """A collection and all below it; without ``has_env`` nothing is said about env."""

    #: Where it was.
    collection: str
    has_env: bool
    #: Env by path from the collection, which itself is ``""``; every collection is here.
    collections: dict[str, dict[str, str]] = field(default_factory=dict)
    functions: list[FunctionCopy] = field(default_factory=list)
    #: Source and env by where its function is in the archive.
    sources: dict[str, bytes] = field(default_factory=dict)
    envs: dict[str, dict[str, str]] = field(default_factory=dict)


class _Member(msgspec.Struct, frozen=True):
    sha256: str
    size: int


class _Manifest(msgspec.Struct, frozen=True, kw_only=True):
    format: str
    version: int
    collection: str
    env: bool
    collections: list[str]
    functions: list[FunctionCopy]
    members: dict[str, _Member]


def write(tree: Tree, file: IO[bytes]) -> None:
    """Write a tree; the same one is the same bytes wherever and whenever it is written."""
    members = dict(sorted(_members(tree)))
    functions = sorted(tree.functions, key=lambda each: (each.collection, each.name))
    manifest = _Manifest(
        format=FORMAT,
        version=VERSION,
        collection=tree.collection,
        env=tree.has_env,
        collections=sorted(tree.collections),
        functions=functions,
        members={
            name: _Member(hashlib.sha256(content).hexdigest(), len(content))
            for name, content in members.items()
        },
    )
    document = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
    with (
        gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for name, content in ((MANIFEST, document + b"\n"), *members.items()):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def read(file: IO[bytes]) -> Tree:
    """Return the tree that a file holds.

    :raises ArchiveBroken: it does not hold all that it says, and nothing else.
    """
    found: dict[str, bytes] = {}
    manifest: _Manifest | None = None
    last = "its beginning"
    try:
        with gzip.GzipFile(fileobj=file) as packed:
            bounded = _Bounded(packed)
            tar = tarfile.open(fileobj=bounded, mode="r|")  # noqa: SIM115  # it holds nothing open
            for info in tar:
                if manifest is None:
                    if info.name != MANIFEST or not info.isreg():
                        raise ArchiveBroken(f"its first member is {info.name!r}, not {MANIFEST}")
                    _check_kind(info)
                    manifest = _read_manifest(_content(tar, info))
                else:
                    found[info.name] = _checked(tar, info, manifest, found)
                last = repr(info.name)
            while bounded.read(CHUNK):
                pass  # the checksum stands at the end
    except (tarfile.TarError, EOFError, OSError, zlib.error, ValueError, OverflowError) as error:
        raise ArchiveBroken(f"it is broken after {last}: {error}") from error
    if manifest is None:
        raise ArchiveBroken("it is empty")
    missing = sorted(set(manifest.members) - set(found))
    if missing:
        raise ArchiveBroken(f"the member {missing[0]!r} is missing")
    return _tree(manifest, found)


class _Bounded(io.RawIOBase):
    """Ends with an error where more is unpacked than any tree is."""

    def __init__(self, packed: gzip.GzipFile) -> None:
        self._packed = packed
        self._left = MOST_BYTES

    def read(self, size: int = -1) -> bytes:
        chunk = self._packed.read(min(size, self._left + 1) if size >= 0 else self._left + 1)
        self._left -= len(chunk)
        if self._left < 0:
            raise ArchiveBroken(f"it unpacks to more than {MOST_BYTES} bytes")
        return chunk


def _members(tree: Tree) -> Iterator[tuple[str, bytes]]:
    for path, env in tree.collections.items():
        if env:
            yield _env_member(path), _env_content(env)
    for each in tree.functions:
        yield each.member, tree.sources[each.member]
        if own := tree.envs.get(each.member):
            yield each.env_member, _env_content(own)


def _folder(path: str) -> str:
    return f"collections/{path or ROOT}"


def _env_member(path: str) -> str:
    return f"{_folder(path)}/collection.env.json"


def _env_content(env: dict[str, str]) -> bytes:
    return json.dumps(env, indent=2, sort_keys=True, ensure_ascii=False).encode() + b"\n"


def _check_kind(info: tarfile.TarInfo) -> None:
    # Sparse ones are regular, too, and hold as many zeros as they say.
    if not info.isreg() or info.issparse():
        raise ArchiveBroken(f"the member {info.name!r} is no plain file")


def _content(tar: tarfile.TarFile, info: tarfile.TarInfo) -> bytes:
    stream = tar.extractfile(info)
    content = b"" if stream is None else stream.read()
    if len(content) != info.size:
        raise ArchiveBroken(f"the member {info.name!r} is cut short")
    return content


def _checked(
    tar: tarfile.TarFile, info: tarfile.TarInfo, manifest: _Manifest, found: dict[str, bytes]
) -> bytes:
    expected = manifest.members.get(info.name)
    if expected is None:
        raise ArchiveBroken(f"the member {info.name!r} is not in its manifest")
    _check_kind(info)
    if info.name in found:
        raise ArchiveBroken(f"the member {info.name!r} is there twice")
    if info.size != expected.size:
        raise ArchiveBroken(
            f"the member {info.name!r} has {info.size} bytes, not the {expected.size} it had"
        )
    content = _content(tar, info)
    if hashlib.sha256(content).hexdigest() != expected.sha256:
        raise ArchiveBroken(f"the member {info.name!r} is not what it was: its hash differs")
    return content


def _read_manifest(content: bytes) -> _Manifest:
    try:
        manifest = msgspec.json.decode(content, type=_Manifest)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ArchiveBroken(f"the member {MANIFEST!r} cannot be read: {error}") from error
    if manifest.format != FORMAT:
        raise ArchiveBroken(f"the member {MANIFEST!r} is of something else: {manifest.format!r}")
    if manifest.version > VERSION:
        raise ArchiveBroken(
            f"it has version {manifest.version} of the format; this lowcode-faas knows {VERSION}"
        )
    return manifest


def _tree(manifest: _Manifest, found: dict[str, bytes]) -> Tree:
    """Put every member in its place; one that has none is refused."""
    tree = Tree(manifest.collection, manifest.env, functions=manifest.functions)
    left = dict(found)
    try:
        check_collection_path(manifest.collection)
        for path in manifest.collections:
            check_collection_path(path)
            tree.collections[path] = _env(left, _env_member(path))
        for each in manifest.functions:
            check_function_name(each.name)
            if each.collection not in tree.collections:
                raise ArchiveBroken(f"{each.member!r} is of a collection that is not in it")
            if each.member not in left:
                raise ArchiveBroken(f"the member {each.member!r} is missing")
            tree.sources[each.member] = _text(left.pop(each.member), each.member)
            tree.envs[each.member] = _env(left, each.env_member)
    except InvalidValue as error:
        raise ArchiveBroken(f"the member {MANIFEST!r} names no place: {error.detail}") from error
    if left:
        raise ArchiveBroken(f"the member {min(left)!r} belongs to nothing in its manifest")
    return tree


def _text(content: bytes, member: str) -> bytes:
    try:
        content.decode()
    except UnicodeDecodeError as error:
        raise ArchiveBroken(f"the member {member!r} is no UTF-8: {error}") from error
    return content


def _env(left: dict[str, bytes], member: str) -> dict[str, str]:
    content = left.pop(member, b"{}")
    try:
        env = msgspec.json.decode(content, type=dict[str, str])
        check_env(env)
    except (msgspec.DecodeError, InvalidValue, RecursionError) as error:
        said = error.detail if isinstance(error, InvalidValue) else str(error)
        raise ArchiveBroken(f"the member {member!r} is no env: {said}") from error
    return env
