"""The schema: applied once however many start at once, and never by who does not know it."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg2
import pytest
from lowcode_faas_db_s3.migrations import migrate, steps

from lowcode_faas_core.errors import StartError, StorageUnavailable

COMMAND = str(Path(sys.executable).with_name("lowcode-faas"))


def _run(backend, *arguments):
    environ = {
        **os.environ,
        "LOWCODE_FAAS_STORAGE": "db_s3",
        "LOWCODE_FAAS_POSTGRES_DSN": backend.postgres.dsn,
        "LOWCODE_FAAS_S3_ENDPOINT": backend.s3.endpoint,
        "LOWCODE_FAAS_S3_BUCKET": backend.s3.bucket,
        "LOWCODE_FAAS_S3_ACCESS_KEY": backend.s3.access_key,
        "LOWCODE_FAAS_S3_SECRET_KEY": backend.s3.secret_key,
    }
    return subprocess.run(
        [COMMAND, *arguments], env=environ, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.fault(120)
def test_four_processes_start_at_once(backend):
    """One applies each step, the others find it applied; all of them succeed."""
    with ThreadPoolExecutor(4) as threads:
        done = list(threads.map(lambda _: _run(backend, "migrate"), range(4)))

    names = [name for _, name, _ in steps()]
    assert [each.returncode for each in done] == [0] * 4, done
    assert sorted(line for each in done for line in each.stdout.splitlines()) == names
    assert backend.sql("SELECT name FROM lowcode_faas_schema ORDER BY version") == [
        (name,) for name in names
    ]


@pytest.mark.fault(120)
def test_a_newer_schema_is_refused(backend, deploy):
    """At start, by the command, and by a storage that reaches the database only later."""
    deploy(backend.open())
    backend.to_postgres.refusing = True
    backend.to_postgres.cut_all()
    late = backend.open()
    backend.sql("INSERT INTO lowcode_faas_schema (version, name) VALUES (9999, '9999_later.sql')")
    backend.to_postgres.refusing = False

    with pytest.raises(StartError, match="9999_later"):
        backend.open()
    with pytest.raises(StorageUnavailable, match="9999_later"):
        late.check()
    refused = _run(backend, "migrate")
    assert refused.returncode == 2
    assert "upgrade lowcode-faas" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_step_that_fails_leaves_nothing(backend, monkeypatch):
    """All steps are one transaction."""
    broken = [*steps(), (9998, "9998_broken.sql", "CREATE TABLE half (a int); SELECT nonsense")]
    monkeypatch.setattr("lowcode_faas_db_s3.migrations.steps", lambda: broken)
    connection = psycopg2.connect(backend.postgres.dsn)
    connection.autocommit = True
    with pytest.raises(psycopg2.Error, match="nonsense"):
        migrate(connection)
    connection.close()
    assert backend.sql("SELECT to_regclass('half'), to_regclass('collections')") == [(None, None)]


def test_garbage_by_command(backend, deploy):
    """A dry run by default; what is young stays; nothing but the list on stdout."""
    storage = backend.open()
    deploy(storage)
    storage.delete_function(deploy(storage, b"// 2").ref)
    [young, *_] = backend.objects()
    os.utime(young, (0, 0))
    backend.have_noticed()

    listed = _run(backend, "gc")
    assert (listed.returncode, listed.stdout) == (0, f"deployments/{young.name}\n")
    assert "--delete" in listed.stderr
    assert young.exists()
    assert _run(backend, "gc", "--delete").stdout == f"deployments/{young.name}\n"
    assert not young.exists()
    assert len(backend.objects()) == 1
    backend.to_postgres.refusing = True
    failed = _run(backend, "gc")
    assert failed.returncode == 1
    assert "PostgreSQL" in failed.stderr
