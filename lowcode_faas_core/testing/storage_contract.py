"""What every storage holds: subclass :class:`StorageContract` and give it the fixture ``storage``."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from lowcode_faas_core.errors import (
    CollectionExists,
    CollectionNotEmpty,
    CollectionNotFound,
    FaasError,
    FunctionNotFound,
    InvalidValue,
    LanguageConflict,
    RequestError,
    SourceCorrupt,
    VersionNotFound,
    VersionNotKept,
)
from lowcode_faas_core.interfaces.storage import Storage
from lowcode_faas_core.model import (
    Collection,
    Deployment,
    Draft,
    Function,
    FunctionRef,
    Language,
    Limits,
    Page,
    Reuse,
)
from lowcode_faas_core.testing.storage_concurrency import (
    Factory,
    StorageConcurrencyContract,
    let_caches_settle,
)

__all__ = ["StorageContract"]

REF = FunctionRef("", "greet")
#: Text that encodings, escapes and shells stumble over.
ODD_VALUES = ["", " ", "ü", "🙂", "a\nb\r\n\tc", "'\"\\`$()", "\x7f\x01", "\u2028", "x" * 20_000]
ODD_SOURCES = [
    b"\n",
    b"// \xc3\xbc \xf0\x9f\x99\x82",
    b"a\r\nb\rc\n",
    b"\xef\xbb\xbf//bom",
    b"\0//",
    b"// " + b"0123456789abcdef" * 20_000,
]
ODD_NAMES = [
    "0",
    "A",
    "a-",
    "a_",
    "a-b_c",
    "z" * 64,
    "CON",
    "meta",
    "env",
    "functions",
    "constructor",
]


def draft(
    source: bytes = b"export const handler = () => ({ok: true});",
    *,
    language: Language = Language.JAVASCRIPT,
    reuse: Reuse = Reuse.WARM,
    limits: Limits | None = None,
    env: dict[str, str] | None = None,
    source_url: str | None = None,
    checked: bool = False,
) -> Draft:
    """Return a draft; every part that is not given is an ordinary one."""
    return Draft(
        source=source,
        language=language,
        reuse=reuse,
        limits=limits or Limits(),
        env=env,
        source_url=source_url,
        checked=checked,
    )


def all_pages(read: Callable[[int, str | None], Page[Function]], limit: int) -> list[str]:
    """Return the names of every item, read page by page."""
    names: list[str] = []
    cursor = None
    while True:
        page = read(limit, cursor)
        assert len(page.items) <= limit
        names += [item.name for item in page.items]
        cursor = page.next_cursor
        if cursor is None:
            return names


class StorageContract(StorageConcurrencyContract):
    """The promises of :class:`Storage`; each check's docstring states one.

    Required: the fixture ``storage``. Optional: ``make_storage``, ``spawn_storage``, and what
    reaches past the plugin: ``damage``, ``lead_outside``; and ``keeps_two``. A check whose fixture
    is not given is skipped, and pytest says which.
    """

    @pytest.fixture
    def damage(self) -> Callable[[Deployment], None] | None:
        """**Optional.** Return what spoils a deployment's stored bytes behind the storage."""
        return None

    @pytest.fixture
    def lead_outside(self) -> Callable[[Deployment, Path], None] | None:
        """**Optional.** Return what puts links to a file of the host where the deployment's bytes are.

        For storages in folders, where whoever may write there must not read the host through them.
        """
        return None

    @pytest.fixture
    def keeps_two(self) -> Storage | None:
        """**Optional.** Return an empty storage that keeps two versions, the current one included."""
        return None

    # Collections

    def test_the_root_always_exists(self, storage: Storage) -> None:
        """The root is there from the start, has no env, and appears in no list."""
        assert storage.collection("").path == ""
        assert storage.collection_env("") == {}
        assert storage.collections("", 10).items == []
        assert storage.functions("", 10).items == []

    def test_creating_a_collection_registers_its_parents(self, storage: Storage) -> None:
        """Parents appear with empty env; what is registered already keeps its own."""
        storage.create_collection("org", {"LEVEL": "org"})
        made = storage.create_collection("org/team/unit", {"LEVEL": "unit", "A": "1"})

        assert (made.path, made.env_keys) == ("org/team/unit", ["A", "LEVEL"])
        assert storage.collection("org/team/unit") == made
        assert storage.collection_env("org") == {"LEVEL": "org"}
        assert storage.collection_env("org/team") == {}

    def test_a_collection_is_created_once(self, storage: Storage) -> None:
        """The second creation is refused and changes nothing; so is one of a parent made along."""
        storage.create_collection("org/team", {"A": "1"})
        for path in ("org/team", "org"):
            with pytest.raises(CollectionExists):
                storage.create_collection(path, {"A": "2"})
        assert storage.collection_env("org/team") == {"A": "1"}

    def test_absent_collections(self, storage: Storage) -> None:
        """Everything about a collection that is not registered says so."""
        storage.create_collection("org", {})
        for path in ("nope", "org/nope", "or", "org-x"):
            for call in (
                lambda path=path: storage.collection(path),
                lambda path=path: storage.collection_env(path),
                lambda path=path: storage.set_collection_env(path, {}),
                lambda path=path: storage.delete_collection(path),
                lambda path=path: storage.functions(path, 10),
                lambda path=path: storage.deploy(FunctionRef(path, "f"), draft()),
            ):
                with pytest.raises(CollectionNotFound):
                    call()
            assert storage.collections(path, 10).items == []

    def test_lists_of_collections_are_subtrees_in_order(self, storage: Storage) -> None:
        """A prefix is a path, not a text: ``a_b`` finds neither ``aXb`` nor ``a_bc``."""
        for path in ("a_b/x", "aXb/x", "a_bc", "a-b", "Z", "a%b"[:1], "a_b/x-y", "a_b/x/z"):
            storage.create_collection(path, {})

        def listed(prefix: str) -> list[str]:
            return [item.path for item in storage.collections(prefix, 100).items]

        assert listed("a_b") == ["a_b", "a_b/x", "a_b/x-y", "a_b/x/z"]
        assert listed("a_b/x") == ["a_b/x", "a_b/x/z"]
        everything = listed("")
        assert everything == sorted(everything)
        assert len(everything) == 10

    def test_pages_of_collections(self, storage: Storage) -> None:
        """Pages follow each other without overlap or gap."""
        for number in range(5):
            storage.create_collection(f"c{number}", {})
        first = storage.collections("", 2)
        second = storage.collections("", 2, first.next_cursor)
        third = storage.collections("", 2, second.next_cursor)

        pages: list[list[Collection]] = [first.items, second.items, third.items]
        assert [[item.path for item in page] for page in pages] == [
            ["c0", "c1"],
            ["c2", "c3"],
            ["c4"],
        ]
        assert third.next_cursor is None

    def test_only_an_empty_collection_is_deleted(self, storage: Storage) -> None:
        """One that holds a function or a collection stays whole; its env goes with it."""
        storage.create_collection("org/team", {"SECRET": "1"})
        ref = FunctionRef("org/team", "f")
        storage.deploy(ref, draft())
        for path in ("org", "org/team"):
            with pytest.raises(CollectionNotEmpty):
                storage.delete_collection(path)
        assert storage.resolve(ref).levels[2].env == {"SECRET": "1"}

        storage.delete_function(ref)
        storage.delete_collection("org/team")
        with pytest.raises(CollectionNotFound):
            storage.collection("org/team")
        storage.create_collection("org/team", {})
        assert storage.collection_env("org/team") == {}
        storage.delete_collection("org/team")
        storage.delete_collection("org")
        assert storage.collections("", 10).items == []

    def test_the_root_cannot_be_deleted(self, storage: Storage) -> None:
        """Neither may it be created."""
        with pytest.raises(RequestError):
            storage.delete_collection("")
        with pytest.raises(CollectionExists):
            storage.create_collection("", {})

    # Env

    def test_env_is_replaced_whole(self, storage: Storage) -> None:
        """Setting an env drops what was there, for collections and functions alike."""
        storage.create_collection("org", {"A": "1", "B": "2"})
        storage.set_collection_env("org", {"B": "3"})
        assert storage.collection_env("org") == {"B": "3"}
        assert storage.collection("org").env_keys == ["B"]
        storage.set_collection_env("", {"R": "1"})
        assert storage.collection_env("") == {"R": "1"}

        storage.deploy(REF, draft(env={"A": "1"}))
        storage.set_function_env(REF, {"B": "2"})
        assert storage.function_env(REF) == {"B": "2"}
        assert storage.function(REF).env_keys == ["B"]
        storage.set_function_env(REF, {})
        assert storage.function_env(REF) == {}

    @pytest.mark.parametrize("value", ODD_VALUES)
    def test_odd_env_values(self, storage: Storage, value: str) -> None:
        """Values come back exactly, whatever they hold."""
        storage.deploy(REF, draft(env={"V": value, "_": value}))
        assert storage.function_env(REF) == {"V": value, "_": value}
        storage.set_collection_env("", {"V": value})
        assert storage.resolve(REF).levels[0].env == {"V": value}

    def test_what_is_returned_is_the_callers(self, storage: Storage) -> None:
        """Changing a returned or a given env changes nothing stored, nor anything cached."""
        given = {"A": "1"}
        storage.deploy(REF, draft(env=given))
        storage.set_collection_env("", given)
        given["A"] = "2"
        for _ in range(2):
            storage.function_env(REF)["A"] = "3"
            storage.collection_env("")["A"] = "3"
            assert storage.function_env(REF) == storage.collection_env("") == {"A": "1"}
            assert [level.env for level in storage.resolve(REF).levels] == [{"A": "1"}] * 2
            let_caches_settle(lambda: storage.resolve(REF))

    def test_function_env_is_not_versioned(self, storage: Storage) -> None:
        """A deploy without env leaves it, one with env replaces it; rollback leaves it."""
        storage.deploy(REF, draft(b"1", env={"A": "1"}))
        storage.deploy(REF, draft(b"2"))
        assert storage.function_env(REF) == {"A": "1"}
        storage.deploy(REF, draft(b"3", env={"A": "3"}))
        storage.rollback(REF, 1)
        assert storage.function_env(REF) == {"A": "3"}
        assert storage.deployment(REF).version == 4

    # Deploys

    def test_a_deploy_is_kept_exactly(self, storage: Storage) -> None:
        """The row answers what was given, and reads back equal."""
        source = b"export const handler = () => 1;"
        limits = Limits(memory_mb=64, cpus=0.5, timeout_ms=100)
        outcome = storage.deploy(
            REF,
            draft(
                source,
                language=Language.TYPESCRIPT,
                reuse=Reuse.FRESH,
                limits=limits,
                source_url="https://example.org/a.mts",
                checked=True,
            ),
        )
        row = outcome.deployment

        assert outcome.created
        assert (row.version, row.current, row.restored_from) == (1, True, None)
        assert (row.function_name, row.collection_path) == ("greet", "")
        assert (row.language, row.reuse, row.limits) == (Language.TYPESCRIPT, Reuse.FRESH, limits)
        assert (row.size, row.sha256) == (len(source), hashlib.sha256(source).hexdigest())
        assert (row.source_url, row.checked) == ("https://example.org/a.mts", True)
        assert storage.deployment(REF) == row
        assert storage.deployment(REF, 1) == row
        assert storage.deployment_by_id(row.deployment_id, REF) == row
        assert storage.source(row) == source

    @pytest.mark.parametrize("source", ODD_SOURCES)
    def test_odd_sources(self, storage: Storage, source: bytes) -> None:
        """Bytes come back exactly: line ends, byte order marks, NUL."""
        row = storage.deploy(REF, draft(source)).deployment
        assert storage.source(row) == source

    @pytest.mark.parametrize("name", ODD_NAMES)
    def test_odd_names(self, storage: Storage, name: str) -> None:
        """Every legal name works, also those that look like words of ours."""
        storage.create_collection("dir", {})
        for ref in (FunctionRef("", name), FunctionRef("dir", name)):
            row = storage.deploy(ref, draft(str(ref).encode())).deployment
            assert storage.source(storage.resolve(ref).deployment) == str(ref).encode()
            assert row.ref == ref
            assert [one.name for one in storage.functions(ref.collection_path, 9).items] == [name]

    @pytest.mark.parametrize(
        ("path", "name"),
        [("", "../x"), ("..", "x"), ("", "a/b"), ("", ""), ("", "."), ("", "x\0"), ("a//b", "x")],
    )
    def test_names_lead_nowhere_else(self, storage: Storage, path: str, name: str) -> None:
        """A name that should never have arrived is refused, not followed."""
        ref = FunctionRef(path, name)
        for call in (
            lambda: storage.resolve(ref),
            lambda: storage.deployment(ref),
            lambda: storage.delete_function(ref),
            lambda: storage.function_env(ref),
        ):
            with pytest.raises(RequestError):
                call()

    @pytest.mark.parametrize(
        ("path", "name"),
        [
            ("", "./x"),
            ("", "../functions/x"),
            ("", "dir/x"),
            ("", "../../dir/functions/x"),
            ("dir", "../x"),
            ("dir", "../../__root__/functions/x"),
            ("dir/.", "x"),
            ("dir/../dir", "x"),
            ("/dir", "x"),
            ("dir/", "x"),
        ],
    )
    def test_no_way_around_leads_to_a_function(
        self, storage: Storage, path: str, name: str
    ) -> None:
        """A function has one name: what a file system would take for the same is another, or refused."""
        storage.create_collection("dir", {})
        for collection in ("", "dir"):
            storage.deploy(FunctionRef(collection, "x"), draft())
        for call in (
            lambda: storage.resolve(FunctionRef(path, name)),
            lambda: storage.delete_function(FunctionRef(path, name)),
        ):
            with pytest.raises(RequestError):
                call()
        with suppress(RequestError):
            storage.deploy(FunctionRef(path, name), draft(b"// planted"))
        for collection in ("", "dir"):
            assert "x" in [one.name for one in storage.functions(collection, 9).items]
            assert storage.deployment(FunctionRef(collection, "x")).version == 1

    def test_versions_count_from_one(self, storage: Storage) -> None:
        """Each change of bytes, reuse or limits is the next version; only the last is current."""
        drafts = [
            draft(b"1"),
            draft(b"2"),
            draft(b"2", reuse=Reuse.FRESH),
            draft(b"2", reuse=Reuse.FRESH, limits=Limits(pids=32)),
            draft(b"1"),
        ]
        rows = [storage.deploy(REF, one).deployment for one in drafts]

        assert [row.version for row in rows] == [1, 2, 3, 4, 5]
        assert len({row.deployment_id for row in rows}) == 5
        listed = storage.versions(REF, 10).items
        assert [row.version for row in listed] == [5, 4, 3, 2, 1]
        assert [row.current for row in listed] == [True, False, False, False, False]
        assert [storage.source(row) for row in listed] == [b"1", b"2", b"2", b"2", b"1"]
        assert storage.deployment(REF, 2).deployment_id == rows[1].deployment_id
        assert storage.deployment_by_id(rows[2].deployment_id, REF).version == 3

    def test_an_unchanged_deploy_makes_no_version(self, storage: Storage) -> None:
        """It answers the current deployment; its env, when given, is still written."""
        first = storage.deploy(REF, draft(env={"A": "1"}))
        second = storage.deploy(REF, draft(env={"A": "2"}))

        assert (first.created, second.created) == (True, False)
        assert second.deployment == first.deployment
        assert storage.function_env(REF) == {"A": "2"}
        assert len(storage.versions(REF, 10).items) == 1

    def test_a_function_keeps_its_language(self, storage: Storage) -> None:
        """A deploy in the other language is refused and changes nothing."""
        row = storage.deploy(REF, draft(b"1")).deployment
        with pytest.raises(LanguageConflict):
            storage.deploy(REF, draft(b"2", language=Language.TYPESCRIPT, env={"A": "1"}))
        assert storage.deployment(REF) == row
        assert storage.function_env(REF) == {}

    def test_functions_of_one_name_are_apart(self, storage: Storage) -> None:
        """The same name in two collections is two functions."""
        storage.create_collection("org", {})
        other = FunctionRef("org", "greet")
        storage.deploy(REF, draft(b"root", env={"A": "root"}))
        storage.deploy(other, draft(b"org"))

        assert storage.source(storage.deployment(REF)) == b"root"
        assert storage.source(storage.deployment(other)) == b"org"
        assert storage.function_env(other) == {}
        storage.delete_function(REF)
        assert storage.source(storage.deployment(other)) == b"org"

    # Versions

    def test_absent_versions(self, storage: Storage) -> None:
        """A version that never was is not found, under no number."""
        storage.deploy(REF, draft())
        for version in (0, -1, 2, 10**12):
            with pytest.raises(VersionNotFound):
                storage.deployment(REF, version)
            with pytest.raises(VersionNotFound):
                storage.rollback(REF, version)
            with pytest.raises(VersionNotFound):
                storage.resolve(REF, version)
        with pytest.raises(VersionNotFound):
            storage.deployment_by_id("00000000-0000-7000-8000-000000000000", REF)
        assert storage.deployment(REF).version == 1

    def test_rollback_makes_a_new_version(self, storage: Storage) -> None:
        """The new row has the old bytes, language, reuse and limits, and names where they came from."""
        limits = Limits(memory_mb=48)
        first = storage.deploy(REF, draft(b"1", reuse=Reuse.FRESH, limits=limits)).deployment
        storage.deploy(REF, draft(b"2"))
        row = storage.rollback(REF, 1)

        assert (row.version, row.restored_from, row.current) == (3, 1, True)
        assert (row.sha256, row.reuse, row.limits) == (first.sha256, Reuse.FRESH, limits)
        assert row.deployment_id != first.deployment_id
        assert storage.resolve(REF).deployment == row
        assert storage.source(row) == b"1"
        assert not storage.deploy(REF, draft(b"1", reuse=Reuse.FRESH, limits=limits)).created

    def test_rollback_to_the_current_version(self, storage: Storage) -> None:
        """It makes a row, too."""
        storage.deploy(REF, draft())
        assert storage.rollback(REF, 1).version == 2

    def test_pages_of_versions(self, storage: Storage) -> None:
        """Newest first, page by page."""
        for number in range(5):
            storage.deploy(REF, draft(b"%d" % number))
        first = storage.versions(REF, 2)
        second = storage.versions(REF, 2, first.next_cursor)
        third = storage.versions(REF, 2, second.next_cursor)

        pages = [first, second, third]
        assert [[row.version for row in page.items] for page in pages] == [[5, 4], [3, 2], [1]]
        assert third.next_cursor is None

    def test_what_is_no_longer_kept(self, keeps_two: Storage | None) -> None:
        """Its number is VersionNotKept, its id VersionNotFound; what is kept stays usable."""
        if keeps_two is None:
            pytest.skip("this storage gives no keeps_two")
        storage = keeps_two
        rows = [storage.deploy(REF, draft(b"// %d" % n)).deployment for n in range(4)]

        for call in (
            lambda: storage.deployment(REF, 2),
            lambda: storage.resolve(REF, 2),
            lambda: storage.rollback(REF, 2),
        ):
            with pytest.raises(VersionNotKept):
                call()
        with pytest.raises(VersionNotFound):
            storage.deployment_by_id(rows[1].deployment_id, REF)
        with pytest.raises(VersionNotFound):
            storage.deployment(REF, 5)
        assert [row.version for row in storage.versions(REF, 10).items] == [4, 3]
        assert storage.source(storage.deployment(REF, 3)) == b"// 2"
        assert storage.deployment_by_id(rows[2].deployment_id, REF).version == 3
        assert (storage.rollback(REF, 3).version, storage.deployment(REF).version) == (5, 5)
        assert storage.source(storage.deployment(REF)) == b"// 2"

    # Functions

    def test_absent_functions(self, storage: Storage) -> None:
        """Everything about a function that is not there says so, also in an absent collection."""
        storage.create_collection("org", {})
        for ref in (REF, FunctionRef("org", "f"), FunctionRef("nope", "f")):
            for call in (
                lambda ref=ref: storage.resolve(ref),
                lambda ref=ref: storage.resolve(ref, 1),
                lambda ref=ref: storage.deployment(ref),
                lambda ref=ref: storage.deployment_by_id("x", ref),
                lambda ref=ref: storage.versions(ref, 10),
                lambda ref=ref: storage.rollback(ref, 1),
                lambda ref=ref: storage.function(ref),
                lambda ref=ref: storage.delete_function(ref),
                lambda ref=ref: storage.function_env(ref),
                lambda ref=ref: storage.set_function_env(ref, {}),
            ):
                with pytest.raises(FunctionNotFound):
                    call()

    def test_a_function_as_lists_show_it(self, storage: Storage) -> None:
        """Keys of env, not values; times in order."""
        first = storage.deploy(REF, draft(b"1", env={"B": "1", "A": "2"})).deployment
        row = storage.deploy(REF, draft(b"2")).deployment
        function = storage.function(REF)

        assert (function.name, function.collection_path) == ("greet", "")
        assert (function.current, function.language) == (row, Language.JAVASCRIPT)
        assert function.env_keys == ["A", "B"]
        assert function.created_at <= first.created_at <= row.created_at <= function.updated_at
        assert storage.functions("", 10).items == [function]

    def test_lists_of_functions_are_of_one_collection(self, storage: Storage) -> None:
        """In order of name, page by page, and nothing from below."""
        storage.create_collection("org/team", {})
        names = ["b", "A", "a_b", "aXb", "a-b", "0", "a"]
        for name in names:
            storage.deploy(FunctionRef("org", name), draft())
        storage.deploy(FunctionRef("org/team", "below"), draft())
        storage.deploy(FunctionRef("", "above"), draft())

        def read(limit: int, cursor: str | None) -> Page[Function]:
            return storage.functions("org", limit, cursor)

        for limit in (1, 3, 7, 100):
            assert all_pages(read, limit) == sorted(names)

    @pytest.mark.parametrize("cursor", ["!", "Zm9v=", "ü", "Zm 9v"])
    def test_foreign_cursors(self, storage: Storage, cursor: str) -> None:
        """A cursor that no list answered is an illegal value of the query."""
        storage.deploy(REF, draft())
        for call in (
            lambda: storage.functions("", 10, cursor),
            lambda: storage.collections("", 10, cursor),
            lambda: storage.versions(REF, 10, cursor),
        ):
            with pytest.raises(InvalidValue) as caught:
                call()
            assert (caught.value.where, caught.value.pointer) == ("query", "cursor")

    def test_delete_and_create_again(self, storage: Storage) -> None:
        """The new function starts at version 1 without env, and no id is used again."""
        old = [storage.deploy(REF, draft(b"%d" % n, env={"A": "1"})).deployment for n in range(2)]
        storage.delete_function(REF)
        with pytest.raises(FunctionNotFound):
            storage.delete_function(REF)
        assert storage.functions("", 10).items == []

        row = storage.deploy(REF, draft(b"1")).deployment
        assert row.version == 1
        assert row.deployment_id not in {one.deployment_id for one in old}
        assert storage.function_env(REF) == {}
        assert [one.version for one in storage.versions(REF, 10).items] == [1]
        with pytest.raises(VersionNotFound):
            storage.deployment_by_id(old[0].deployment_id, REF)
        with pytest.raises(VersionNotFound):
            storage.deployment(REF, 2)

    # What an invocation needs

    def test_resolve_gives_levels_root_first(self, storage: Storage) -> None:
        """The ancestors from the root down, then the function; the request's own is not here."""
        storage.create_collection("a/b/c", {"L": "c"})
        storage.set_collection_env("a", {"L": "a"})
        storage.set_collection_env("", {"L": "root"})
        ref = FunctionRef("a/b/c", "f")
        row = storage.deploy(ref, draft(env={"L": "f"})).deployment
        resolution = storage.resolve(ref)

        assert resolution.deployment == row
        assert [(one.level, one.path, one.env) for one in resolution.levels] == [
            ("collection", "", {"L": "root"}),
            ("collection", "a", {"L": "a"}),
            ("collection", "a/b", {}),
            ("collection", "a/b/c", {"L": "c"}),
            ("function", "a/b/c/f", {"L": "f"}),
        ]
        for path, expected in (("a/b", 2), ("", 0)):
            storage.set_collection_env(path, {"NEW": path})
            assert storage.resolve(ref).levels[expected].env == {"NEW": path}

    def test_resolve_pins_a_version(self, storage: Storage) -> None:
        """An older version comes with the env of today."""
        first = storage.deploy(REF, draft(b"1", env={"A": "1"})).deployment
        second = storage.deploy(REF, draft(b"2", env={"A": "2"})).deployment
        for _ in range(2):
            pinned = storage.resolve(REF, 1)
            assert pinned.deployment.deployment_id == first.deployment_id
            assert not pinned.deployment.current
            assert storage.source(pinned.deployment) == b"1"
            assert pinned.levels[-1].env == {"A": "2"}
            assert storage.resolve(REF, 2).deployment == second == storage.resolve(REF).deployment

    def test_damaged_bytes_are_refused(
        self, storage: Storage, damage: Callable[[Deployment], None] | None
    ) -> None:
        """Bytes that do not match their hash are never handed out."""
        if damage is None:
            pytest.skip("this storage gives no damage")
        row = storage.deploy(REF, draft(b"export const handler = 1;")).deployment
        damage(row)
        with pytest.raises(SourceCorrupt):
            storage.source(row)

    def test_nothing_is_read_from_outside(
        self,
        storage: Storage,
        make_storage: Factory,
        lead_outside: Callable[[Deployment, Path], None] | None,
        tmp_path: Path,
    ) -> None:
        """A link to a file of the host is refused: its bytes are never a source."""
        if lead_outside is None:
            pytest.skip("this storage gives no lead_outside")
        secret = b"export const secret = 1;"
        outside = tmp_path / "outside.mjs"
        outside.write_bytes(secret)
        os.utime(outside, (1, 1))  # long finished, so that nobody waits for its writer
        row = storage.deploy(REF, draft(b"export const handler = 1;")).deployment
        lead_outside(row, outside)

        for one in (storage, make_storage()):
            for deployment in (row, lambda one=one: one.resolve(REF).deployment):
                with suppress(FaasError):
                    found = deployment if isinstance(deployment, Deployment) else deployment()
                    assert found.sha256 != hashlib.sha256(secret).hexdigest()
                    assert one.source(found) != secret
        assert outside.read_bytes() == secret

    # Life

    def test_what_was_written_outlives_the_handle(
        self, storage: Storage, make_storage: Factory
    ) -> None:
        """Another handle finds all of it."""
        storage.create_collection("org", {"A": "1"})
        ref = FunctionRef("org", "f")
        row = storage.deploy(ref, draft(b"kept", env={"B": "2"})).deployment
        other = make_storage()

        assert other.deployment(ref) == row
        assert other.source(row) == b"kept"
        assert [one.env for one in other.resolve(ref).levels] == [{}, {"A": "1"}, {"B": "2"}]

    def test_check_and_close(self, storage: Storage) -> None:
        """A working storage says so; closing twice is fine."""
        storage.check()
        storage.close()
        storage.close()
