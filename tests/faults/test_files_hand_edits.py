"""What people, and people who mean harm, put into the data folder by hand."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from lowcode_faas_files import disk
from lowcode_faas_files.disk import Folder
from lowcode_faas_files.storage import FilesStorage

from lowcode_faas_core.errors import (
    CollectionNotEmpty,
    CollectionNotFound,
    EnvCorrupt,
    FunctionNotFound,
    LanguageConflict,
    NameClash,
    RequestError,
    SourceCorrupt,
)
from lowcode_faas_core.model import Draft, FunctionRef, Language, Limits, Reuse

REF = FunctionRef("", "greet")


def draft(source: bytes, env: dict[str, str] | None = None) -> Draft:
    return Draft(source=source, language=Language.JAVASCRIPT, reuse=Reuse.WARM, env=env)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def storage(data: Path) -> FilesStorage:
    return FilesStorage(data, keep_versions=3)


@pytest.fixture
def functions(data: Path) -> Path:
    folder = data / "collections/__root__/functions"
    folder.mkdir(parents=True)
    return folder


def put(path: Path, content: str | bytes) -> Path:
    """Write a file as somebody who finished long ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    past = time.time() - 5
    os.utime(path, (past, past))
    return path


def current(storage: FilesStorage, ref: FunctionRef = REF) -> tuple[int, bytes]:
    row = storage.resolve(ref).deployment
    return row.version, storage.source(row)


# Edits


def test_an_edit_is_the_next_version(storage: FilesStorage, functions: Path) -> None:
    storage.deploy(
        REF,
        Draft(
            source=b"// 1",
            language=Language.JAVASCRIPT,
            reuse=Reuse.FRESH,
            limits=Limits(pids=20),
            env={"A": "1"},
            source_url="https://example.org/x.mjs",
            checked=True,
        ),
    )
    put(functions / "greet.mjs", "// by hand")
    row = storage.resolve(REF).deployment

    assert (row.version, storage.source(row)) == (2, b"// by hand")
    assert (row.reuse, row.limits) == (Reuse.FRESH, Limits(pids=20))
    assert (row.source_url, row.checked) == (None, False)
    assert [one.version for one in storage.versions(REF, 9).items] == [2, 1]
    assert storage.source(storage.deployment(REF, 1)) == b"// 1"
    assert storage.resolve(REF).deployment is storage.resolve(REF).deployment
    assert FilesStorage(functions.parents[2]).resolve(REF).deployment == row


def test_a_fresh_edit_runs_at_the_next_invocation(storage: FilesStorage, functions: Path) -> None:
    """Two looks 50 ms apart are part of that invocation."""
    storage.deploy(REF, draft(b"// 1"))
    (functions / "greet.mjs").write_text("// by hand")

    assert current(storage) == (2, b"// by hand")


def test_an_edit_still_going_on_does_not_run(storage: FilesStorage, functions: Path) -> None:
    """The last good version runs while somebody writes, the finished file after."""
    storage.deploy(REF, draft(b"// 1"))
    stop = threading.Event()

    def write_slowly() -> None:
        number = 0
        with (functions / "greet.mjs").open("w") as file:
            while not stop.wait(0.005):
                number += 1
                file.write(f"// line {number}\n")
                file.flush()

    writer = threading.Thread(target=write_slowly)
    writer.start()
    try:
        while b"line" not in (functions / "greet.mjs").read_bytes():
            assert writer.is_alive()
        seen = {current(storage) for _ in range(5)}
    finally:
        stop.set()
        writer.join()

    assert seen == {(1, b"// 1")}
    assert current(storage) == (2, (functions / "greet.mjs").read_bytes())


