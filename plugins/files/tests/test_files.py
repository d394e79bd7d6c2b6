from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lowcode_faas_files
import pytest
from lowcode_faas_files import reader
from lowcode_faas_files.storage import FilesStorage

from lowcode_faas_core.errors import (
    CollectionNotFound,
    ConfigurationError,
    FunctionNotFound,
    NameClash,
    RequestError,
    StorageFull,
    VersionNotFound,
    VersionNotKept,
)
from lowcode_faas_core.interfaces.storage import Storage
from lowcode_faas_core.model import Deployment, Draft, FunctionRef, Language, Resolution, Reuse

REF = FunctionRef("", "greet")


def draft(source: bytes, env: dict[str, str] | None = None) -> Draft:
    return Draft(source=source, language=Language.JAVASCRIPT, reuse=Reuse.WARM, env=env)


def settled(storage: FilesStorage, ref: FunctionRef) -> Resolution:
    """Return a resolution that is cached: files younger than 20 ms are looked at again."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        resolution = storage.resolve(ref)
        if storage._resolved[ref].settled:
            return resolution
    raise AssertionError("nothing settles")


def test_the_hook_builds_it_from_the_environment(data_dir: Path) -> None:
    storage = lowcode_faas_files.lowcode_faas_storage(
        {
            "LOWCODE_FAAS_DATA_DIR": str(data_dir),
            "LOWCODE_FAAS_FILES_KEEP_VERSIONS": "2",
            "LOWCODE_FAAS_REUSE": "fresh",
            "LOWCODE_FAAS_MAX_SOURCE_BYTES": "2048",
        }
    )
    assert isinstance(storage, Storage)
    assert not data_dir.exists(), "nothing is made before the first write"
    for number in range(3):
        storage.deploy(REF, draft(b"// %d" % number))
    assert [row.version for row in storage.versions(REF, 9).items] == [3, 2]
    functions = data_dir / "collections/__root__/functions"
    (functions / "dropped.mjs").write_text("// by hand")
    assert storage.resolve(FunctionRef("", "dropped")).deployment.reuse is Reuse.FRESH
    (functions / "greet.mjs").write_text("/" * 2049)
    assert storage.resolve(REF).deployment.version == 3


@pytest.mark.parametrize("value", ["0", "x", "-1"])
def test_a_bad_setting_is_named(value: str) -> None:
    with pytest.raises(ConfigurationError, match="LOWCODE_FAAS_FILES_KEEP_VERSIONS"):
        lowcode_faas_files.lowcode_faas_storage({"LOWCODE_FAAS_FILES_KEEP_VERSIONS": value})


def test_settings_are_declared() -> None:
    [settings] = lowcode_faas_files.lowcode_faas_settings()
    assert settings().data_dir == Path("data")
    assert settings().keep_versions == 1


def test_importing_the_plugin_is_cheap() -> None:
    """Entry points are imported before anything is checked; the storage only when it is built."""
    code = "import sys, lowcode_faas_files; print('lowcode_faas_files.storage' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "False"


def test_one_version_is_kept_by_default(data_dir: Path) -> None:
    storage = FilesStorage(data_dir)
    old = storage.deploy(REF, draft(b"// 1")).deployment
    storage.deploy(REF, draft(b"// 2"))

    for call in (
        lambda: storage.deployment(REF, 1),
        lambda: storage.rollback(REF, 1),
        lambda: storage.resolve(REF, 1),
    ):
        with pytest.raises(VersionNotKept, match="LOWCODE_FAAS_FILES_KEEP_VERSIONS is 1"):
            call()
    with pytest.raises(VersionNotFound):
        storage.deployment_by_id(old.deployment_id, REF)
    with pytest.raises(VersionNotFound):
        storage.deployment(REF, 3)
    assert [row.version for row in storage.versions(REF, 9).items] == [2]
    assert storage.rollback(REF, 2).restored_from == 2


def test_superseded_bytes_linger_for_a_minute(data_dir: Path) -> None:
    storage = FilesStorage(data_dir)
    for number in range(4):
        storage.deploy(REF, draft(b"// %d" % number))
    history = data_dir / "collections/__root__/functions/.versions/greet"
    assert len(list(history.glob("*.mjs"))) == 4
    for file in history.iterdir():
        os.utime(file, (1, 1))
    storage.deploy(REF, draft(b"// last"))

    assert sorted(file.name[:2] for file in history.iterdir()) == ["4-", "5-"]


def test_kept_versions_stay_whatever_their_age(data_dir: Path) -> None:
    storage = FilesStorage(data_dir, keep_versions=3)
    for number in range(4):
        storage.deploy(REF, draft(b"// %d" % number))
        for file in data_dir.rglob("*"):
            os.utime(file, (1, 1))

    rows = storage.versions(REF, 9).items
    assert [(row.version, storage.source(row)) for row in rows] == [
        (4, b"// 3"),
        (3, b"// 2"),
        (2, b"// 1"),
    ]
    assert len(list(data_dir.rglob(".versions/greet/*.mjs"))) == 3


@pytest.mark.fault(2)
@pytest.mark.parametrize(
    "path", ["..", "../planted", "org/../../../planted", ".hidden", "a//b", "/a"]
)
def test_no_collection_is_made_outside(data_dir: Path, path: str) -> None:
    storage = FilesStorage(data_dir)
    storage.create_collection("org", {})
    before = sorted(data_dir.parent.rglob("*"))
    for call in (
        lambda: storage.create_collection(path, {}),
        lambda: storage.delete_collection(path),
        lambda: storage.set_collection_env(path, {}),
    ):
        with pytest.raises(RequestError):
            call()
    assert sorted(data_dir.parent.rglob("*")) == before


def test_an_edit_still_being_written_is_not_adopted_by_a_deploy(data_dir: Path) -> None:
    storage = FilesStorage(data_dir, keep_versions=5)
    storage.deploy(REF, draft(b"// 1"))
    (data_dir / "collections/__root__/functions/greet.mjs").write_text("// half of wh")

    assert storage.deploy(REF, draft(b"// 2")).deployment.version == 2
    assert [storage.source(row) for row in storage.versions(REF, 9).items] == [b"// 2", b"// 1"]


@pytest.mark.fault(109)
def test_a_new_file_that_cannot_be_adopted_says_why(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    functions = data_dir / "collections/__root__/functions"
    functions.mkdir(parents=True)
    (functions / "greet.mjs").write_text("// by hand")
    os.utime(functions / "greet.mjs", (1, 1))

    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(StorageFull):
            FilesStorage(data_dir).resolve(REF)
    assert FilesStorage(data_dir).resolve(REF).deployment.version == 1


@pytest.mark.fault(112)
def test_a_directory_in_the_place_of_a_source_is_not_removed(data_dir: Path) -> None:
    storage = FilesStorage(data_dir)
    storage.deploy(REF, draft(b"// 1"))
    file = data_dir / "collections/__root__/functions/greet.mjs"
    file.unlink()
    file.mkdir()
    (file / "precious").touch()

    with pytest.raises(NameClash):
        storage.delete_function(REF)
    assert (file / "precious").exists()
    assert storage.source(storage.resolve(REF).deployment) == b"// 1"


@pytest.mark.parametrize("mask", [0o000, 0o077, 0o277])
def test_modes_do_not_depend_on_the_umask(data_dir: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        storage = FilesStorage(data_dir, keep_versions=2)
        storage.create_collection("org/team", {"A": "1"})
        for ref in (REF, FunctionRef("org/team", "f")):
            storage.deploy(ref, draft(b"// 1", {"A": "1"}))
            storage.deploy(ref, draft(b"// 2", {"A": "2"}))
    finally:
        os.umask(before)

    for path in (data_dir, *data_dir.rglob("*")):
        mode = stat.S_IMODE(path.lstat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), path


def test_what_people_see(data_dir: Path) -> None:
    storage = FilesStorage(data_dir)
    storage.create_collection("org/team", {"LEVEL": "ü"})
    typed = Draft(source=b"// ts", language=Language.TYPESCRIPT, reuse=Reuse.WARM, env={"A": "1"})
    storage.deploy(FunctionRef("org/team", "f"), typed)
    storage.set_collection_env("", {"ROOT": "1"})
    seen = {str(path.relative_to(data_dir)) for path in data_dir.rglob("*") if path.is_file()}

    assert {path for path in seen if "/." not in f"/{path}"} == {
        "collections/__root__/collection.env.json",
        "collections/org/collection.env.json",
        "collections/org/collection.meta.json",
        "collections/org/team/collection.env.json",
        "collections/org/team/collection.meta.json",
        "collections/org/team/functions/f.env.json",
        "collections/org/team/functions/f.meta.json",
        "collections/org/team/functions/f.mts",
    }
    env = (data_dir / "collections/org/team/collection.env.json").read_text()
    assert env == '{\n  "LEVEL": "ü"\n}\n'


@pytest.mark.parametrize(("path", "most"), [("", 4), ("a", 5), ("a/b/c", 7)])
def test_resolving_again_costs_one_stat_a_file(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, path: str, most: int
) -> None:
    storage = FilesStorage(data_dir)
    if path:
        storage.create_collection(path, {"A": "1"})
    ref = FunctionRef(path, "f")
    storage.deploy(ref, draft(b"// f", {"A": "1"}))
    first = settled(storage, ref)
    looked: list[str] = []

    def lstat(name: str) -> os.stat_result:
        looked.append(name)
        return os.lstat(name)

    def refuse(*args: Any, **kwargs: Any) -> int:
        raise AssertionError("a file was opened")

    monkeypatch.setattr(reader, "_lstat", lstat)
    monkeypatch.setattr(os, "open", refuse)
    again = storage.resolve(ref)

    assert again is first
    assert len(looked) <= most


@pytest.mark.parametrize(
    "change",
    [
        lambda s, f: (f / "f.mjs").write_text("// by hand"),
        lambda s, f: (f / "f.mts").write_text("// typed, newer"),
        lambda s, f: (f / "f.env.json").write_text('{"A": "2"}'),
        lambda s, f: (f / "f.env.json").unlink(),
        lambda s, f: (f.parent / "collection.env.json").write_text('{"A": "2"}'),
        lambda s, f: (f.parents[1] / "collection.env.json").unlink(),
        lambda s, f: (
            (f.parents[2] / "__root__").mkdir()
            or (f.parents[2] / "__root__/collection.env.json").write_text('{"A": "2"}')
        ),
        lambda s, f: s.set_collection_env("", {"A": "2"}),
        lambda s, f: s.set_collection_env("a", {}),
    ],
)
def test_every_change_is_seen_at_the_next_look(
    data_dir: Path, change: Callable[[FilesStorage, Path], object]
) -> None:
    storage = FilesStorage(data_dir)
    storage.create_collection("a/b", {"A": "1"})
    storage.set_collection_env("a", {"A": "1"})
    ref = FunctionRef("a/b", "f")
    storage.deploy(ref, draft(b"// f", {"A": "1"}))
    before = settled(storage, ref)
    change(FilesStorage(data_dir), data_dir / "collections/a/b/functions")

    assert storage.resolve(ref) != before


@pytest.mark.parametrize(
    "change",
    [
        lambda legacy: (legacy / "f.mts").write_text("// typed, newer"),
        lambda legacy: (legacy / "f.env.json").write_text('{"A": "1"}'),
        lambda legacy: (legacy / "f.mjs").unlink(),
    ],
)
def test_changes_beside_a_legacy_source_are_seen(
    data_dir: Path, change: Callable[[Path], object]
) -> None:
    legacy = data_dir / "functions"
    legacy.mkdir(parents=True)
    (legacy / "f.mjs").write_text("// legacy")
    os.utime(legacy / "f.mjs", (1, 1))
    storage, ref = FilesStorage(data_dir), FunctionRef("", "f")
    storage.resolve(ref)
    before = settled(storage, ref)
    change(legacy)

    try:
        assert storage.resolve(ref) != before
    except FunctionNotFound:
        assert not (legacy / "f.mjs").exists()


def test_a_list_shows_an_edit_that_is_finished(data_dir: Path) -> None:
    """Also the first one: it waits for the second look at what was edited just now."""
    storage = FilesStorage(data_dir)
    storage.deploy(REF, draft(b"// 1"))
    (data_dir / "collections/__root__/functions/greet.mjs").write_text("// by hand")

    assert [one.current.version for one in storage.functions("", 9).items] == [2]


def test_a_refused_write_leaves_no_trace(data_dir: Path) -> None:
    storage, ref = FilesStorage(data_dir), FunctionRef("nope", "f")
    for call in (
        lambda: storage.set_collection_env("nope", {"A": "1"}),
        lambda: storage.deploy(ref, draft(b"// 1")),
    ):
        with pytest.raises(CollectionNotFound):
            call()
    assert not data_dir.exists()


def test_two_writes_within_one_tick_are_told_apart(data_dir: Path) -> None:
    """The clock of the kernel stands still between them, and inode numbers come back."""
    storage, other = FilesStorage(data_dir), FilesStorage(data_dir)
    storage.deploy(REF, draft(b"// 0000"))
    for number in range(1, 300):
        storage.deploy(REF, draft(b"// %04d" % number))
        if number % 3 == 0:
            assert other.resolve(REF).deployment.version == number + 1


def test_two_functions_are_written_at_the_same_time(data_dir: Path) -> None:
    """A writer held up in one function does not hold up the next."""
    inner: list[int] = []

    def step(point: str) -> None:
        if point == "deploy.committed" and not inner:
            inner.append(0)
            inner[0] = (
                FilesStorage(data_dir)
                .deploy(FunctionRef("", "b"), draft(b"// b"))
                .deployment.version
            )

    FilesStorage(data_dir, step=step).deploy(FunctionRef("", "a"), draft(b"// a"))
    assert inner == [1]


def test_a_reader_does_not_wait_for_a_writer(data_dir: Path) -> None:
    """In the middle of a deploy readers see old before its commit and new after it."""
    seen: dict[str, tuple[bytes, dict[str, str]]] = {}

    def step(point: str) -> None:
        for one in (kept, FilesStorage(data_dir)):
            resolution = one.resolve(REF)
            seen[point] = (one.source(resolution.deployment), resolution.levels[-1].env)

    kept = FilesStorage(data_dir)
    kept.deploy(REF, draft(b"// old", {"A": "old"}))
    FilesStorage(data_dir, step=step).deploy(REF, draft(b"// new", {"A": "new"}))

    commit = list(seen).index("deploy.committed")
    found = list(seen.values())
    assert found[:commit] == [(b"// old", {"A": "old"})] * commit
    assert found[commit:] == [(b"// new", {"A": "new"})] * (len(found) - commit)


def test_published_files_get_newer_although_the_clock_stands_still(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their mtime tells two writes apart where inode, size and the kernel's time do not."""
    storage = FilesStorage(data_dir)
    monkeypatch.setattr(time, "time_ns", lambda: 1_800_000_000_000_000_000)
    file = data_dir / "collections/__root__/functions/greet.mjs"
    stamps = []
    for number in range(5):
        storage.deploy(REF, draft(b"// %d" % number))
        stamps.append(file.stat().st_mtime_ns)

    assert stamps == sorted(set(stamps))


