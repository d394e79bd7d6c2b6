"""Disks that are full, broken or read-only, and what the files storage makes durable when."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lowcode_faas_files.storage import FilesStorage

from lowcode_faas_core.errors import (
    CommitUnknown,
    FunctionNotFound,
    PlatformError,
    StorageFull,
    StorageUnavailable,
)
from lowcode_faas_core.model import Draft, FunctionRef, Language, Reuse

REF = FunctionRef("", "greet")
WRITES: dict[str, Callable[[FilesStorage], object]] = {
    "deploy": lambda s: s.deploy(REF, draft(b"// new", {"A": "new"})),
    "rollback": lambda s: s.rollback(REF, 1),
    "function env": lambda s: s.set_function_env(REF, {"A": "new"}),
    "collection env": lambda s: s.set_collection_env("", {"A": "new"}),
    "collection create": lambda s: s.create_collection("org/team", {}),
}


def draft(source: bytes, env: dict[str, str] | None = None) -> Draft:
    return Draft(source=source, language=Language.JAVASCRIPT, reuse=Reuse.WARM, env=env)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def storage(data: Path) -> FilesStorage:
    storage = FilesStorage(data, keep_versions=3)
    storage.deploy(REF, draft(b"// old", {"A": "old"}))
    storage.resolve(REF)
    return storage


def failing(call: Callable[..., Any], number: int, at: int) -> Callable[..., Any]:
    """Return ``call``, failing with the error ``number`` at its ``at``-th use."""
    uses = iter(range(10**6))

    def fail(*args: Any, **kwargs: Any) -> Any:
        if next(uses) == at:
            raise OSError(number, os.strerror(number))
        return call(*args, **kwargs)

    return fail


def check_old_is_served(storage: FilesStorage, data: Path) -> None:
    for one in (storage, FilesStorage(data, keep_versions=3)):
        resolution = one.resolve(REF)
        assert one.source(resolution.deployment) == b"// old"
        assert resolution.levels[-1].env == {"A": "old"}
    assert [file.name for file in data.rglob(".tmp-*")] == []


@pytest.mark.fault(109)
@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize(
    ("call", "number", "expected"),
    [
        ("write", errno.ENOSPC, StorageFull),
        ("write", errno.EDQUOT, StorageFull),
        ("write", errno.EIO, StorageUnavailable),
        ("fsync", errno.EIO, StorageUnavailable),
        ("rename", errno.EROFS, StorageUnavailable),
        ("rename", errno.ENOSPC, StorageFull),
        ("open", errno.EMFILE, StorageUnavailable),
        ("open", errno.EACCES, StorageUnavailable),
    ],
)
def test_a_failed_write_changes_nothing(
    storage: FilesStorage,
    data: Path,
    monkeypatch: pytest.MonkeyPatch,
    write: str,
    call: str,
    number: int,
    expected: type[PlatformError],
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(os, call, failing(getattr(os, call), number, 0))
        with pytest.raises(expected):
            WRITES[write](storage)

    check_old_is_served(storage, data)
    WRITES[write](storage)


@pytest.mark.fault(109)
@pytest.mark.parametrize("call", ["write", "fsync", "rename", "open", "unlink", "mkdir"])
def test_an_error_at_any_point_of_a_deploy(
    data: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """Old or new, whichever call fails first; a deploy that reports success has happened."""
    for at in range(100):
        folder = data / f"{call}-{at}"
        storage = FilesStorage(folder, keep_versions=3)
        storage.deploy(REF, draft(b"// old", {"A": "old"}))
        failed, unknown = False, False
        fail = failing(getattr(os, call), errno.EIO, at)
        with monkeypatch.context() as patched:
            patched.setattr(os, call, fail)
            try:
                storage.deploy(REF, draft(b"// new", {"A": "new"}))
            except CommitUnknown:
                unknown = True
            except StorageUnavailable:
                failed = True
            exhausted = fail.__closure__ is not None and _uses(fail) <= at
        for one in (storage, FilesStorage(folder, keep_versions=3)):
            resolution = one.resolve(REF)
            found = (one.source(resolution.deployment), resolution.levels[-1].env["A"])
            allowed = {(b"// old", "old")} if failed else {(b"// new", "new")}
            assert found in allowed | ({(b"// old", "old")} if unknown else set()), f"{call} {at}"
        assert call == "unlink" or not list(folder.rglob(".tmp-*")), f"{call} {at}"
        if failed and call != "unlink":
            history = folder / "collections/__root__/functions/.versions/greet"
            staged = [file.name for file in history.glob("2-*")]
            assert staged == [], f"{call} {at} left {staged}"
        if exhausted:
            assert not failed
            return
    raise AssertionError("a deploy makes fewer calls than this")


def _uses(fail: Callable[..., Any]) -> int:
    """Return how often a ``failing`` call was used."""
    cells = dict(zip(fail.__code__.co_freevars, fail.__closure__ or (), strict=True))
    return 10**6 - cells["uses"].cell_contents.__length_hint__()


@pytest.mark.fault(109)
def test_a_failed_fsync_is_not_tried_again(
    storage: FilesStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def fsync(fd: int) -> None:
        calls.append(fd)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fsync)
        with pytest.raises(StorageUnavailable):
            storage.deploy(REF, draft(b"// new"))
    assert len(calls) == 1


@pytest.mark.fault(109)
def test_a_commit_that_may_not_last_is_said_to_be_unknown(
    storage: FilesStorage, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    renamed = []

    def rename(*args: Any, **kwargs: Any) -> None:
        original_rename(*args, **kwargs)
        renamed.append(args[1])

    def fsync(fd: int) -> None:
        if "greet.meta.json" in renamed:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        original_fsync(fd)

    original_rename, original_fsync = os.rename, os.fsync
    with monkeypatch.context() as patched:
        patched.setattr(os, "rename", rename)
        patched.setattr(os, "fsync", fsync)
        with pytest.raises(CommitUnknown) as caught:
            storage.deploy(REF, draft(b"// new"))
    assert caught.value.outcome == "unknown"
    assert storage.source(storage.resolve(REF).deployment) == b"// new"


@pytest.mark.fault(109)
def test_a_delete_that_may_not_last_is_said_to_be_unknown(
    storage: FilesStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    removed = []

    def unlink(name: str, **kwargs: Any) -> None:
        original_unlink(name, **kwargs)
        removed.append(name)

    def fsync(fd: int) -> None:
        if "greet.mjs" in removed:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        original_fsync(fd)

    original_unlink, original_fsync = os.unlink, os.fsync
    with monkeypatch.context() as patched:
        patched.setattr(os, "unlink", unlink)
        patched.setattr(os, "fsync", fsync)
        with pytest.raises(CommitUnknown) as caught:
            storage.delete_function(REF)
    assert caught.value.outcome == "unknown"
    with pytest.raises(FunctionNotFound):
        storage.resolve(REF)


@pytest.mark.fault(109)
def test_a_delete_that_took_effect_is_one_whatever_stays_behind(
    storage: FilesStorage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def unlink(name: str, **kwargs: Any) -> None:
        if name == "greet.meta.json":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        original_unlink(name, **kwargs)

    original_unlink = os.unlink
    with monkeypatch.context() as patched:
        patched.setattr(os, "unlink", unlink)
        storage.delete_function(REF)
    assert "greet is deleted, but not all it had" in caplog.text
    with pytest.raises(FunctionNotFound):
        storage.resolve(REF)
    # And its name can be used again.
    assert storage.deploy(REF, draft(b"// anew")).created


@pytest.mark.fault(109)
def test_a_deploy_is_durable_in_order(
    storage: FilesStorage, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything the commit refers to is synced before it, the commit before the answer."""
    events: list[tuple[str, str]] = []
    real_fsync, real_rename = os.fsync, os.rename

    def fsync(fd: int) -> None:
        events.append(("sync", os.readlink(f"/proc/self/fd/{fd}").removeprefix(f"{data}/")))
        real_fsync(fd)

    def rename(old: str, new: str, **kwargs: Any) -> None:
        folder = os.readlink(f"/proc/self/fd/{kwargs['src_dir_fd']}").removeprefix(f"{data}/")
        assert ("sync", f"{folder}/{old}") in events or not old.startswith(".tmp-")
        events.append(("rename", new))
        real_rename(old, new, **kwargs)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "rename", rename)
    row = storage.deploy(REF, draft(b"// new", {"A": "new"})).deployment

    functions = "collections/__root__/functions"
    history = f"{functions}/.versions/greet"
    stem = f"2-{row.deployment_id}"
    commit = events.index(("rename", "greet.meta.json"))
    before, after = events[:commit], events[commit + 1 :]
    staged = max(before.index(("rename", f"{stem}{end}")) for end in (".mjs", ".env.json"))
    assert ("sync", history) in before[staged:]
    published = after.index(("rename", "greet.mjs"))
    assert after.index(("sync", functions)) < published
    assert ("sync", functions) in after[published:]
    assert after.index(("rename", "greet.env.json")) < published


