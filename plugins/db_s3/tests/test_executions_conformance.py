from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from lowcode_faas_db_s3.executions.store import PostgresExecutions
from lowcode_faas_db_s3.settings import PostgresSettings

from lowcode_faas_core.testing.executions_contract import ExecutionStoreContract
from lowcode_faas_core.testing.executions_upkeep import Reopen

#: Seconds; short, so that the tests need not wait for long until one that was killed is given up.
LEASE_S = 3.0


@dataclass(frozen=True)
class Opened:
    """Opens a store; picklable, so that other processes can."""

    postgres: PostgresSettings

    def __call__(self) -> PostgresExecutions:
        return PostgresExecutions(self.postgres, lease_s=LEASE_S)


@pytest.mark.parametrize(("major", "pooled"), [(15, False), (16, False), (16, True)])
class TestPostgresExecutions(ExecutionStoreContract):
    @pytest.fixture
    def reopen(self, postgres_of, major: int, pooled: bool, request) -> Reopen:
        server = postgres_of(major)
        database = server.database()
        if pooled:
            server = request.getfixturevalue("pooler")
        return Opened(PostgresSettings(dsn=server.dsn(database), pool=4, executions_pool=2))

    @pytest.fixture
    def store(self, reopen: Reopen) -> Iterator[PostgresExecutions]:
        store = reopen()
        assert isinstance(store, PostgresExecutions)
        yield store
        store.close()
