"""What ``lowcode-faas doctor`` says of both servers: up, down, out of step, and never changed."""

from __future__ import annotations

import datetime

import pytest
from lowcode_faas_db_s3.examination import BothServers
from lowcode_faas_db_s3.migrations import steps

from lowcode_faas_core.findings import Level
from lowcode_faas_core.model import FunctionRef
from lowcode_faas_core.testing.samples import sample_draft


@pytest.fixture
def examine(backend):
    """Return the findings as ``(level, subject): texts``."""

    def run(processes=2):
        examination = BothServers(backend.postgres, backend.s3, processes=processes)
        found = {}
        for each in examination.findings():
            found.setdefault((each.level.value, each.subject), []).append(each.text)
        examination.close()
        return {key: "\n".join(texts) for key, texts in found.items()}

    return run


def test_an_empty_database_is_not_migrated_by_looking(examine, backend):
    found = examine()
    assert "lowcode-faas migrate" in found["warning", "schema"]
    assert backend.sql("SELECT to_regclass('lowcode_faas_schema')") == [(None,)]


def test_both_servers_are_named_with_their_clocks(examine, backend, deploy):
    deploy(backend.open())
    found = examine()
    assert {level for level, _ in found} == {Level.OK}, found
    assert "takes writes" in found["ok", "PostgreSQL"]
    assert "clock agrees" in found["ok", "PostgreSQL"]
    assert backend.s3.bucket in found["ok", "S3"]
    assert "clock agrees" in found["ok", "S3"]
    assert f"step {steps()[-1][0]}" in found["ok", "schema"]
    assert found["ok", "sources"] == "all 1 versions have their object"


def test_postgres_down_is_a_failure_and_s3_is_looked_at_all_the_same(examine, backend):
    backend.servers.postgres.server.stop()
    found = examine()
    assert ("failure", "PostgreSQL") in found
    assert ("ok", "S3") in found


def test_s3_down_is_a_failure(examine, backend):
    backend.servers.s3.stop()
    found = examine()
    assert "S3" in found["failure", "S3"]
    assert ("ok", "PostgreSQL") in found


def test_a_silent_database_does_not_hang_the_doctor(examine, backend):
    backend.to_postgres.swallowing = True
    started = datetime.datetime.now(datetime.UTC)
    found = examine()
    assert ("failure", "PostgreSQL") in found
    assert (datetime.datetime.now(datetime.UTC) - started).total_seconds() < 20


@pytest.mark.fault(120)
def test_a_newer_schema_is_a_failure(examine, backend, deploy):
    deploy(backend.open())
    backend.sql("INSERT INTO lowcode_faas_schema (version, name) VALUES (9999, '9999_later.sql')")
    assert "upgrade here" in examine()["failure", "schema"]


def test_more_connections_than_the_server_takes_are_a_warning(examine, backend, deploy):
    deploy(backend.open())
    assert "LOWCODE_FAAS_POSTGRES_POOL" in examine(processes=100)["warning", "PostgreSQL"]


@pytest.mark.fault(125)
def test_rows_without_objects_and_objects_without_rows_are_told(
    examine, backend, deploy, monkeypatch
):
    """As after a restore of one server and not of the other."""
    storage = backend.open()
    deploy(storage)
    storage.deploy(FunctionRef("", "other"), sample_draft(b"// 2"))
    backend.objects()[0].unlink()
    spare = backend.objects()[0].with_name("0-nobody.mjs")
    spare.write_bytes(b"x")
    backend.have_noticed()
    # Objects of yesterday count only; the test has no day to wait.
    monkeypatch.setattr("lowcode_faas_db_s3.examination.YOUNG_S", 0.0)
    found = examine()
    assert "has no object" in found["failure", "sources"]
    assert "1 objects that no version needs" in found["warning", "sources"]
    assert spare.exists()
