"""The servers that pages name."""

from __future__ import annotations

from tests.docker.conftest import engine, image_of, instance
from tests.services.fixtures import checker, db_s3_environ, haproxy, postgres_of, s3_of

__all__ = [
    "checker",
    "db_s3_environ",
    "engine",
    "haproxy",
    "image_of",
    "instance",
    "postgres_of",
    "s3_of",
]