def test_what_changed_just_now_is_looked_at_again(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within one tick of the kernel's clock a second change may leave no trace."""
    assert reader.RACY_NS >= 10_000_000, "a tick may take 10 ms"
    storage = FilesStorage(data_dir)
    storage.deploy(REF, draft(b"// 1"))
    monkeypatch.setattr(reader, "RACY_NS", 3600 * 10**9)
    first = storage.resolve(REF)
    assert not storage._resolved[REF].settled
    assert storage.resolve(REF) is first

    monkeypatch.setattr(reader, "RACY_NS", 0)
    assert storage.resolve(REF) is first
    assert storage._resolved[REF].settled


def test_a_cached_env_is_not_the_callers(data_dir: Path) -> None:
    storage = FilesStorage(data_dir)
    storage.deploy(REF, draft(b"// 1", {"A": "1"}))
    storage.set_collection_env("", {"A": "1"})
    settled(storage, REF)
    storage.function_env(REF)["A"] = "2"
    storage.collection_env("")["A"] = "2"

    assert [level.env for level in storage.resolve(REF).levels] == [{"A": "1"}, {"A": "1"}]
    assert storage.function_env(REF) == storage.collection_env("") == {"A": "1"}


def test_an_edit_is_adopted_by_one_alone(data_dir: Path) -> None:
    """Who comes while another adopts it serves the last good version, without waiting."""
    seen: list[int] = []

    def step(point: str) -> None:
        if point.startswith("adopt."):
            seen.append(FilesStorage(data_dir).resolve(REF).deployment.version)

    FilesStorage(data_dir).deploy(REF, draft(b"// 1"))
    file = data_dir / "collections/__root__/functions/greet.mjs"
    file.write_text("// by hand")
    os.utime(file, (1, 1))

    assert FilesStorage(data_dir, step=step).resolve(REF).deployment.version == 2
    assert seen == sorted(seen)
    assert set(seen) == {1, 2}
    assert len(list(data_dir.rglob("2-*.mjs"))) == 1


@pytest.mark.fault(122)
def test_a_pinned_version_that_becomes_current_meanwhile_comes_with_its_env(
    data_dir: Path,
) -> None:
    """Between looking at what is current and looking for the pinned one, it was deployed."""
    other = FilesStorage(data_dir, keep_versions=5)

    class Overtaken(FilesStorage):
        def deployment(self, ref: FunctionRef, version: int | None = None) -> Deployment:
            if version == 2 and other.deployment(ref).version == 1:
                other.deploy(ref, draft(b"// 2", {"A": "2"}))
            return super().deployment(ref, version)

    storage = Overtaken(data_dir, keep_versions=5)
    other.deploy(REF, draft(b"// 1", {"A": "1"}))
    assert storage.resolve(REF).deployment.version == 1
    for _ in range(2):
        resolution = storage.resolve(REF, 2)
        assert resolution.deployment == other.deployment(REF, 2)
        assert resolution.deployment.current
        assert resolution.levels[-1].env == {"A": "2"}
    other.deploy(REF, draft(b"// 3", {"A": "3"}))
    pinned = storage.resolve(REF, 2)
    assert (pinned.deployment.version, pinned.deployment.current) == (2, False)
    assert pinned.levels[-1].env == {"A": "3"}
