"""Ends a process at every point of every write of the files storage, reopens, proves old or new."""

from __future__ import annotations

import os
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from lowcode_faas_files import tree
from lowcode_faas_files.faultpoints import FAULT_POINTS
from lowcode_faas_files.storage import FilesStorage

from lowcode_faas_core.model import Draft, FunctionRef, Language, Limits, Reuse

KEEP = 3
KILLED = 77
ROOT = FunctionRef("", "greet")
NESTED = FunctionRef("org/team", "greet")
FUNCTIONS = "collections/__root__/functions"


def draft(source: bytes, env: dict[str, str] | None = None, **changes: Any) -> Draft:
    parts: dict[str, Any] = {"language": Language.JAVASCRIPT, "reuse": Reuse.WARM, **changes}
    return Draft(source=source, env=env, **parts)


def age(path: Path) -> None:
    """Make a file older than the second after which an edit counts as finished."""
    past = time.time() - 5
    os.utime(path, (past, past))


@dataclass(frozen=True)
class Scenario:
    """One write: how the folder looks before it, and the write itself.

    ``finishes`` is set where opening the folder does what the write was to do anyway.
    """

    prepare: Callable[[FilesStorage, Path], None]
    write: Callable[[FilesStorage], object]
    finishes: bool = False


def nothing(storage: FilesStorage, data: Path) -> None:
    del storage, data


def two_versions(storage: FilesStorage, data: Path) -> None:
    storage.deploy(ROOT, draft(b"// 1", {"A": "1"}))
    storage.deploy(ROOT, draft(b"// 2", limits=Limits(pids=20)))


def nested(storage: FilesStorage, data: Path) -> None:
    storage.create_collection("org/team", {"LEVEL": "team"})
    storage.deploy(NESTED, draft(b"// 1", {"A": "1"}))
    storage.deploy(FunctionRef("org", "other"), draft(b"// other"))


def legacy(storage: FilesStorage, data: Path) -> None:
    (data / "functions").mkdir(parents=True)
    (data / "functions/greet.mjs").write_text("// legacy")
    (data / "functions/greet.env.json").write_text('{"OLD": "1"}')
    age(data / "functions/greet.mjs")


def legacy_without_env(storage: FilesStorage, data: Path) -> None:
    legacy(storage, data)
    (data / "functions/greet.env.json").unlink()


def shadowed_legacy(storage: FilesStorage, data: Path) -> None:
    two_versions(storage, data)
    legacy(storage, data)


def both_languages(storage: FilesStorage, data: Path) -> None:
    two_versions(storage, data)
    (data / FUNCTIONS / "greet.mts").write_text("// older")
    os.utime(data / FUNCTIONS / "greet.mts", (1, 1))


def edited(storage: FilesStorage, data: Path) -> None:
    two_versions(storage, data)
    (data / FUNCTIONS / "greet.mjs").write_text("// by hand")
    age(data / FUNCTIONS / "greet.mjs")


def dropped(storage: FilesStorage, data: Path) -> None:
    (data / FUNCTIONS).mkdir(parents=True)
    (data / FUNCTIONS / "greet.mjs").write_text("// by hand")
    (data / FUNCTIONS / "greet.env.json").write_text('{"A": "hand"}')
    age(data / FUNCTIONS / "greet.mjs")


def removed_by_hand(storage: FilesStorage, data: Path) -> None:
    two_versions(storage, data)
    (data / FUNCTIONS / "greet.mjs").unlink()


def interrupted(first: bool) -> Callable[[FilesStorage, Path], None]:
    def prepare(storage: FilesStorage, data: Path) -> None:
        if not first:
            two_versions(storage, data)
        crash(data, lambda one: one.deploy(ROOT, draft(b"// 3", {"A": "3"})), "deploy.committed")

    return prepare