@pytest.mark.fault(109)
@pytest.mark.parametrize("write", ["function env", "collection env", "collection create"])
def test_small_writes_are_durable_before_they_answer(
    storage: FilesStorage, data: Path, monkeypatch: pytest.MonkeyPatch, write: str
) -> None:
    events: list[str] = []
    real_fsync, real_rename = os.fsync, os.rename

    def fsync(fd: int) -> None:
        events.append(f"sync {os.readlink(f'/proc/self/fd/{fd}')}")
        real_fsync(fd)

    def rename(old: str, new: str, **kwargs: Any) -> None:
        target = os.readlink(f"/proc/self/fd/{kwargs['dst_dir_fd']}")
        events.append(f"rename into {target}")
        real_rename(old, new, **kwargs)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "rename", rename)
    WRITES[write](storage)

    last = max(number for number, event in enumerate(events) if event.startswith("rename"))
    folder = events[last].removeprefix("rename into ")
    assert events[0].startswith("sync")
    assert f"sync {folder}" in events[last + 1 :]


@pytest.mark.fault(109)
def test_descriptors_do_not_leak(storage: FilesStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    def count() -> int:
        return len(os.listdir("/proc/self/fd"))

    before = count()
    for number in range(30):
        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", failing(os.fsync, errno.EIO, number % 8))
            try:
                storage.deploy(REF, draft(b"// %d" % number))
            except StorageUnavailable:
                storage.set_function_env(REF, {"N": str(number)})
        storage.resolve(REF)
        storage.functions("", 10)
    assert count() == before


@pytest.mark.fault(109)
def test_a_read_only_folder_is_read(storage: FilesStorage, data: Path) -> None:
    """Reads work, edits are not adopted, writes say why. Root is made an ordinary user first."""
    functions = data / "collections/__root__/functions"
    (functions / "greet.mjs").write_text("// by hand")
    os.utime(functions / "greet.mjs", (1, 1))
    (functions / "dropped.mjs").write_text("// by hand")
    os.utime(functions / "dropped.mjs", (1, 1))
    for path in (data, *data.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    parents = [parent for parent in data.parents if parent.owner() == data.owner()]
    modes = {parent: parent.stat().st_mode for parent in parents}
    for parent in parents:
        parent.chmod(modes[parent] | 0o555)
    try:
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                if os.geteuid() == 0:
                    os.setgroups([])
                    os.setresgid(65534, 65534, 65534)
                    os.setresuid(65534, 65534, 65534)
                os.write(writer, _use_read_only(data).encode())
            except BaseException as error:
                os.write(writer, repr(error).encode())
            finally:
                os._exit(0)
        os.close(writer)
        with os.fdopen(reader) as pipe:
            told = pipe.read()
        os.waitpid(child, 0)
    finally:
        for parent, mode in modes.items():
            parent.chmod(mode)
        for path in (data, *data.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
    assert told == "fine"
    assert storage.source(storage.resolve(REF).deployment) == b"// by hand"


def _use_read_only(data: Path) -> str:
    storage = FilesStorage(data)
    storage.check()
    for _ in range(2):
        resolution = storage.resolve(REF)
        assert storage.source(resolution.deployment) == b"// old", "an edit was adopted"
        assert resolution.levels[-1].env == {"A": "old"}
    assert [one.name for one in storage.functions("", 10).items] == ["greet"]
    for name, write in WRITES.items():
        try:
            write(storage)
        except StorageUnavailable:
            continue
        return f"{name} was not refused"
    return "fine"


@pytest.mark.fault(109)
def test_check_says_when_the_folder_cannot_be_used(tmp_path: Path) -> None:
    FilesStorage(tmp_path / "absent" / "data").check()
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageUnavailable):
        FilesStorage(tmp_path / "file").check()
    with pytest.raises(StorageUnavailable):
        FilesStorage(tmp_path / "file" / "data").check()
