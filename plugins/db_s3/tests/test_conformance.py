from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lowcode_faas_core.interfaces.storage import Storage
from lowcode_faas_core.model import Deployment
from lowcode_faas_core.testing.storage_contract import StorageContract


@pytest.mark.parametrize(
    "place",
    [(16, "rclone", True), (15, "rclone", False)],
    ids=["postgres16-socket-rclone", "postgres15-tcp-rclone"],
    indirect=True,
)
class TestDbS3Storage(StorageContract):
    @pytest.fixture
    def spawn_storage(self, place) -> Callable[[], Storage]:
        return place

    @pytest.fixture
    def make_storage(self, place) -> Iterator[Callable[[], Storage]]:
        made: list[Storage] = []

        def make() -> Storage:
            made.append(place())
            return made[-1]

        yield make
        for storage in made:
            storage.close()

    @pytest.fixture
    def storage(self, make_storage) -> Storage:
        return make_storage()

    @pytest.fixture
    def damage(self, place, s3_of) -> Callable[[Deployment], None]:
        def spoil(deployment: Deployment) -> None:
            bucket: Path = s3_of("rclone").buckets / place.s3.bucket
            [kept] = bucket.rglob(f"{deployment.deployment_id}.*")
            kept.write_bytes(b"x" * deployment.size)

        return spoil

    @pytest.fixture
    def keeps_two(self, place) -> None:
        """Every version is kept here: there is nothing to ask of one that forgets."""