def test_only_one_thread_waits_for_a_second_look(storage: FilesStorage, functions: Path) -> None:
    """The others serve what is good, or what the one has adopted."""
    storage.deploy(REF, draft(b"// 1"))
    (functions / "greet.mjs").write_text("// by hand")
    found: list[int] = []
    threads = [
        threading.Thread(target=lambda: found.append(storage.resolve(REF).deployment.version))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert set(found) <= {1, 2}
    assert 2 in found
    assert current(storage) == (2, b"// by hand")


def test_an_edit_that_changes_nothing_makes_no_version(
    storage: FilesStorage, functions: Path
) -> None:
    storage.deploy(REF, draft(b"// 1"))
    put(functions / "greet.mjs", "// 1")

    assert current(storage) == (1, b"// 1")


def test_an_edit_back_to_an_older_version_is_a_new_one(
    storage: FilesStorage, functions: Path
) -> None:
    storage.deploy(REF, draft(b"// 1"))
    storage.deploy(REF, draft(b"// 2"))
    put(functions / "greet.mjs", "// 1")

    assert current(storage) == (3, b"// 1")


def test_a_deploy_keeps_the_edit_it_overwrites(storage: FilesStorage, functions: Path) -> None:
    storage.deploy(REF, draft(b"// 1"))
    put(functions / "greet.mjs", "// by hand")

    assert storage.deploy(REF, draft(b"// 3")).deployment.version == 3
    assert storage.source(storage.deployment(REF, 2)) == b"// by hand"


def test_two_processes_adopt_an_edit_once(storage: FilesStorage, functions: Path) -> None:
    storage.deploy(REF, draft(b"// 1"))
    other = FilesStorage(functions.parents[2], keep_versions=3)
    put(functions / "greet.mjs", "// by hand")
    rows = [one.resolve(REF).deployment for one in (storage, other, storage, other)]

    assert {row.version for row in rows} == {2}
    assert len({row.deployment_id for row in rows}) == 1


@pytest.mark.parametrize("fresh", [True, False])
def test_a_new_file_is_a_new_function(storage: FilesStorage, functions: Path, fresh: bool) -> None:
    put(functions / "dropped.mts", "// typed")
    put(functions / "dropped.env.json", '{"A": "1"}')
    if fresh:
        os.utime(functions / "dropped.mts")
    ref = FunctionRef("", "dropped")

    assert [one.name for one in storage.functions("", 10).items] == ["dropped"]
    row = storage.resolve(ref).deployment
    assert (row.version, row.language) == (1, Language.TYPESCRIPT)
    assert (row.reuse, row.limits) == (Reuse.WARM, Limits())
    assert storage.function_env(ref) == {"A": "1"}


def test_a_new_directory_is_a_collection(storage: FilesStorage, data: Path) -> None:
    put(data / "collections/org/team/functions/f.mjs", "// f")
    put(data / "collections/org/collection.env.json", '{"A": "1"}')

    assert [one.path for one in storage.collections("", 9).items] == ["org", "org/team"]
    assert [one.env for one in storage.resolve(FunctionRef("org/team", "f")).levels] == [
        {},
        {"A": "1"},
        {},
        {},
    ]


def test_a_removed_file_is_a_removed_function(storage: FilesStorage, functions: Path) -> None:
    storage.deploy(REF, draft(b"// 1", {"SECRET": "1"}))
    (functions / "greet.mjs").unlink()

    with pytest.raises(FunctionNotFound):
        storage.resolve(REF)
    assert storage.functions("", 9).items == []
    assert storage.deploy(REF, draft(b"// new")).deployment.version == 1
    assert storage.function_env(REF) == {}


def test_both_languages_by_hand_the_newer_counts(storage: FilesStorage, functions: Path) -> None:
    storage.deploy(REF, draft(b"// js"))
    put(functions / "greet.mts", "// ts")
    os.utime(functions / "greet.mjs", (1, 1))

    assert current(storage) == (2, b"// ts")
    assert storage.resolve(REF).deployment.language is Language.TYPESCRIPT
    with pytest.raises(LanguageConflict):
        storage.deploy(REF, draft(b"// js again"))
    (functions / "greet.mts").unlink()
    assert current(storage) == (3, b"// js")


# Files that cannot be what their name says


def directory(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.mkdir()


def fifo(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def link(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to("/etc/passwd")


BROKEN: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: put(path, b""),
    "not UTF-8": lambda path: put(path, b"// \xff\xfe"),
    "too large": lambda path: put(path, b"/" * ((1 << 20) + 1)),
    "directory": directory,
    "fifo": fifo,
    "link": link,
}


@pytest.mark.fault(112)
@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_source_never_becomes_current(
    storage: FilesStorage, data: Path, functions: Path, kind: str
) -> None:
    storage.deploy(REF, draft(b"// 1"))
    BROKEN[kind](functions / "greet.mjs")

    for one in (storage, storage, FilesStorage(data)):
        assert current(one) == (1, b"// 1")
    assert [one.name for one in storage.functions("", 9).items] == ["greet"]


@pytest.mark.fault(112)
@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_new_source_is_named_and_hides_no_other(
    storage: FilesStorage, functions: Path, kind: str
) -> None:
    storage.deploy(REF, draft(b"// 1"))
    BROKEN[kind](functions / "broken.mjs")

    with pytest.raises(SourceCorrupt, match=r"collections/__root__/functions/broken\.mjs"):
        storage.resolve(FunctionRef("", "broken"))
    assert [one.name for one in storage.functions("", 9).items] == ["greet"]
    if kind == "directory":
        with pytest.raises(NameClash):
            storage.deploy(FunctionRef("", "broken"), draft(b"// mended"))
    else:
        storage.deploy(FunctionRef("", "broken"), draft(b"// mended"))
        assert current(storage, FunctionRef("", "broken")) == (1, b"// mended")
        assert not (functions / "broken.mjs").is_symlink()


@pytest.mark.fault(112)
def test_deploying_what_is_current_mends_a_broken_file(
    storage: FilesStorage, functions: Path
) -> None:
    storage.deploy(REF, draft(b"// 1"))
    put(functions / "greet.mjs", "")

    assert not storage.deploy(REF, draft(b"// 1")).created
    assert (functions / "greet.mjs").read_bytes() == b"// 1"


@pytest.mark.fault(112)
@pytest.mark.parametrize(
    "content",
    [
        "{",
        "",
        "[]",
        '{"A": 1}',
        '{"A": null}',
        '{"1": "x"}',
        '{"PATH": "x"}',
        '{"A": "\\u0000"}',
        b'{"A": "\xff"}',
    ],
)
def test_a_damaged_env_stops_its_own_functions_only(
    storage: FilesStorage, data: Path, functions: Path, content: str | bytes
) -> None:
    other = FunctionRef("", "other")
    storage.create_collection("org", {})
    storage.deploy(REF, draft(b"// 1", {"A": "1"}))
    storage.deploy(other, draft(b"// other"))
    nested = FunctionRef("org", "f")
    storage.deploy(nested, draft(b"// nested"))
    put(functions / "greet.env.json", content)
    put(data / "collections/org/collection.env.json", content)

    for call in (storage.resolve, storage.function_env):
        with pytest.raises(EnvCorrupt, match=r"functions/greet\.env\.json"):
            call(REF)
    with pytest.raises(EnvCorrupt, match=r"collections/org/collection\.env\.json"):
        storage.resolve(nested)
    with pytest.raises(EnvCorrupt):
        storage.collection_env("org")
    assert storage.resolve(other).deployment.version == 1
    assert [one.name for one in storage.functions("", 9).items] == ["greet", "other"]
    assert storage.function(REF).env_keys == []
    assert [one.path for one in storage.collections("", 9).items] == ["org"]

    storage.set_function_env(REF, {"A": "mended"})
    storage.set_collection_env("org", {"A": "mended"})
    assert storage.resolve(REF).levels[-1].env == {"A": "mended"}
    assert storage.resolve(nested).levels[1].env == {"A": "mended"}


@pytest.mark.fault(112)
def test_a_half_written_env_is_not_seen(storage: FilesStorage, functions: Path) -> None:
    storage.deploy(REF, draft(b"// 1", {"A": "1"}))
    storage.resolve(REF)
    (functions / "greet.env.json").write_text('{"A": ')
    assert storage.resolve(REF).levels[-1].env == {"A": "1"}

    (functions / "greet.env.json").write_text('{"A": "2"}')
    assert storage.resolve(REF).levels[-1].env == {"A": "2"}


@pytest.mark.fault(112)
def test_an_edited_env_takes_effect_at_once_and_makes_no_version(
    storage: FilesStorage, data: Path, functions: Path
) -> None:
    storage.deploy(REF, draft(b"// 1"))
    for number in range(5):
        (functions / "greet.env.json").write_text(f'{{"A": "{number}"}}')
        (data / "collections/__root__/collection.env.json").write_text(f'{{"B": "{number}"}}')
        levels = storage.resolve(REF).levels
        assert [level.env for level in levels] == [{"B": str(number)}, {"A": str(number)}]
    (functions / "greet.env.json").unlink()
    assert storage.resolve(REF).levels[-1].env == {}
    assert storage.resolve(REF).deployment.version == 1


@pytest.mark.fault(112)
@pytest.mark.parametrize("content", [b"{", b"", b"[]", b'{"created_at": 1}', b"\xff"])
@pytest.mark.parametrize("old", [True, False])
def test_a_damaged_meta_file_is_named_and_mended_by_a_deploy(
    storage: FilesStorage, functions: Path, content: bytes, old: bool
) -> None:
    storage.deploy(REF, draft(b"// 1"))
    storage.deploy(REF, draft(b"// 2"))
    storage.deploy(FunctionRef("", "other"), draft(b"// other"))
    put(functions / "greet.meta.json", content)
    if old:
        put(functions / "greet.mjs", "// 2")

    with pytest.raises(SourceCorrupt, match=r"functions/greet\.meta\.json"):
        storage.resolve(REF)
    assert [one.name for one in storage.functions("", 9).items] == ["other"]
    assert storage.deploy(REF, draft(b"// new")).deployment.version > 2
    assert current(storage)[1] == b"// new"


@pytest.mark.fault(112)
def test_removed_history_leaves_the_current_version(storage: FilesStorage, functions: Path) -> None:
    row = storage.deploy(REF, draft(b"// 1")).deployment
    for file in functions.joinpath(".versions/greet").iterdir():
        file.unlink()
    functions.joinpath(".versions/greet").rmdir()

    assert storage.source(row) == b"// 1"
    assert storage.deploy(REF, draft(b"// 2")).deployment.version == 2


# Links


@pytest.mark.fault(10)
def test_links_lead_nowhere(storage: FilesStorage, data: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    put(outside / "functions/f.mjs", "// outside")
    put(outside / "collection.env.json", '{"SECRET": "1"}')
    storage.create_collection("org", {})
    (data / "collections/linked").symlink_to(outside)
    (data / "collections/org/functions").rmdir()
    (data / "collections/org/functions").symlink_to(outside / "functions")

    assert [one.path for one in storage.collections("", 9).items] == ["org"]
    assert storage.functions("org", 9).items == []
    for path in ("org", "linked"):
        with pytest.raises(FunctionNotFound):
            storage.resolve(FunctionRef(path, "f"))
    with pytest.raises(CollectionNotFound):
        storage.collection_env("linked")
    for write in (
        lambda: storage.deploy(FunctionRef("org", "g"), draft(b"// g")),
        lambda: storage.deploy(FunctionRef("linked", "g"), draft(b"// g")),
        lambda: storage.create_collection("linked/inner", {}),
        lambda: storage.set_collection_env("linked", {}),
        lambda: storage.delete_collection("linked"),
    ):
        with pytest.raises((RequestError, disk.StorageUnavailable)):
            write()
    assert sorted(file.name for file in outside.rglob("*")) == [
        "collection.env.json",
        "f.mjs",
        "functions",
    ]


@pytest.mark.fault(10)
def test_linked_env_and_meta_files_are_refused(
    storage: FilesStorage, functions: Path, tmp_path: Path
) -> None:
    storage.deploy(REF, draft(b"// 1", {"A": "1"}))
    secret = put(tmp_path / "secret.json", '{"SECRET": "1"}')
    (functions / "greet.env.json").unlink()
    (functions / "greet.env.json").symlink_to(secret)
    with pytest.raises(EnvCorrupt, match=r"greet\.env\.json"):
        storage.resolve(REF)
    storage.set_function_env(REF, {"A": "2"})

    assert secret.read_text() == '{"SECRET": "1"}'
    assert storage.function_env(REF) == {"A": "2"}
    (functions / "greet.meta.json").unlink()
    (functions / "greet.meta.json").symlink_to(secret)
    with pytest.raises(SourceCorrupt, match=r"greet\.meta\.json"):
        storage.resolve(REF)


@pytest.mark.fault(10)
def test_names_that_lead_out_write_nothing(storage: FilesStorage, tmp_path: Path) -> None:
    for ref in (FunctionRef("..", "x"), FunctionRef("", "../../x"), FunctionRef("a/../..", "x")):
        with pytest.raises(RequestError):
            storage.deploy(ref, draft(b"// out"))
    with pytest.raises(RequestError):
        storage.create_collection("../x", {})
    assert [path.name for path in tmp_path.iterdir() if path.name != "data"] == []


# The legacy root


@pytest.mark.fault(12)
def test_the_new_place_wins_over_the_legacy_one(storage: FilesStorage, data: Path) -> None:
    put(data / "functions/greet.mjs", "// legacy")
    put(data / "functions/greet.env.json", '{"OLD": "1"}')
    put(data / "functions/alone.mjs", "// alone")
    put(data / "collections/__root__/functions/greet.mjs", "// new place")

    assert [one.name for one in storage.functions("", 9).items] == ["alone", "greet"]
    assert current(storage) == (1, b"// new place")
    assert storage.function_env(REF) == {}
    assert current(storage, FunctionRef("", "alone")) == (1, b"// alone")


@pytest.mark.fault(12)
def test_a_deploy_over_legacy_moves_it(storage: FilesStorage, data: Path) -> None:
    put(data / "functions/greet.mjs", "// legacy")
    put(data / "functions/greet.env.json", '{"OLD": "1"}')
    assert current(storage) == (1, b"// legacy")
    assert storage.resolve(REF).levels[-1].env == {"OLD": "1"}

    assert storage.deploy(REF, draft(b"// new")).deployment.version == 2
    assert (data / "collections/__root__/functions/greet.mjs").read_bytes() == b"// new"
    assert storage.function_env(REF) == {"OLD": "1"}
    assert (data / "functions/greet.mjs").read_text() == "// legacy"
    storage.set_function_env(REF, {"NEW": "1"})
    assert storage.function_env(REF) == {"NEW": "1"}

    storage.delete_function(REF)
    assert storage.functions("", 9).items == []
    assert list((data / "functions").iterdir()) == []
    assert storage.deploy(REF, draft(b"// again")).deployment.version == 1
    assert storage.function_env(REF) == {}


@pytest.mark.fault(12)
def test_legacy_functions_are_edited_and_given_env(storage: FilesStorage, data: Path) -> None:
    put(data / "functions/greet.mjs", "// legacy")
    assert current(storage) == (1, b"// legacy")
    put(data / "functions/greet.mjs", "// edited")
    assert current(storage) == (2, b"// edited")
    put(data / "functions/greet.env.json", '{"HAND": "1"}')
    assert storage.resolve(REF).levels[-1].env == {"HAND": "1"}
    storage.set_function_env(REF, {"API": "1"})
    assert storage.resolve(REF).levels[-1].env == {"API": "1"}
    assert storage.rollback(REF, 1).version == 3
    assert current(storage) == (3, b"// legacy")
    assert storage.function_env(REF) == {"API": "1"}


# File systems that fold case


@pytest.fixture
def folding(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the store's view of the disk that of a file system that folds case."""
    status, sub = Folder.status, Folder.sub

    def found(folder: Folder, name: str) -> str:
        for entry in folder.names():
            if entry.lower() == name.lower():
                return entry
        return name

    monkeypatch.setattr(Folder, "status", lambda self, name: status(self, found(self, name)))
    monkeypatch.setattr(Folder, "sub", lambda self, name: sub(self, found(self, name)))


@pytest.mark.fault(8)
@pytest.mark.usefixtures("folding")
def test_names_that_differ_in_case_clash(storage: FilesStorage) -> None:
    upper, lower = FunctionRef("", "Greet"), FunctionRef("", "greet")
    storage.deploy(upper, draft(b"// upper", {"A": "1"}))

    with pytest.raises(NameClash):
        storage.deploy(lower, draft(b"// lower"))
    for read in (storage.resolve, storage.function, storage.function_env, storage.delete_function):
        with pytest.raises(FunctionNotFound):
            read(lower)
    assert storage.source(storage.resolve(upper).deployment) == b"// upper"
    assert storage.function_env(upper) == {"A": "1"}
    storage.delete_function(upper)
    assert storage.deploy(lower, draft(b"// lower")).deployment.version == 1


@pytest.mark.fault(8)
@pytest.mark.usefixtures("folding")
def test_collections_that_differ_in_case_clash(storage: FilesStorage) -> None:
    storage.create_collection("Org/team", {"A": "1"})

    for path in ("org", "org/team", "Org/TEAM", "org/other", "Org/FUNCTIONS"):
        with pytest.raises(NameClash):
            storage.create_collection(path, {})
        with pytest.raises(CollectionNotFound):
            storage.collection(path)
        with pytest.raises(RequestError):
            storage.deploy(FunctionRef(path, "f"), draft(b"// f"))
    with pytest.raises(CollectionNotEmpty):
        storage.delete_collection("Org")
    assert storage.collection_env("Org/team") == {"A": "1"}


@pytest.mark.fault(8)
def test_names_that_differ_in_case_are_apart_where_the_disk_tells_them_apart(
    storage: FilesStorage, tmp_path: Path
) -> None:
    (tmp_path / "a").touch()
    if (tmp_path / "A").exists():
        pytest.skip("this disk folds case")
    for name in ("Greet", "greet", "GREET"):
        storage.deploy(FunctionRef("", name), draft(name.encode()))
    assert [one.name for one in storage.functions("", 9).items] == ["GREET", "Greet", "greet"]
    for name in ("Greet", "greet", "GREET"):
        assert current(storage, FunctionRef("", name)) == (1, name.encode())


# Deleting


@pytest.mark.parametrize(
    "place", [".git/HEAD", ".envrc", "functions/.draft.mjs", "functions/.git/HEAD"]
)
def test_what_people_keep_in_a_collection_is_not_deleted_with_it(
    storage: FilesStorage, data: Path, place: str
) -> None:
    storage.create_collection("org", {"A": "1"})
    storage.deploy(FunctionRef("org", "f"), draft(b"// f"))
    storage.delete_function(FunctionRef("org", "f"))
    theirs = put(data / "collections/org" / place, "theirs")
    with pytest.raises(CollectionNotEmpty, match=place.split("/")[-2 if ".git" in place else -1]):
        storage.delete_collection("org")
    assert theirs.read_text() == "theirs"
    theirs.unlink()
    if theirs.parent.name == ".git":
        theirs.parent.rmdir()
    storage.delete_collection("org")
    assert not (data / "collections/org").exists()


def test_what_somebody_puts_there_at_that_moment_is_not_deleted_with_it(data: Path) -> None:
    def drop(point: str) -> None:
        if point == "collection-delete.checked":
            put(data / "collections/org/functions/f.mjs", "theirs")

    storage = FilesStorage(data, keep_versions=3, step=drop)
    storage.create_collection("org", {"A": "1"})
    with pytest.raises(CollectionNotEmpty, match="f"):
        storage.delete_collection("org")
    assert current(storage, FunctionRef("org", "f")) == (1, b"theirs")
    assert storage.collection_env("org") == {"A": "1"}


# Memory


@pytest.mark.fault(123)
def test_the_cache_is_bounded_and_follows_the_deployment(
    storage: FilesStorage, functions: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lowcode_faas_files import catalogue

    monkeypatch.setattr(catalogue, "MAX_CACHED", 5)
    refs = [FunctionRef("", f"f{number}") for number in range(12)]
    for _ in range(2):
        for ref in refs:
            storage.deploy(ref, draft(os.urandom(8).hex().encode()))
            assert storage.resolve(ref).deployment == storage.deployment(ref)
    caches = [storage._resolved, storage._catalogue._views]
    assert all(len(cache) <= 5 for cache in caches)
