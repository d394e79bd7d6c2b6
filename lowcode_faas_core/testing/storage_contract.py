"""What every storage holds: subclass :class:`StorageContract` and give it the fixture ``storage``."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from lowcode_faas_core.errors import (
    FaasError,
    FunctionNotFound,
    InvalidValue,
    SourceCorrupt,
    VersionNotFound,
)
from lowcode_faas_core.interfaces.storage import Storage
from lowcode_faas_core.model import Deployment, Function, FunctionRef, Language, Page
from lowcode_faas_core.testing.samples import sample_draft as draft
from lowcode_faas_core.testing.storage_collections import StorageCollectionsContract
from lowcode_faas_core.testing.storage_concurrency import Factory, StorageConcurrencyContract
from lowcode_faas_core.testing.storage_versions import StorageVersionsContract

__all__ = ["StorageContract"]

REF = FunctionRef("", "greet")


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


class StorageContract(
    StorageCollectionsContract, StorageVersionsContract, StorageConcurrencyContract
):
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

    def test_what_is_at_hand_is_what_would_be_resolved(self, storage: Storage) -> None:
        """It may always be nothing, and is never what was true before."""
        storage.create_collection("org", {"A": "1"})
        ref = FunctionRef("org", "f")
        assert storage.known(ref) is None
        first = storage.deploy(ref, draft(b"1")).deployment
        for change in (
            lambda: storage.deploy(ref, draft(b"2")),
            lambda: storage.set_function_env(ref, {"B": "2"}),
            lambda: storage.set_collection_env("org", {"A": "3"}),
        ):
            assert storage.known(ref) in (None, storage.resolve(ref))
            change()
            assert storage.known(ref) in (None, storage.resolve(ref))
        with suppress(FaasError):
            resolved = storage.resolve(ref, first.version)
            assert storage.known(ref, first.version) in (None, resolved)
        assert storage.known(ref, 99) is None
        storage.delete_function(ref)
        assert storage.known(ref) is None
        assert storage.known(ref, first.version) is None

    def test_check_and_close(self, storage: Storage) -> None:
        """A working storage says so; closing twice is fine."""
        storage.check()
        storage.close()
        storage.close()
