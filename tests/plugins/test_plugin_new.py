"""`lowcode-faas plugin new`: what it refuses, and that what it makes is clean whatever its name is."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from lowcode_faas_core.cli import cli
from lowcode_faas_core.cli.plugin_new import MAX_NAME, PLACEHOLDER, ROLES

ROOT = Path(__file__).resolve().parents[2]


def new(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, ["plugin", "new", *map(str, arguments)])


def tool(name: str, *arguments: str, cwd: Path) -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name(name), *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("name", ["a", "z" * MAX_NAME, "-".join("z" * (MAX_NAME // 2))])
def test_what_is_made_is_clean_whatever_its_name(tmp_path: Path, role: str, name: str) -> None:
    assert new(name, "--role", role, "--into", tmp_path).exit_code == 0
    folder = tmp_path / f"lowcode-faas-{name}"
    tool("ruff", "check", "--no-cache", ".", cwd=folder)
    tool("ruff", "format", "--no-cache", "--check", ".", cwd=folder)
    made = [path for path in folder.rglob("*") if path.is_file()]
    assert len(made) >= 7
    for path in made:
        assert PLACEHOLDER not in f"{path.relative_to(folder)} {path.read_text()}".lower()
        assert not path.name.startswith(".")


def test_what_is_made_has_types(tmp_path: Path) -> None:
    packages = []
    for role in ROLES:
        assert new(f"typed-{role}", "--role", role, "--into", tmp_path).exit_code == 0
        name = f"typed-{role}".replace("-", "_")
        packages.append(str(tmp_path / f"lowcode-faas-typed-{role}" / f"lowcode_faas_{name}"))
    # With our own settings, strict as theirs, so that what mypy knows of the core is used again.
    tool("mypy", *packages, cwd=ROOT)


def test_the_folder_is_answered_and_the_next_step_said(tmp_path: Path) -> None:
    done = new("acme", "--role", "storage", "--into", tmp_path)
    folder = tmp_path / "lowcode-faas-acme"
    assert done.stdout == f"{folder}\n"
    assert "pip install -e" in done.stderr
    answer = json.loads(new("acme2", "--role", "source", "--into", tmp_path, "--json").stdout)
    assert answer["folder"] == str(tmp_path / "lowcode-faas-acme2")
    for name in answer["files"]:
        assert (tmp_path / "lowcode-faas-acme2" / name).is_file()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Acme", "lower-case words"),
        ("acme_blobs", "lower-case words"),
        ("../acme", "lower-case words"),
        ("-", "lower-case words"),
        ("", "lower-case words"),
        ("acme-", "lower-case words"),
        ("9acme", "lower-case words"),
        ("ácme", "lower-case words"),
        ("a" * (MAX_NAME + 1), f"{MAX_NAME} characters at most"),
        ("lowcode-faas-acme", "leave lowcode-faas- out"),
        ("docker-json", "is taken"),
        ("files", "is taken"),
        ("none", "is taken"),
        (PLACEHOLDER, "is taken"),
    ],
)
def test_a_bad_name_is_refused_and_nothing_written(tmp_path: Path, name: str, said: str) -> None:
    done = new("--role", "storage", "--into", tmp_path, "--", name)
    assert done.exit_code == 2
    assert "NAME" in done.stderr
    assert said in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_there_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "lowcode-faas-acme"
    folder.mkdir()
    done = new("acme", "--role", "storage", "--into", tmp_path)
    assert done.exit_code == 1
    assert f"{folder} is there already" in done.stderr
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--role", "storage", "--into", "nowhere"], "--into"),
        (["--role", "database"], "--role"),
        ([], "--role"),
    ],
)
def test_what_else_is_wrong_names_its_option(arguments: list[str], said: str) -> None:
    done = new("acme", *arguments)
    assert done.exit_code == 2
    assert said in done.stderr
