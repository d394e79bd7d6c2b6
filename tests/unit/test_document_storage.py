"""What is left of a storage when the documents are a dictionary: the whole contract holds on top."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator

import pytest

from lowcode_faas_core.documents import Documents, DocumentStorage
from lowcode_faas_core.errors import EnvCorrupt
from lowcode_faas_core.interfaces.storage import Storage
from lowcode_faas_core.model import Deployment, FunctionRef
from lowcode_faas_core.testing.samples import sample_draft
from lowcode_faas_core.testing.storage_contract import StorageContract


class Kept(Documents):
    def __init__(self, kept: dict[str, bytes]) -> None:
        self.kept = kept

    def get(self, key: str) -> bytes | None:
        return self.kept.get(key)

    def put(self, key: str, value: bytes) -> None:
        self.kept[key] = value

    def delete(self, key: str) -> None:
        del self.kept[key]

    def keys(self, prefix: str) -> Iterable[str]:
        return [key for key in reversed(self.kept) if key.startswith(prefix)]


class InMemory(DocumentStorage):
    def __init__(self, kept: dict[str, bytes]) -> None:
        self.kept = kept
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def transaction(self, *, write: bool) -> Iterator[Documents]:
        with self._lock:
            seen = Kept(dict(self.kept))
            yield seen
            if write:
                self.kept.clear()
                self.kept.update(seen.kept)
            else:
                assert seen.kept == self.kept

    def check(self) -> None: ...

    def close(self) -> None: ...


class TestDocumentStorage(StorageContract):
    @pytest.fixture
    def storage(self) -> Storage:
        return InMemory({})

    @pytest.fixture
    def damage(self, storage: InMemory) -> Callable[[Deployment], None]:
        def spoil(deployment: Deployment) -> None:
            storage.kept[f"source:{deployment.deployment_id}"] = b"x"

        return spoil

    def test_a_deleted_function_leaves_nothing(self, storage: InMemory) -> None:
        ref = FunctionRef("org", "f")
        storage.create_collection("org", {})
        storage.deploy(ref, sample_draft(b"1"))
        storage.deploy(ref, sample_draft(b"2"))
        storage.rollback(ref, 1)
        storage.delete_function(ref)
        assert list(storage.kept) == ["collection:org"]

    def test_what_cannot_be_read_is_named_and_hides_nothing(self, storage: InMemory) -> None:
        for name in ("a", "b", "c"):
            storage.deploy(FunctionRef("", name), sample_draft())
        storage.kept["function::a"] = b"{"
        storage.kept["version::b:1"] = b"null"
        assert [each.name for each in storage.functions("", 9).items] == ["c"]
        for name, said in (("a", "of the function a "), ("b", "of version 1 of b ")):
            with pytest.raises(EnvCorrupt, match=f"what is kept {said}cannot be read"):
                storage.resolve(FunctionRef("", name))
