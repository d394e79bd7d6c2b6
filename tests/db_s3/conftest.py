"""Servers that a test may hurt, with a proxy before each; nobody else uses them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

import pytest
from lowcode_faas_db_s3.executions.store import PostgresExecutions
from lowcode_faas_db_s3.settings import PostgresSettings, S3Settings
from lowcode_faas_db_s3.storage import DbS3Storage

from lowcode_faas_core.model import FunctionRef
from lowcode_faas_core.testing.samples import sample_draft
from tests.services.fixtures import had, one_loader, pooler, postgres_of, s3_of, server_folder
from tests.services.postgres import Postgres
from tests.services.proxy import Proxy
from tests.services.s3 import CACHE_S, Rclone

__all__ = ["Backend", "backend", "one_loader", "pooler", "postgres_of", "s3_of", "servers"]

REF = FunctionRef("", "greet")


@dataclass
class Servers:
    """A PostgreSQL and an S3 server of a module's own, running before each test."""

    postgres: Postgres
    s3: Rclone


@dataclass
class Backend:
    """An empty database and bucket, reached through proxies."""

    servers: Servers
    to_postgres: Proxy
    to_s3: Proxy
    postgres: PostgresSettings
    s3: S3Settings
    opened: list[DbS3Storage] = field(default_factory=list)

    @property
    def database(self) -> str:
        return self.postgres.dsn.rpartition("=")[2]

    def open(self, **others: object) -> DbS3Storage:
        """Open a storage; ``others`` replace fields of the settings."""
        postgres = replace(
            self.postgres, **{k: v for k, v in others.items() if k in ("dsn", "pool")}
        )
        s3 = replace(self.s3, **{k: v for k, v in others.items() if k not in ("dsn", "pool")})
        self.opened.append(DbS3Storage.open(postgres, s3))
        return self.opened[-1]

    def sql(self, statement: str) -> list:
        """Run a statement past the proxy."""
        return self.servers.postgres.execute(statement, self.database)

    def have_noticed(self) -> None:
        """Wait until the S3 server sees what was changed in its folder behind its back."""
        time.sleep(4 * CACHE_S)

    def objects(self) -> list:
        """The files of the bucket."""
        folder = self.servers.s3.buckets / self.s3.bucket
        return sorted(path for path in folder.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    with ExitStack() as stack:
        postgres = had(lambda: Postgres(server_folder(stack, "pg"), 16))
        s3 = had(lambda: Rclone(server_folder(stack, "s3")))
        for each in (postgres.server, s3.server):
            stack.callback(each.stop)
            each.start()
        yield Servers(postgres, s3)


@pytest.fixture
def backend(servers: Servers) -> Iterator[Backend]:
    for server in (servers.postgres, servers.s3):
        if not server.answers():
            server.server.start()
    to_postgres = Proxy(("127.0.0.1", servers.postgres.port))
    to_s3 = Proxy(("127.0.0.1", servers.s3.port))
    database = servers.postgres.database()
    made = Backend(
        servers,
        to_postgres,
        to_s3,
        PostgresSettings(dsn=f"host=127.0.0.1 port={to_postgres.port} user=faas dbname={database}"),
        S3Settings(
            endpoint=f"http://127.0.0.1:{to_s3.port}",
            bucket=servers.s3.bucket(),
            access_key=servers.s3.access_key,
            secret_key=servers.s3.secret_key,
        ),
    )
    yield made
    to_postgres.swallowing = to_s3.swallowing = False
    for storage in made.opened:
        storage.close()
    to_postgres.close()
    to_s3.close()


@pytest.fixture
def deploy() -> Callable[..., object]:
    """Deploy ``source`` as ``greet``."""
    return lambda storage, source=b"// 1", **given: (
        storage.deploy(REF, sample_draft(source, **given)).deployment
    )


@pytest.fixture
def open_store(backend) -> Iterator[Callable[..., PostgresExecutions]]:
    """Open a store through the proxy, or past it, as another host has it."""
    opened: list[PostgresExecutions] = []

    def open_one(*, past_proxy: bool = False) -> PostgresExecutions:
        postgres = backend.postgres
        if past_proxy:
            postgres = replace(postgres, dsn=backend.servers.postgres.dsn(backend.database))
        opened.append(PostgresExecutions(postgres, lease_s=3.0))
        return opened[-1]

    yield open_one
    backend.to_postgres.refusing = backend.to_postgres.swallowing = False
    for store in opened:
        store.close()
