"""The part of the storage contract that is about collections and env."""

from __future__ import annotations

import pytest

from lowcode_faas_core.errors import (
    CollectionExists,
    CollectionNotEmpty,
    CollectionNotFound,
    RequestError,
)
from lowcode_faas_core.interfaces.storage import Storage
from lowcode_faas_core.model import Collection, FunctionRef
from lowcode_faas_core.testing.samples import sample_draft as draft
from lowcode_faas_core.testing.storage_concurrency import let_caches_settle

__all__ = ["StorageCollectionsContract"]

REF = FunctionRef("", "greet")
#: Text that encodings, escapes and shells stumble over.
ODD_VALUES = ["", " ", "ü", "🙂", "a\nb\r\n\tc", "'\"\\`$()", "\x7f\x01", "\u2028", "x" * 20_000]


class StorageCollectionsContract:
    """Collections, and env of collections and functions."""

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
