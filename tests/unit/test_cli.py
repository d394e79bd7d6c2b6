"""``lowcode-faas config``: what is in effect, where it came from, and nobody's secrets."""

from __future__ import annotations

import json

import click
import pytest
from click.testing import CliRunner

from lowcode_faas_core.cli import cli

BASE = {"LOWCODE_FAAS_RUNNER": "process"}


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    import os

    for name in [name for name in os.environ if name.startswith("LOWCODE_FAAS_")]:
        monkeypatch.delenv(name)
    return CliRunner(env=BASE)


def test_values_come_with_their_origin(runner: CliRunner) -> None:
    done = runner.invoke(cli, ["config", "--json"], env={"LOWCODE_FAAS_THREADS": "8"})
    assert done.exit_code == 0, done.output
    values = json.loads(done.stdout)["values"]
    assert values["LOWCODE_FAAS_THREADS"] == {"value": "8", "origin": "LOWCODE_FAAS_THREADS"}
    assert values["LOWCODE_FAAS_STORAGE"] == {"value": "files", "origin": "default"}


def test_the_variables_of_selected_plugins_are_listed(runner: CliRunner) -> None:
    done = runner.invoke(cli, ["config"])
    assert "LOWCODE_FAAS_DATA_DIR" in done.stdout
    assert "LOWCODE_FAAS_NODE_BIN" in done.stdout


@pytest.mark.fault(77)
@pytest.mark.parametrize("arguments", [["config"], ["config", "--json"]])
def test_secrets_are_masked(runner: CliRunner, arguments: list[str]) -> None:
    done = runner.invoke(cli, arguments, env={"LOWCODE_FAAS_WORKER_TOKEN": "hunter2"})
    assert "hunter2" not in done.output
    assert "****" in done.stdout


def test_what_is_wrong_is_said_after_the_values(runner: CliRunner) -> None:
    done = runner.invoke(
        cli, ["config"], env={"LOWCODE_FAAS_THREADS": "x", "LOWCODE_FAAS_STORAGE": "flies"}
    )
    assert done.exit_code == 2
    assert "LOWCODE_FAAS_QUEUE" in done.stdout
    assert "LOWCODE_FAAS_THREADS must be a whole number" in done.stderr
    assert "Did you mean files?" in done.stderr


def test_unknown_names_are_warnings(runner: CliRunner) -> None:
    done = runner.invoke(cli, ["config"], env={"LOWCODE_FAAS_THREDS": "8"})
    assert done.exit_code == 0
    assert "did you mean LOWCODE_FAAS_THREADS?" in done.stderr


def test_every_command_can_be_loaded_and_explains_itself(runner: CliRunner) -> None:
    done = runner.invoke(cli, ["--help"])
    assert (done.exit_code, done.stderr) == (0, "")
    for name in cli.list_commands(click.Context(cli)):
        explained = runner.invoke(cli, [name, "--help"])
        assert explained.exit_code == 0, name
        assert name in done.stdout
