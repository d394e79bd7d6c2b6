from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from lowcode_faas_db_s3.objects import Bucket

from lowcode_faas_core.interfaces.storage import Storage
from lowcode_faas_core.model import Deployment
from lowcode_faas_core.testing.storage_contract import StorageContract


@pytest.mark.parametrize(
    "place",
    [
        (16, "rclone", "socket"),
        (15, "swift", "tcp"),
        (16, "swift", "tcp"),
        (15, "rclone", "socket"),
        (16, "rclone", "pooler"),
    ],
    ids=lambda place: "-".join(map(str, place)),
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
    def damage(self, place) -> Callable[[Deployment], None]:
        def spoil(deployment: Deployment) -> None:
            bucket = Bucket(place.s3)
            key = bucket.key_for(deployment.deployment_id, deployment.language.suffix)
            bucket.put(key, b"x" * deployment.size)
            bucket.close()

        return spoil

    @pytest.fixture
    def turn_s(self) -> float:
        return 0.0005

    @pytest.fixture
    def keeps_two(self, place) -> None:
        """Every version is kept here: there is nothing to ask of one that forgets."""
