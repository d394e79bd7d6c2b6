"""Two PostgreSQL servers, one a standby: a failover is followed without a restart."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace

import pytest
from lowcode_faas_db_s3.settings import PostgresSettings
from lowcode_faas_db_s3.storage import DbS3Storage

from lowcode_faas_core.errors import StorageUnavailable
from lowcode_faas_core.model import FunctionRef
from tests.services.fixtures import had, server_folder
from tests.services.postgres import Postgres

REF = FunctionRef("", "greet")


@pytest.mark.fault(116)
def test_a_standby_takes_over(backend, deploy):
    """While nobody takes writes they are 503; after the promotion everything is there and goes on."""
    with ExitStack() as stack:
        first = had(lambda: Postgres(server_folder(stack, "first"), 16))
        stack.callback(first.server.stop)
        first.server.start()
        standby = Postgres(server_folder(stack, "standby"), 16, copy_of=first)
        stack.callback(standby.server.stop)
        standby.server.start()
        dsn = f"host=127.0.0.1,127.0.0.1 port={standby.port},{first.port} user=faas dbname=postgres"
        storage = DbS3Storage.open(PostgresSettings(dsn=dsn), replace(backend.s3))
        stack.callback(storage.close)
        assert deploy(storage).version == 1
        standby.execute("SELECT 1")
        _caught_up(first, standby)

        first.server.kill()
        with pytest.raises(StorageUnavailable):
            deploy(storage, b"// 2")
        standby.execute("SELECT pg_promote()")
        assert deploy(storage, b"// 2").version == 2
        assert [row.version for row in storage.versions(REF, 9).items] == [2, 1]


def _caught_up(first: Postgres, standby: Postgres) -> None:
    [(position,)] = first.execute("SELECT pg_current_wal_lsn()")
    for _ in range(200):
        if standby.execute(f"SELECT pg_last_wal_replay_lsn() >= '{position}'") == [(True,)]:
            return
        standby.execute("SELECT pg_sleep(0.05)")
    raise AssertionError("the standby does not follow")
