"""The archive of a tree: the same bytes each time, and nothing is taken from one that is not whole."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Callable
from typing import Any

import pytest

from lowcode_faas_core.client import archive
from lowcode_faas_core.client.archive import ArchiveBroken, FunctionCopy, Tree, read, write
from lowcode_faas_core.model import Language, Limits, Reuse

SOURCE = "export const handler = () => ({ok: true, data: 'é'});\r\n".encode()
DEEP = "/".join(["segment-of-a-long-path-in-the-tree"] * 7)
Member = tuple[tarfile.TarInfo, bytes]


def tree() -> Tree:
    found = Tree("shop", has_env=True)
    found.collections = {"": {"B": "2", "A": "1\n"}, "eu": {}, DEEP: {"X": ""}}
    for collection, name in (("eu", "collection"), ("", "manifest"), (DEEP, "n" * 64)):
        copy = FunctionCopy(
            collection=collection,
            name=name,
            language=Language.TYPESCRIPT if collection else Language.JAVASCRIPT,
            reuse=Reuse.FRESH,
            limits=Limits(memory_mb=64),
            version=7,
        )
        found.functions.append(copy)
        found.sources[copy.member] = SOURCE + name.encode()
        found.envs[copy.member] = {"K": name}
    return found


def packed(given: Tree) -> bytes:
    file = io.BytesIO()
    write(given, file)
    return file.getvalue()


def members(content: bytes) -> list[Member]:
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        return [(info, stream.read() if (stream := tar.extractfile(info)) else b"") for info in tar]


def repacked(found: list[Member]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        for info, content in found:
            info.size = len(content) if info.isreg() else 0
            tar.addfile(info, io.BytesIO(content))
    return file.getvalue()


def with_manifest(change: Callable[[dict[str, Any]], object]) -> bytes:
    (info, content), *rest = members(packed(tree()))
    document = json.loads(content)
    change(document)
    return repacked([(info, json.dumps(document).encode()), *rest])


def test_a_tree_comes_back_and_is_the_same_bytes_each_time() -> None:
    given = tree()
    content = packed(given)
    found = read(io.BytesIO(content))
    assert found.collections == given.collections
    assert (found.sources, found.envs) == (given.sources, given.envs)
    assert sorted(found.functions, key=str) == sorted(given.functions, key=str)
    # In whatever order it was read
    given.functions.reverse()
    given.collections = dict(reversed(given.collections.items()))
    assert packed(given) == content
    assert members(content)[0][0].name == "manifest.json"


def test_an_archive_cut_anywhere_is_refused() -> None:
    content = packed(tree())
    for length in range(0, len(content) - 1, 7):
        with pytest.raises(ArchiveBroken):
            read(io.BytesIO(content[:length]))


def test_an_archive_with_a_flipped_bit_is_never_taken_for_another_tree() -> None:
    content = packed(tree())
    given = read(io.BytesIO(content))
    for place in range(10, len(content), 5):
        torn = bytearray(content)
        torn[place] ^= 4
        try:
            found = read(io.BytesIO(bytes(torn)))
        except ArchiveBroken:
            continue
        assert (found.sources, found.envs) == (given.sources, given.envs), place


def test_a_member_that_differs_is_named() -> None:
    whole = members(packed(tree()))
    (manifest, rest) = whole[0], whole[1:]
    index = next(i for i, (info, _) in enumerate(rest) if info.name.endswith("collection.mts"))
    name = rest[index][0].name
    other = bytearray(rest[index][1])
    other[0] ^= 1

    def renamed(to: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> Member:
        info = tarfile.TarInfo(to)
        info.type, info.linkname = kind, link
        return info, rest[index][1] if kind == tarfile.REGTYPE else b""

    others = [*rest[:index], *rest[index + 1 :]]
    for found, said in (
        ([manifest, *others, (rest[index][0], bytes(other))], f"'{name}' is not what it was"),
        ([manifest, *others, (rest[index][0], b"")], f"'{name}' has 0 bytes, not the"),
        ([manifest, *others], f"'{name}' is missing"),
        ([manifest, *rest, rest[index]], f"'{name}' is there twice"),
        ([*rest, manifest], "first member is"),
        ([], "it is empty"),
        ([manifest, renamed("../../etc/passwd"), *rest], "'../../etc/passwd' is not in its"),
        ([manifest, renamed("/etc/passwd"), *rest], "'/etc/passwd' is not in its manifest"),
        ([manifest, renamed(name, tarfile.SYMTYPE, "/etc/passwd"), *others], "is no plain file"),
        ([manifest, renamed(name, tarfile.LNKTYPE, "/etc/passwd"), *others], "is no plain file"),
        ([manifest, renamed(name, tarfile.CHRTYPE), *others], "is no plain file"),
    ):
        with pytest.raises(ArchiveBroken, match=said.replace(".", r"\.")):
            read(io.BytesIO(repacked(found)))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda m: m.update(format="zip"), "is of something else: 'zip'"),
        (lambda m: m.update(version=2), "version 2 of the format"),
        (lambda m: m.pop("functions"), "cannot be read"),
        (lambda m: m.update(collection="../etc"), "names no place"),
        (lambda m: m["collections"].append("a/../../b"), "names no place"),
        (lambda m: m["functions"][0].update(name="../../x"), "names no place"),
        (lambda m: m["functions"][0].update(name="x/y"), "names no place"),
        (lambda m: m["functions"][0].update(collection="nowhere"), "is of a collection that is"),
        (lambda m: m["functions"][0].update(language="php"), "cannot be read"),
        (lambda m: m["functions"].pop(), "belongs to nothing"),
        (lambda m: m["collections"].remove(""), "is of a collection that is not in it"),
    ],
)
def test_a_manifest_that_means_nothing_is_refused(change: Any, said: str) -> None:
    with pytest.raises(ArchiveBroken, match=said):
        read(io.BytesIO(with_manifest(change)))


@pytest.mark.parametrize("manifest", [True, False])
def test_a_member_that_is_only_said_to_be_large_takes_no_memory(manifest: bool) -> None:
    """A sparse member of some hundred bytes would be unpacked to as many zeros as it says."""
    (info, content), *_ = members(packed(tree()))
    sparse = tarfile.TarInfo(info.name if manifest else "collections/eu/functions/collection.mts")
    sparse.type = tarfile.GNUTYPE_SPARSE
    header = bytearray(sparse.tobuf(format=tarfile.GNU_FORMAT))
    header[483:495] = tarfile.itn(64 << 30, 12, tarfile.GNU_FORMAT)
    header[386:410] = tarfile.itn(0, 12, tarfile.GNU_FORMAT) * 2
    header[148:156] = b"%06o\0 " % tarfile.calc_chksums(bytes(header))[0]
    ahead = b"" if manifest else info.tobuf() + content + bytes(-len(content) % 512)
    with pytest.raises(ArchiveBroken, match="no plain file"):
        read(io.BytesIO(gzip.compress(ahead + bytes(header) + bytes(1024))))


def test_an_archive_that_unpacks_to_too_much_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MOST_BYTES", 1 << 20)
    # A header of 512 bytes that says: the name of the next member has 4 GiB
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 4 << 30
    bomb = gzip.compress(info.tobuf() + bytes(8 << 20), compresslevel=1)
    with pytest.raises(ArchiveBroken, match="unpacks to more than"):
        read(io.BytesIO(bomb))


@pytest.mark.parametrize(
    "content", [b"", b"hello", b"PK\x03\x04", gzip.compress(b"x" * 5000, mtime=0)]
)
def test_what_is_no_archive_is_refused(content: bytes) -> None:
    with pytest.raises(ArchiveBroken):
        read(io.BytesIO(content))
