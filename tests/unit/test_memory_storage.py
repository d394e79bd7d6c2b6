from __future__ import annotations

from collections.abc import Callable

import pytest

from lowcode_faas_core.errors import (
    InvalidValue,
    SourceCorrupt,
    StorageUnavailable,
    VersionNotKept,
)
from lowcode_faas_core.ids import new_id
from lowcode_faas_core.model import Deployment, Draft, FunctionRef, Language, Reuse
from lowcode_faas_core.paging import decode_cursor, encode_cursor, page_of
from lowcode_faas_core.testing.memory_storage import MemoryStorage
from lowcode_faas_core.testing.storage_contract import StorageContract

REF = FunctionRef("", "greet")


def draft(source: bytes) -> Draft:
    return Draft(source=source, language=Language.JAVASCRIPT, reuse=Reuse.WARM)


def test_keeps_only_as_many_versions_as_told() -> None:
    storage = MemoryStorage(keep_versions=2)
    for number in range(4):
        storage.deploy(REF, draft(b"%d" % number))

    assert [row.version for row in storage.versions(REF, 10).items] == [4, 3]
    with pytest.raises(VersionNotKept):
        storage.deployment(REF, 2)


def test_damaged_bytes_are_refused() -> None:
    storage = MemoryStorage()
    row = storage.deploy(REF, draft(b"good")).deployment
    storage.sources[row.deployment_id] = b"evil"

    with pytest.raises(SourceCorrupt):
        storage.source(row)


def test_raises_what_it_is_told_to_in_every_method() -> None:
    storage = MemoryStorage()
    storage.fail_with = StorageUnavailable("the disk is away")

    for call in (storage.check, lambda: storage.resolve(REF), lambda: storage.collections("", 1)):
        with pytest.raises(StorageUnavailable, match="the disk is away"):
            call()


def test_ids_are_unique_version_7_uuids_in_order_of_time() -> None:
    ids = [new_id() for _ in range(1000)]

    assert len(set(ids)) == 1000
    assert {(len(one), one[14], one[19] in "89ab") for one in ids} == {(36, "7", True)}
    # The clock may stand still between two calls, so only coarse order is promised.
    assert [one[:13] for one in ids] == sorted(one[:13] for one in ids)


@pytest.mark.parametrize("cursor", ["", "!", "Zm9v=", "Zm9vx", "Zm 9v", "_w", "ü", "YQBi"])
def test_a_cursor_no_list_answered_is_refused(cursor: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        decode_cursor(cursor)
    assert (caught.value.where, caught.value.pointer) == ("query", "cursor")


def test_pages_cover_every_key_once() -> None:
    keys = {f"k{number:02}" for number in range(25)} | {"é", "a-b", "a/b"}
    seen: list[str] = []
    cursor = None
    while True:
        page, cursor = page_of(keys, 7, cursor)
        seen += page
        if cursor is None:
            break
    assert seen == sorted(keys)
    assert decode_cursor(encode_cursor("é")) == "é"


class TestMemoryStorage(StorageContract):
    @pytest.fixture
    def storage(self) -> MemoryStorage:
        return MemoryStorage()

    @pytest.fixture
    def damage(self, storage: MemoryStorage) -> Callable[[Deployment], None]:
        def spoil(deployment: Deployment) -> None:
            storage.sources[deployment.deployment_id] = b"x" * deployment.size

        return spoil

    @pytest.fixture
    def keeps_two(self) -> MemoryStorage:
        return MemoryStorage(keep_versions=2)
