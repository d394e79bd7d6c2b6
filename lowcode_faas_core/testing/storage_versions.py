"""The part of the storage contract that is about deploys and versions."""

from __future__ import annotations

import hashlib
from contextlib import suppress

import msgspec
import pytest

from lowcode_faas_core.errors import (
    FunctionNotFound,
    LanguageConflict,
    RequestError,
    Superseded,
    VersionNotFound,
    VersionNotKept,
)
from lowcode_faas_core.interfaces.storage import Storage
from lowcode_faas_core.model import FunctionRef, Language, Limits, Reuse
from lowcode_faas_core.testing.samples import sample_draft as draft

__all__ = ["StorageVersionsContract"]

REF = FunctionRef("", "greet")
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


class StorageVersionsContract:
    """Deploys, versions and rollbacks."""

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

    def test_a_draft_that_replaces_replaces_nothing_else(self, storage: Storage) -> None:
        """What was deployed or deleted since its maker looked stays so, and nothing is changed."""
        if not storage.checks_replaced:
            pytest.skip("this storage does not look at what a draft replaces")
        first = storage.deploy(REF, draft(b"// 1")).deployment
        of_the_first = msgspec.structs.replace(draft(b"// 2"), replaces=first.deployment_id)
        second = storage.deploy(REF, of_the_first).deployment
        assert second.version == 2
        for late in (of_the_first, msgspec.structs.replace(of_the_first, source=b"// 3", env={})):
            with pytest.raises(Superseded):
                storage.deploy(REF, late)
        assert storage.deployment(REF) == second
        same = msgspec.structs.replace(draft(b"// 2"), replaces=second.deployment_id)
        assert not storage.deploy(REF, same).created
        storage.delete_function(REF)
        for late in (of_the_first, same):
            with pytest.raises(FunctionNotFound):
                storage.deploy(REF, late)
            with pytest.raises(FunctionNotFound):
                storage.deployment(REF)
        anew = storage.deploy(REF, draft(b"// 2")).deployment
        with pytest.raises(Superseded):
            storage.deploy(REF, same)
        assert storage.deployment(REF) == anew

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
