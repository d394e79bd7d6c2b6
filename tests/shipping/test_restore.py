"""The guide's own commands to back up and restore, run as they stand there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from lowcode_faas_db_s3.settings import PostgresSettings, S3Settings
from lowcode_faas_db_s3.storage import DbS3Storage
from lowcode_faas_files.storage import FilesStorage

from lowcode_faas_core.model import FunctionRef
from lowcode_faas_core.settings import read_settings
from lowcode_faas_core.testing.samples import sample_draft
from tests.docs.pages import Page
from tests.services.postgres import binaries

REFS = [FunctionRef("", "greet"), FunctionRef("", "other"), FunctionRef("org/team", "deep")]


def block(*words: str) -> str:
    """Return the one block of commands of the guide that has all the words."""
    texts = [block.text for block in Page("docs/operations.md").blocks()]
    (found,) = [each for each in texts if all(word in each for word in words)]
    return found


def shell(commands: str, cwd: Path, **environ: str) -> str:
    path = f"{Path(sys.executable).parent}:{binaries(16)}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euc", commands],
        cwd=cwd,
        env={**os.environ, **environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def fill(storage, source: bytes) -> None:
    for ref in REFS:
        storage.deploy(ref, sample_draft(source))


def sources(storage) -> list[bytes]:
    return [storage.source(storage.deployment(ref)) for ref in REFS]


def test_files_come_back_as_they_were(tmp_path):
    """Without systemd the lines that copy, over a folder of the test's own."""

    def copying(*words: str) -> str:
        lines = [line for line in block(*words).splitlines() if "systemctl" not in line]
        return "\n".join(lines).replace("sudo ", "").replace("/var/lib", str(tmp_path / "lib"))

    data = tmp_path / "lib" / "lowcode-faas"
    data.parent.mkdir()
    storage = FilesStorage(data)
    storage.create_collection("org/team", {"A": "b"})
    fill(storage, b"// 1")
    shell(copying("tar -C", "-czpf"), tmp_path)
    fill(storage, b"// 2")
    shell(copying("tar -C", "-xzpf"), tmp_path)
    restored = FilesStorage(data)
    assert sources(restored) == [b"// 1"] * 3
    assert restored.collection_env("org/team") == {"A": "b"}
    assert data.stat().st_mode & 0o777 == 0o700


@pytest.mark.fault(125)
def test_both_servers_come_back_together(tmp_path, db_s3_environ, postgres_of, s3_of):
    # Given functions, and a backup
    storage = DbS3Storage.open(*read_settings(db_s3_environ, PostgresSettings, S3Settings))
    storage.create_collection("org/team", {"A": "b"})
    fill(storage, b"// 1")
    storage.close()
    shell(block("pg_dump"), tmp_path, **db_s3_environ)
    # When both servers are lost, and what was saved goes to new ones
    postgres, s3 = postgres_of(16), s3_of("rclone")
    empty = {
        **db_s3_environ,
        "LOWCODE_FAAS_POSTGRES_DSN": postgres.dsn(postgres.database()),
        "LOWCODE_FAAS_S3_BUCKET": s3.bucket(),
        "LOWCODE_FAAS_RUNNER": "process",
        "LOWCODE_FAAS_LISTEN": "127.0.0.1:8080",
        "LOWCODE_FAAS_DATA_DIR": str(tmp_path / "data"),
    }
    exports = "".join(
        line + "\n" for line in block("pg_dump").splitlines() if line.startswith("export")
    )
    report = shell(exports + block("pg_restore"), tmp_path, **empty)
    # Then doctor finds every row's object, and everything is there
    assert "all 3 versions have their object" in report
    restored = DbS3Storage.open(*read_settings(empty, PostgresSettings, S3Settings))
    assert sources(restored) == [b"// 1"] * 3
    assert restored.collection_env("org/team") == {"A": "b"}
    # And what is deployed next is the next version
    assert restored.deploy(REFS[0], sample_draft(b"// 2")).deployment.version == 2
    restored.close()
