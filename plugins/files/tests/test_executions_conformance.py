from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path

import pytest
from lowcode_faas_files.executions.store import SqliteExecutions

from lowcode_faas_core.testing.executions_contract import ExecutionStoreContract
from lowcode_faas_core.testing.executions_upkeep import Reopen


class TestSqliteExecutions(ExecutionStoreContract):
    @pytest.fixture
    def reopen(self, data_dir: Path) -> Reopen:
        return functools.partial(SqliteExecutions, data_dir)

    @pytest.fixture
    def store(self, reopen: Reopen) -> Iterator[SqliteExecutions]:
        store = reopen()
        assert isinstance(store, SqliteExecutions)
        yield store
        store.close()