SCENARIOS = {
    "first deploy": Scenario(
        nothing, lambda s: s.deploy(ROOT, draft(b"// new", {"A": "1"}, limits=Limits(pids=9)))
    ),
    "next deploy with env": Scenario(
        two_versions, lambda s: s.deploy(ROOT, draft(b"// 3", {"A": "3"}, reuse=Reuse.FRESH))
    ),
    "next deploy": Scenario(two_versions, lambda s: s.deploy(ROOT, draft(b"// 3"))),
    "deploy of limits alone": Scenario(two_versions, lambda s: s.deploy(ROOT, draft(b"// 2"))),
    "deploy into a collection": Scenario(nested, lambda s: s.deploy(NESTED, draft(b"// 2"))),
    "deploy over legacy": Scenario(legacy, lambda s: s.deploy(ROOT, draft(b"// new"))),
    "deploy after a removal by hand": Scenario(
        removed_by_hand, lambda s: s.deploy(ROOT, draft(b"// again"))
    ),
    "rollback": Scenario(two_versions, lambda s: s.rollback(ROOT, 1)),
    "adoption of an edit": Scenario(edited, lambda s: s.resolve(ROOT), finishes=True),
    "adoption of a new file": Scenario(dropped, lambda s: s.resolve(ROOT), finishes=True),
    "deploy over an edit": Scenario(edited, lambda s: s.deploy(ROOT, draft(b"// 4"))),
    "recovery of a deploy": Scenario(interrupted(False), lambda s: s.resolve(ROOT), finishes=True),
    "recovery of a first deploy": Scenario(
        interrupted(True), lambda s: s.resolve(ROOT), finishes=True
    ),
    "function env": Scenario(two_versions, lambda s: s.set_function_env(ROOT, {"A": "9"})),
    "collection env": Scenario(nested, lambda s: s.set_collection_env("org", {"A": "9"})),
    "root env": Scenario(nothing, lambda s: s.set_collection_env("", {"A": "9"})),
    "delete": Scenario(nested, lambda s: s.delete_function(NESTED)),
    "delete of both places": Scenario(shadowed_legacy, lambda s: s.delete_function(ROOT)),
    "delete of legacy": Scenario(legacy, lambda s: s.delete_function(ROOT)),
    "delete of legacy without env": Scenario(legacy_without_env, lambda s: s.delete_function(ROOT)),
    "delete of both languages": Scenario(both_languages, lambda s: s.delete_function(ROOT)),
    "collection create": Scenario(nested, lambda s: s.create_collection("org/x/y", {"A": "1"})),
    "first collection": Scenario(nothing, lambda s: s.create_collection("a/b", {"A": "1"})),
    "collection delete": Scenario(
        lambda s, d: (nested(s, d), s.delete_function(NESTED))[0],
        lambda s: s.delete_collection("org/team"),
    ),
}


def in_child(
    data: Path, write: Callable[[FilesStorage], object], step: Callable[[str], None]
) -> int:
    """Run a write in a child process and return its exit code."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            write(FilesStorage(data, keep_versions=KEEP, step=step))
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def crash(data: Path, write: Callable[[FilesStorage], object], at: str | int) -> str:
    """Run a write and end its process at a point, named or counted; return the point's name."""
    passed: list[str] = []
    reader, writer = os.pipe()

    def step(point: str) -> None:
        passed.append(point)
        if at in (point, len(passed) - 1):
            os.write(writer, point.encode())
            os._exit(KILLED)

    code = in_child(data, write, step)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        point = pipe.read()
    assert code == KILLED, f"the write ended with {code} before {at}"
    return point


def snapshot(data: Path) -> dict[str, Any]:
    """Return everything a user can see, but for ids and times."""
    storage = FilesStorage(data, keep_versions=KEEP)
    found: dict[str, Any] = {}
    for path in ("", *(one.path for one in storage.collections("", 100).items)):
        functions: dict[str, Any] = {}
        for function in storage.functions(path, 100).items:
            ref = FunctionRef(path, function.name)
            functions[function.name] = {
                "env": storage.function_env(ref),
                "versions": [
                    (
                        row.version,
                        storage.source(row),
                        row.language,
                        row.reuse,
                        row.limits,
                        row.current,
                    )
                    for row in storage.versions(ref, 100).items
                ],
            }
        found[path] = {"env": storage.collection_env(path), "functions": functions}
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    shm = Path("/dev/shm")
    if os.access(shm, os.W_OK):
        folder = shm / f"faas-crash-{os.getpid()}"
        folder.mkdir()
        yield folder
        shutil.rmtree(folder)
    else:
        yield tmp_path


def points_of(folder: Path, scenario: Scenario) -> list[str]:
    """Prepare the scenario's folder and return the points its write passes."""
    data = folder / "before"
    scenario.prepare(FilesStorage(data, keep_versions=KEEP), data)
    data.mkdir(exist_ok=True)
    passed = folder / "passed"
    passed.write_text("")

    def step(point: str) -> None:
        with passed.open("a") as file:
            file.write(point + "\n")

    shutil.copytree(data, folder / "after")
    assert in_child(folder / "after", scenario.write, step) == 0
    return passed.read_text().split()


