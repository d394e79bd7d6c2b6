"""What goes where, and which exit code scripts get."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

COMMAND = str(Path(sys.executable).with_name("lowcode-faas"))


def test_a_sound_installation_exits_with_0_and_warnings_only_when_strict(doctor):
    report = doctor()
    assert report.code == 0, report
    assert "files works" in report.texts("ok", "storage")
    assert "process works" in report.texts("ok", "runner")
    # The process runner is no boundary: that is a warning wherever it runs.
    assert "not a boundary" in report.texts("warning", "isolation")
    assert doctor("--strict").code == 1


def test_lines_go_to_stdout_and_the_count_to_stderr(tmp_path):
    environ = {**os.environ, "LOWCODE_FAAS_RUNNER": "process", "LOWCODE_FAAS_LISTEN": "127.0.0.1:1"}
    done = subprocess.run(
        [COMMAND, "doctor"], env=environ, cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done
    assert {line.split()[0] for line in lines} == {"ok", "warning"}
    assert f"{len(lines)} findings: 0 failures" in done.stderr


def test_an_environment_that_cannot_be_used_exits_with_2(doctor):
    report = doctor(STORAGE="flies", THREADS="x")
    assert (report.code, report.findings) == (2, [])
    assert "Did you mean files?" in report.errors
    assert "LOWCODE_FAAS_THREADS" in report.errors


def test_it_changes_nothing(doctor, tmp_path):
    assert "not there yet" in doctor().texts("ok", "executions")
    assert not (tmp_path / "data").exists()
    (tmp_path / "data").mkdir(mode=0o700)
    doctor()
    assert list((tmp_path / "data").iterdir()) == []


def test_executions_of_a_later_release_are_a_failure(doctor, tmp_path):
    folder = tmp_path / "data" / "executions"
    folder.mkdir(mode=0o700, parents=True)
    with closing(sqlite3.connect(folder / "executions.sqlite")) as database:
        database.execute("CREATE TABLE later (id INTEGER)")
        database.execute("PRAGMA user_version = 99")
    assert "has schema 99" in doctor().texts("failure", "executions")
    assert not doctor(EXECUTIONS="none").texts("failure", "executions")
    (folder / "executions.sqlite").write_bytes(b"no database at all")
    assert "not a database" in doctor().texts("failure", "executions")


def test_a_history_of_one_version_is_a_warning(doctor):
    assert "no rollback" in doctor().texts("warning", "storage")
    assert not doctor(FILES_KEEP_VERSIONS="20").texts("warning", "storage")


def test_odd_variables_are_named(doctor):
    report = doctor(THREDS="8")
    assert "did you mean LOWCODE_FAAS_THREADS?" in report.texts("warning", "variables")
