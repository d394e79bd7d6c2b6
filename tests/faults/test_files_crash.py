"""Ends a process at every point of every write of the files storage, reopens, proves old or new."""

from __future__ import annotations

import os
import shutil
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