@pytest.mark.fault(108)
@pytest.mark.parametrize("name", SCENARIOS)
def test_a_crash_leaves_old_or_new(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenario = SCENARIOS[name]
    points = points_of(folder, scenario)
    assert points
    allowed = [snapshot(folder / "after")]
    if not scenario.finishes:
        shutil.copytree(folder / "before", folder / "old")
        allowed.append(snapshot(folder / "old"))
        assert allowed[0] != allowed[1]

    for number, point in enumerate(points):
        data = folder / "crashed"
        shutil.copytree(folder / "before", data)
        assert crash(data, scenario.write, number) == point
        found = snapshot(data)
        assert found in allowed, f"after a crash at {point}"
        assert snapshot(data) == found, f"a second look after a crash at {point} differs"
        for path, collection in found.items():
            for function, kept in collection["functions"].items():
                check_files(data, FunctionRef(path, function), kept, point)
        with monkeypatch.context() as patched:
            patched.setattr(tree, "SWEEP_AGE_S", -1)
            snapshot(data)
        assert not list(data.rglob(".tmp-*")), f"leftovers of a crash at {point}"
        check_goes_on(data, found, point)
        shutil.rmtree(data)
    print(f"{name}: {', '.join(points)}")


def check_files(data: Path, ref: FunctionRef, kept: dict[str, Any], point: str) -> None:
    """The file people see holds the current version, and no commit is half put in place."""
    version, source, language, *_ = kept["versions"][0]
    folder = data / "collections" / (ref.collection_path or "__root__") / "functions"
    file = folder / (ref.name + language.suffix)
    if not file.exists():
        file = data / "functions" / file.name
    assert file.read_bytes() == source, f"{file.name} of version {version} after {point}"
    markers = list(folder.glob(f".versions/{ref.name}/{version}-*.publishing"))
    assert not markers, f"version {version} after {point}"


def check_goes_on(data: Path, found: dict[str, Any], point: str) -> None:
    """Whatever a crash left, the next deploy is the next version, and its env is kept."""
    storage = FilesStorage(data, keep_versions=KEEP)
    current = found[""]["functions"].get("greet")
    row = storage.deploy(ROOT, draft(b"// after the crash")).deployment
    expected = current["versions"][0][0] + 1 if current else 1
    assert row.version == expected, f"after a crash at {point}"
    assert storage.source(storage.resolve(ROOT).deployment) == b"// after the crash"
    assert storage.function_env(ROOT) == (current["env"] if current else {})


@pytest.mark.fault(108)
def test_every_declared_point_is_reached(folder: Path) -> None:
    reached: set[str] = set()
    for number, scenario in enumerate(SCENARIOS.values()):
        place = folder / str(number)
        place.mkdir()
        reached.update(points_of(place, scenario))

    print(f"{len(FAULT_POINTS)} points: {', '.join(FAULT_POINTS)}")
    assert sorted(reached) == sorted(FAULT_POINTS)


@pytest.mark.fault(108)
def test_old_leftovers_are_removed_and_young_ones_stay(tmp_path: Path) -> None:
    data = tmp_path / "data"
    two_versions(FilesStorage(data), data)
    young = data / FUNCTIONS / ".tmp-1-young"
    young.write_text("somebody may be writing this")
    FilesStorage(data).resolve(ROOT)

    assert young.exists()


class Disk:
    """What a folder's disk holds for certain: what was synced, and nothing else.

    ``fsync`` of a file keeps its bytes, of a directory the names in it. A power loss leaves that
    (:meth:`strictly`), or every name there is, with the bytes of files that were not synced lost
    (:meth:`names_only`): file systems may do either.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.watching = True
        self._files: dict[int, tuple[bytes, int]] = {}
        self._folders: dict[int, dict[str, tuple[int, bool]]] = {}
        #: Kept open, so that no inode number is used a second time.
        self._held: list[int] = []
        for folder, _, names in os.walk(root):
            for path in (folder, *(os.path.join(folder, name) for name in names)):
                fd = os.open(path, os.O_RDONLY)
                self._keep(fd)
                os.close(fd)

    def fsync(self, fd: int) -> None:
        """Stand in for ``os.fsync``."""
        if self.watching:
            self._keep(fd)

    def _keep(self, fd: int) -> None:
        status = os.fstat(fd)
        if stat.S_ISDIR(status.st_mode):
            names = {one.name: (one.inode(), one.is_dir()) for one in os.scandir(fd)}
            self._folders[status.st_ino] = names
        else:
            data = Path(f"/proc/self/fd/{fd}").read_bytes()
            self._files[status.st_ino] = (data, status.st_mtime_ns)
        self._held.append(os.dup(fd))

    def close(self) -> None:
        for fd in self._held:
            os.close(fd)

    def strictly(self, to: Path) -> None:
        """Build what is left where nothing is there but what was synced."""
        self._build(self.root.stat().st_ino, to)

    def _build(self, inode: int, to: Path) -> None:
        to.mkdir()
        for name, (inner, is_folder) in self._folders.get(inode, {}).items():
            if is_folder:
                self._build(inner, to / name)
            else:
                self._write(inner, to / name)

    def names_only(self, to: Path) -> None:
        """Build what is left where every name is there, but only synced bytes."""
        to.mkdir()
        for path in sorted(self.root.rglob("*")):
            target = to / path.relative_to(self.root)
            if path.is_dir():
                target.mkdir()
            else:
                self._write(path.stat().st_ino, target)

    def _write(self, inode: int, to: Path) -> None:
        data, mtime = self._files.get(inode, (b"", 0))
        to.write_bytes(data)
        os.utime(to, ns=(mtime, mtime))

    def after_power_loss(self, place: Path) -> Iterator[tuple[str, dict[str, Any]]]:
        """Return what users see after a power loss now, in each way it may happen."""
        self.watching = False
        for build in (self.strictly, self.names_only):
            build(place)
            yield build.__name__, snapshot(place / "data")
            shutil.rmtree(place)
        self.watching = True


@pytest.fixture
def disk(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], Disk]]:
    disks: list[Disk] = []

    def watch(root: Path) -> Disk:
        disks.append(Disk(root))
        monkeypatch.setattr(os, "fsync", disks[-1].fsync)
        return disks[-1]

    yield watch
    for one in disks:
        one.close()


@pytest.mark.fault(100)
@pytest.mark.fault(108)
@pytest.mark.parametrize("name", SCENARIOS)
def test_a_power_loss_leaves_old_or_new(
    name: str, folder: Path, disk: Callable[[Path], Disk]
) -> None:
    scenario = SCENARIOS[name]
    points_of(folder, scenario)
    new = snapshot(folder / "after")
    shutil.copytree(folder / "before", folder / "old")
    allowed = [new] if scenario.finishes else [new, snapshot(folder / "old")]
    machine = folder / "machine"
    machine.mkdir()
    (folder / "before").rename(machine / "data")
    watched = disk(machine)

    def step(point: str) -> None:
        for way, found in watched.after_power_loss(folder / "lost"):
            assert found in allowed, f"{way} after a power loss at {point}"

    scenario.write(FilesStorage(machine / "data", keep_versions=KEEP, step=step))
    for way, found in watched.after_power_loss(folder / "lost"):
        assert found == new, f"{way}: an acknowledged write was lost"


#: Writes that follow each other; what one leaves unsynced must not undo the next.
WRITES: dict[str, Callable[[FilesStorage], object]] = {
    "deploy": lambda s: s.deploy(ROOT, draft(b"// d", {"A": "d"})),
    "deploy without env": lambda s: s.deploy(ROOT, draft(b"// e")),
    "rollback": lambda s: s.rollback(ROOT, s.deployment(ROOT).version),
    "env": lambda s: s.set_function_env(ROOT, {"A": "set"}),
    "delete": lambda s: s.delete_function(ROOT),
    "delete, deploy": lambda s: (s.delete_function(ROOT), s.deploy(ROOT, draft(b"// again"))),
    "collection": lambda s: s.create_collection("org/team", {"L": "1"}),
    "collection, delete": lambda s: (
        s.create_collection("brief", {"L": "1"}),
        s.delete_collection("brief"),
    ),
}


@pytest.mark.fault(100)
@pytest.mark.parametrize("second", WRITES)
@pytest.mark.parametrize("first", ["deploy", "deploy without env", "rollback", "env"])
def test_an_acknowledged_write_is_not_undone_by_what_came_before(
    first: str, second: str, folder: Path, disk: Callable[[Path], Disk]
) -> None:
    machine = folder / "machine"
    machine.mkdir()
    watched = disk(machine)
    storage = FilesStorage(machine / "data", keep_versions=KEEP)
    storage.deploy(ROOT, draft(b"// first", {"A": "first"}))
    WRITES[first](storage)
    WRITES[second](storage)
    watched.watching = False
    shutil.copytree(machine, folder / "whole")
    expected = snapshot(folder / "whole" / "data")
    for way, found in watched.after_power_loss(folder / "lost"):
        assert found == expected, way


@pytest.mark.fault(108)
def test_the_versions_of_an_earlier_life_do_not_come_back(tmp_path: Path) -> None:
    """Somebody removed source and records by hand, and left the kept versions."""
    data = tmp_path / "data"
    two_versions(FilesStorage(data, keep_versions=KEEP), data)
    for file in (data / FUNCTIONS).glob("greet.*"):
        file.unlink()
    storage = FilesStorage(data, keep_versions=KEEP)
    for number in range(2):
        storage.deploy(ROOT, draft(b"// new %d" % number))

    rows = storage.versions(ROOT, 10).items
    assert [(row.version, storage.source(row)) for row in rows] == [
        (2, b"// new 1"),
        (1, b"// new 0"),
    ]
