from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from lowcode_faas_files.storage import FilesStorage

from lowcode_faas_core.interfaces.storage import Storage
from lowcode_faas_core.model import Deployment
from lowcode_faas_core.testing.storage_contract import StorageContract


class TestFilesStorage(StorageContract):
    @pytest.fixture
    def spawn_storage(self, data_dir: Path) -> Callable[[], Storage]:
        return functools.partial(FilesStorage, data_dir, keep_versions=20)

    @pytest.fixture
    def make_storage(self, spawn_storage: Callable[[], Storage]) -> Callable[[], Storage]:
        return spawn_storage

    @pytest.fixture
    def storage(self, spawn_storage: Callable[[], Storage]) -> Iterator[Storage]:
        storage = spawn_storage()
        yield storage
        storage.close()

    @pytest.fixture
    def damage(self, data_dir: Path) -> Callable[[Deployment], None]:
        def spoil(deployment: Deployment) -> None:
            [archive] = data_dir.rglob(f"*{deployment.deployment_id}.mjs")
            archive.write_bytes(b"x" * deployment.size)

        return spoil

    @pytest.fixture
    def lead_outside(self, data_dir: Path) -> Callable[[Deployment, Path], None]:
        def plant(deployment: Deployment, outside: Path) -> None:
            found = [
                *data_dir.rglob("greet.mjs"),
                *data_dir.rglob(f"*{deployment.deployment_id}.mjs"),
            ]
            assert len(found) == 2
            for path in found:
                path.unlink()
                path.symlink_to(outside)

        return plant

    @pytest.fixture
    def keeps_two(self, data_dir: Path) -> Storage:
        return FilesStorage(data_dir, keep_versions=2)
