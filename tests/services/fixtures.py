"""Fixtures over the servers: import the ones a folder's conftest needs.

A server that cannot be had is a failure in continuous integration, and a skip elsewhere.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

import botocore.loaders
import pytest

from tests.services.debian import install
from tests.services.loki import Checker, serving
from tests.services.pgbouncer import PgBouncer
from tests.services.postgres import Absent, GivenPostgres, Postgres
from tests.services.s3 import Rclone
from tests.services.swift import Swift

__all__ = [
    "checker",
    "db_s3_environ",
    "haproxy",
    "one_loader",
    "pooler",
    "postgres_of",
    "s3_of",
    "server_folder",
]

T = TypeVar("T")


def had(make: Callable[[], T]) -> T:
    """Return what ``make`` makes, or say that it cannot be had here."""
    try:
        return make()
    except Absent as absent:
        if os.environ.get("CI"):
            pytest.fail(str(absent))
        pytest.skip(str(absent))


def _postgres(folder: Path, major: int) -> Postgres:
    try:
        return Postgres(folder, major)
    except Absent:
        if major == 15 or os.environ.get("CI"):
            raise
        return Postgres(folder, 15)


def server_folder(stack: ExitStack, name: str) -> Path:
    """Return a folder in memory where there is some; gone when ``stack`` is closed."""
    where = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    folder = tempfile.TemporaryDirectory(
        prefix=f"faas-{name}-", dir=where, ignore_cleanup_errors=True
    )
    return Path(stack.enter_context(folder))


@pytest.fixture(scope="session", autouse=True)
def one_loader() -> Iterator[None]:
    """Have what boto knows of S3 read once: for every client anew, that takes longer than most tests.

    It is some 30,000 objects besides, in cycles, that every client would leave behind.
    """
    shared = botocore.loaders.create_loader()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("botocore.session.create_loader", lambda _path=None: shared)
        yield


@pytest.fixture(scope="session")
def postgres_of() -> Iterator[Callable[[int], GivenPostgres]]:
    """Return the running server of a major version, started at its first use.

    ``LOWCODE_FAAS_TEST_POSTGRES_DSN`` names one to be used instead of 16; without that and without
    the package that brings 16, Debian's 15 is.
    """
    started: dict[int, GivenPostgres] = {}
    given = os.environ.get("LOWCODE_FAAS_TEST_POSTGRES_DSN", "")
    if given:
        started[16] = GivenPostgres(given)
    with ExitStack() as stack:

        def server(major: int = 16) -> GivenPostgres:
            if major not in started:
                made = had(lambda: _postgres(server_folder(stack, f"pg{major}"), major))
                stack.callback(made.server.stop)
                made.server.start()
                started[major] = made
            return started[major]

        yield server


@pytest.fixture(scope="session")
def pooler(postgres_of: Callable[[int], GivenPostgres]) -> Iterator[PgBouncer]:
    """Return a PgBouncer before PostgreSQL 16."""
    with ExitStack() as stack:
        made = had(lambda: PgBouncer(server_folder(stack, "pgbouncer"), postgres_of(16)))
        stack.callback(made.server.stop)
        made.server.start()
        yield made


@pytest.fixture(scope="session")
def s3_of() -> Iterator[Callable[[str], Rclone | Swift]]:
    """Return the running S3 server of a make, ``rclone`` or ``swift``, started at its first use."""
    started: dict[str, Rclone | Swift] = {}
    with ExitStack() as stack:

        def server(make: str = "rclone") -> Rclone | Swift:
            if make not in started:
                made: Rclone | Swift
                if make == "swift":
                    # Not in memory: Swift keeps what it knows of an object in extended attributes.
                    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="faas-")))
                    made = had(lambda: Swift(folder))
                else:
                    made = had(lambda: Rclone(server_folder(stack, make)))
                stack.callback(made.stop)
                made.start()
                started[make] = made
            return started[make]

        yield server


@pytest.fixture
def db_s3_environ(
    postgres_of: Callable[[int], GivenPostgres], s3_of: Callable[[str], Rclone | Swift]
) -> dict[str, str]:
    """Return the variables of the storage ``db_s3`` over an empty database and bucket."""
    postgres, s3 = postgres_of(16), s3_of("rclone")
    return {
        "LOWCODE_FAAS_STORAGE": "db_s3",
        "LOWCODE_FAAS_POSTGRES_DSN": postgres.dsn(postgres.database()),
        "LOWCODE_FAAS_S3_ENDPOINT": s3.endpoint,
        "LOWCODE_FAAS_S3_BUCKET": s3.bucket(),
        "LOWCODE_FAAS_S3_ACCESS_KEY": s3.access_key,
        "LOWCODE_FAAS_S3_SECRET_KEY": s3.secret_key,
    }


@pytest.fixture
def checker() -> Iterator[Checker]:
    """Return what answers as Loki does."""
    with serving(Checker()) as one:
        yield one


@pytest.fixture(scope="session")
def haproxy() -> str:
    """Return the program; continuous integration installs it."""
    if not shutil.which("haproxy"):
        install("haproxy")
    found = shutil.which("haproxy")
    if found is None:
        assert not os.environ.get("CI"), "haproxy is not installed"
        pytest.skip("haproxy is not installed")
    return found
