from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from lowcode_faas_db_s3.settings import PostgresSettings, S3Settings
from lowcode_faas_db_s3.storage import DbS3Storage

from tests.services.fixtures import one_loader, pooler, postgres_of, s3_of
from tests.services.postgres import GivenPostgres
from tests.services.s3 import Rclone
from tests.services.swift import Swift

__all__ = ["Place", "one_loader", "place", "pooler", "postgres_of", "s3_of"]


@dataclass(frozen=True)
class Place:
    """One empty database and bucket; picklable, so that other processes can open it."""

    postgres: PostgresSettings
    s3: S3Settings

    def __call__(self) -> DbS3Storage:
        return DbS3Storage.open(self.postgres, self.s3)


@pytest.fixture
def place(
    postgres_of: Callable[[int], GivenPostgres], s3_of: Callable[[str], Rclone | Swift], request
) -> Place:
    """Return a place of its own on the servers a test names with ``pytest.mark.parametrize``."""
    major, make, over = getattr(request, "param", (16, "rclone", "socket"))
    postgres, s3 = postgres_of(major), s3_of(make)
    database = postgres.database()
    if over == "pooler":
        dsn = request.getfixturevalue("pooler").dsn(database)
    else:
        dsn = postgres.dsn(database, socket=over == "socket")
    return Place(
        PostgresSettings(dsn=dsn),
        S3Settings(
            endpoint=s3.endpoint,
            bucket=s3.bucket(),
            access_key=s3.access_key,
            secret_key=s3.secret_key,
        ),
    )
