from __future__ import annotations

import functools

import pytest
from lowcode_faas_core.testing.storage_contract import StorageContract

from lowcode_faas_placeholder import FileStorage, lowcode_faas_storage


class TestFileStorage(StorageContract):
    @pytest.fixture
    def file(self, tmp_path):
        return tmp_path / "kept"

    @pytest.fixture
    def spawn_storage(self, file):
        return functools.partial(FileStorage, file)

    @pytest.fixture
    def make_storage(self, spawn_storage):
        return spawn_storage

    @pytest.fixture
    def storage(self, file):
        environ = {"LOWCODE_FAAS_PLACEHOLDER_FILE": str(file)}
        return lowcode_faas_storage(environ)

    @pytest.fixture
    def damage(self, storage):
        def spoil(deployment):
            with storage.transaction(write=True) as documents:
                documents.put(f"source:{deployment.deployment_id}", b"x" * deployment.size)

        return spoil
