from __future__ import annotations

import functools
import sqlite3
import stat
from contextlib import closing

import pytest
from example_sqlite_storage import SqliteStorage, lowcode_faas_storage

from lowcode_faas_core.errors import StorageUnavailable
from lowcode_faas_core.testing.storage_contract import StorageContract


@pytest.fixture
def file(tmp_path):
    return tmp_path / "functions.sqlite"


class TestSqliteStorage(StorageContract):
    @pytest.fixture
    def storage(self, file):
        storage = lowcode_faas_storage({"LOWCODE_FAAS_EXAMPLE_SQLITE_FILE": str(file)})
        yield storage
        storage.close()

    @pytest.fixture
    def spawn_storage(self, file):
        return functools.partial(SqliteStorage, file)

    @pytest.fixture
    def make_storage(self, spawn_storage):
        return spawn_storage

    @pytest.fixture
    def damage(self, file):
        def spoil(deployment):
            with closing(sqlite3.connect(file)) as database, database:
                key = f"source:{deployment.deployment_id}"
                database.execute("UPDATE documents SET value = x'00' WHERE key = ?", (key,))

        return spoil


def test_nobody_else_reads_the_database(file):
    SqliteStorage(file).check()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_what_is_no_database_is_unavailable(file):
    file.write_bytes(b"something else, and long enough to be looked at" * 100)
    with pytest.raises(StorageUnavailable, match="sqlite cannot be used"):
        SqliteStorage(file).check()


def test_a_folder_that_is_not_there_is_unavailable(tmp_path):
    with pytest.raises(StorageUnavailable, match="cannot be opened"):
        SqliteStorage(tmp_path / "nowhere" / "functions.sqlite").check()
