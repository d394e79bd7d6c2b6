"""The checker notices: storages, each with a bug of its own."""

from __future__ import annotations

import random

import msgspec
import pytest

from lowcode_faas_core.errors import StorageUnavailable
from lowcode_faas_core.testing.memory_storage import MemoryStorage
from tests.history.record import run_clients, violations


class Losing(MemoryStorage):
    """Now and then it answers a deploy, and forgets it."""

    def deploy(self, ref, draft):
        with self._lock:
            outcome = super().deploy(ref, draft)
            if random.random() < 0.05 and outcome.deployment.version > 1:
                self._functions[ref].rows.pop()
            return outcome


class Stale(MemoryStorage):
    """Now and then a read is of the version before."""

    def resolve(self, ref, version=None):
        found = super().resolve(ref, version)
        current = found.deployment
        if version is None and current.version > 1 and random.random() < 0.05:
            return msgspec.structs.replace(
                found, deployment=self.deployment(ref, current.version - 1)
            )
        return found


class Lying(MemoryStorage):
    """Now and then it says that nothing was written, and it was."""

    def deploy(self, ref, draft):
        outcome = super().deploy(ref, draft)
        if random.random() < 0.05:
            raise StorageUnavailable("nothing was written")
        return outcome


class Reusing(MemoryStorage):
    """Now and then a deploy takes the place of the version before, which was answered."""

    def _append(self, function, row, source):
        if len(function.rows) > 1 and random.random() < 0.05:
            function.rows.pop()
        return super()._append(function, row, source)


class Swapping(MemoryStorage):
    """Now and then a version keeps the bytes of the one before, with their hash."""

    def _append(self, function, row, source):
        if function.rows and random.random() < 0.05:
            before = function.current
            source = self.sources[before.deployment_id]
            row = msgspec.structs.replace(row, sha256=before.sha256, size=before.size)
        return super()._append(function, row, source)


class Restoring(MemoryStorage):
    """A rollback restores the newest bytes, not the ones asked for."""

    def _append(self, function, row, source):
        if row.restored_from is not None:
            newest = function.current
            source = self.sources[newest.deployment_id]
            row = msgspec.structs.replace(row, sha256=newest.sha256, size=newest.size)
        return super()._append(function, row, source)


def test_a_sound_storage_shows_nothing():
    storage = MemoryStorage()
    history = run_clients(storage, seed=1, seconds=0.5, pause_s=0.002)
    assert violations(history, storage) == []
    assert {op.kind for op in history if op.fate == "ok"} == {"deploy", "read", "pin", "rollback"}


@pytest.mark.parametrize(
    ("storage", "said"),
    [
        (Losing, "lost"),
        (Stale, "read version"),
        (Lying, "though it failed"),
        (Reusing, "given twice"),
        (Swapping, "other bytes"),
        (Restoring, "restored"),
    ],
)
def test_a_bug_is_noticed(storage, said):
    made = storage()
    history = run_clients(made, seed=2, seconds=0.5, pause_s=0.002)
    assert any(said in each for each in violations(history, made))
