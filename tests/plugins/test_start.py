"""What an operator sees when a plugin is wrong: sentences, exit code 2, no traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Install = Callable[..., str]
COMMAND = Path(sys.executable).with_name("lowcode-faas")


def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environ = {key: value for key, value in os.environ.items() if not key.startswith("LOWCODE_")}
    return subprocess.run(
        [COMMAND, *arguments],
        env={**environ, **{f"LOWCODE_FAAS_{key}": value for key, value in variables.items()}},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("role", ["dispatcher", "worker"])
def test_everything_wrong_is_said_once_before_anything_listens(role: str) -> None:
    # When a service starts with three things wrong
    done = run(role, STORAGE="flies", RUNNER="dokcer", THREADS="two")
    # Then each is one line, and nothing else is printed
    assert done.returncode == 2
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 3
    assert all(line.startswith("lowcode-faas: LOWCODE_FAAS_") for line in lines)


@pytest.mark.parametrize(
    "wrong",
    [
        {"LISTEN": "203.0.113.1:80", "STORAGE": "files", "RUNNER": "process"},
        {"THREADS": "two", "STORAGE": "files", "RUNNER": "process"},
        {"STORAGE": "flies", "RUNNER": "process"},
    ],
    ids=["address", "settings", "plugin"],
)
def test_a_misspelt_variable_is_told_before_the_failure_it_may_explain(
    wrong: dict[str, str],
) -> None:
    done = run("dispatcher", MAX_INSTANCE="8", **wrong)
    assert done.returncode == 2
    first, *rest = done.stderr.splitlines()
    assert first.startswith("lowcode-faas: warning: LOWCODE_FAAS_MAX_INSTANCE is not a variable")
    assert first.endswith("did you mean LOWCODE_FAAS_MAX_INSTANCES?")
    assert len(rest) == 1


def test_without_its_plugin_a_plugins_variable_is_not_odd() -> None:
    done = run("dispatcher", STORAGE="flies", RUNNER="process", S3_BUCKET="b", DATA_DIR="/tmp/x")
    assert "warning" not in done.stderr


def test_plugin_problems_are_reported_together_with_those_of_the_core(install: Install) -> None:
    install("broken-plugin", "raise RuntimeError('half installed')", "broken")
    done = run("dispatcher", STORAGE="broken", RUNNER="process", QUEUE="-1")
    assert done.returncode == 2
    assert "RuntimeError: half installed" in done.stderr
    assert "LOWCODE_FAAS_QUEUE must be a whole number of at least 0" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_command_plugins_lists_without_importing(install: Install) -> None:
    install("broken-plugin", "raise RuntimeError('imported')", "broken")
    done = run("plugins", STORAGE="broken", RUNNER="process")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert any(line.split() == ["*", "broken", "broken-plugin", "1.0", "storage"] for line in lines)
    assert any(line.startswith("* process ") and line.endswith("runner") for line in lines)
    assert any(line.startswith("  files ") for line in lines)


def test_the_command_plugins_prints_one_document(install: Install) -> None:
    install("broken-plugin", "raise RuntimeError('imported')", "broken", version="2.5")
    done = run("plugins", "--json", STORAGE="broken", RUNNER="process")
    assert done.returncode == 0, done.stderr
    rows = {row["name"]: row for row in json.loads(done.stdout)["plugins"]}
    assert rows["broken"] == {
        "name": "broken",
        "distribution": "broken-plugin",
        "version": "2.5",
        "selected": True,
        "roles": ["storage"],
    }
    assert (rows["files"]["selected"], rows["files"]["roles"]) == (False, [])


def test_the_command_plugins_says_what_each_could_be(install: Install) -> None:
    install("broken-plugin", "raise RuntimeError('imported')", "broken")
    done = run("plugins", "--roles", "--json", RUNNER="process")
    assert done.returncode == 0, done.stderr
    rows = {row["name"]: row for row in json.loads(done.stdout)["plugins"]}
    assert rows["files"]["can_be"] == ["storage", "execution store"]
    assert rows["prometheus"]["can_be"] == ["metrics plugin"]
    assert rows["stdout"]["can_be"] == ["log sink"]
    assert rows["broken"]["can_be"] == []
    assert rows["broken"]["error"].startswith("RuntimeError: imported")
    lines = run("plugins", "--roles", RUNNER="process").stdout.splitlines()
    (line,) = [each for each in lines if each.startswith("* process ")]
    assert line.endswith("  runner  (can be: runner)")


def test_the_command_plugins_says_what_is_missing() -> None:
    done = run("plugins", STORAGE="files", RUNNER="nothing-like-it")
    assert done.returncode == 2
    assert "LOWCODE_FAAS_RUNNER" in done.stderr
    assert "files" in done.stdout
