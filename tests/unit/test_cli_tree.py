"""Every command there is: explains itself with an example, speaks JSON, and ends with the right code."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from lowcode_faas_core.cli import cli
from lowcode_faas_core.cli.examples import EXAMPLES
from lowcode_faas_core.client.archive import Tree, write

#: Commands that print nothing for programs, and why.
WITHOUT_JSON = {
    "delete": "nothing is left to print",
    "collections delete": "nothing is left to print",
    "env set": "says nothing",
    "env unset": "says nothing",
    "dispatcher": "a service",
    "worker": "a service",
    "token revoke": "says what it did on stderr",
    "completion": "words for a shell",
}
#: Nothing listens there.
NOWHERE = "http://127.0.0.1:9"


def leaves(command: click.Command, path: str = "") -> Iterator[tuple[str, click.Command]]:
    """Yield every command that is no group, with its words."""
    if not isinstance(command, click.Group):
        yield path, command
        return
    ctx = click.Context(command)
    for name in command.list_commands(ctx):
        below = command.get_command(ctx, name)
        assert below is not None, name
        yield from leaves(below, f"{path} {name}".strip())


TREE = dict(leaves(cli))
CALLING = [
    path
    for path, command in TREE.items()
    if any(option.name == "server" for option in command.params)
]


@pytest.fixture
def runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    for name in [name for name in os.environ if name.startswith("LOWCODE_FAAS_")]:
        monkeypatch.delenv(name)
    runner = CliRunner(
        env={"LOWCODE_FAAS_URL": NOWHERE, "HOME": str(tmp_path), "XDG_CONFIG_HOME": ""}
    )
    monkeypatch.chdir(tmp_path)
    Path("functions").mkdir()
    for name in ("hello.mjs", "functions/hello.mjs"):
        Path(name).write_text("export const handler = () => ({ok: true});")
    Path("input.json").write_text("{}")
    Path("eu.env").write_text("A=1")
    return runner


def arguments(example: str) -> list[str]:
    """Return the words of an example up to what is the shell's."""
    words = shlex.split(example)
    return words[: words.index(">")] if ">" in words else words


@pytest.mark.parametrize("path", ["executions show", "executions replay", "logs show"])
def test_an_execution_is_named_as_the_service_names_it(path: str) -> None:
    named = [word for example in EXAMPLES[path] for word in example.split() if word[0] == "0"]
    assert named, EXAMPLES[path]
    for each in named:
        assert uuid.UUID(each).version == 7
        assert str(uuid.UUID(each)) == each


def test_the_table_has_every_command_and_no_other() -> None:
    assert set(EXAMPLES) == set(TREE)
    assert len(CALLING) > 20


@pytest.mark.parametrize("path", TREE)
def test_a_command_explains_itself_with_an_example(path: str, runner: CliRunner) -> None:
    done = runner.invoke(cli, [*path.split(), "--help"])
    assert (done.exit_code, done.stderr) == (0, "")
    assert "Example" in done.stdout
    for example in EXAMPLES[path]:
        assert f"lowcode-faas {example}" in done.stdout
    # What stands there can be typed
    for example in EXAMPLES[path]:
        words = arguments(example)
        assert example.startswith(path) or path == "logs function", example
        command, rest = TREE[path], words[len(path.split()) :]
        if path == "logs function":
            rest = words[1:]
        if path != "import":  # its file is not there
            command.make_context(path, rest)


@pytest.mark.parametrize("path", sorted(set(TREE) - set(WITHOUT_JSON)))
def test_what_prints_data_has_it_in_json(path: str) -> None:
    assert any("--json" in option.opts for option in TREE[path].params)


@pytest.mark.parametrize("path", TREE)
def test_bad_usage_ends_with_2(path: str, runner: CliRunner) -> None:
    wanted = [each for each in TREE[path].params if isinstance(each, click.Argument)]
    wrong = [["--no-such-option"]]
    if all(each.nargs == 1 for each in wanted):
        wrong.append(["x"] * (len(wanted) + 1))
    if any(each.required for each in wanted):
        wrong.append([])
    for words in wrong:
        done = runner.invoke(cli, [*path.split(), *words])
        assert done.exit_code == 2, (words, done.output)
        assert done.stdout == ""
        assert "Usage: " in done.stderr


@pytest.mark.parametrize("path", CALLING)
def test_a_service_that_does_not_answer_is_a_sentence_and_1(path: str, runner: CliRunner) -> None:
    if path == "import":
        with Path("shop.tar.gz").open("wb") as file:
            write(Tree("shop", True, {"": {}}), file)
    done = runner.invoke(cli, arguments(EXAMPLES[path][-1]))
    assert isinstance(done.exception, SystemExit), repr(done.exception)
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith(f"Error: {NOWHERE} does not answer: ")
    assert "Traceback" not in done.stderr
    # An option comes before the environment, and what is no URL is bad usage
    words = [*arguments(EXAMPLES[path][-1]), "--server"]
    assert (
        "http://127.0.0.1:7 does not" in runner.invoke(cli, [*words, "http://127.0.0.1:7"]).stderr
    )
    done = runner.invoke(cli, [*words, "nonsense"])
    assert (done.exit_code, "--server: 'nonsense' is not" in done.stderr) == (2, True)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_its_words(shell: str, runner: CliRunner) -> None:
    done = runner.invoke(cli, ["completion", shell])
    assert done.exit_code == 0, done.output
    assert f"_LOWCODE_FAAS_COMPLETE={shell}_complete" in done.stdout
    assert runner.invoke(cli, ["completion", "csh"]).exit_code == 2


def test_bash_completes_with_what_is_printed(runner: CliRunner) -> None:
    words = runner.invoke(cli, ["completion", "bash"]).stdout
    asked = "COMP_WORDS=(lowcode-faas vers); COMP_CWORD=1; _lowcode_faas_completion lowcode-faas"
    done = subprocess.run(
        ["bash", "-c", f"{words}\ncomplete -p lowcode-faas\n{asked}\necho ${{COMPREPLY[@]}}"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
    )
    assert done.stdout.splitlines()[-1] == "versions"
    assert "-F _lowcode_faas_completion lowcode-faas" in done.stdout


def test_help_imports_no_web_framework() -> None:
    code = (
        "import sys\nfrom lowcode_faas_core.cli import cli\n"
        "try:\n    cli(['--help'])\nexcept SystemExit:\n    pass\n"
        "print([m for m in ('flask', 'werkzeug', 'boto3', 'docker') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_colours_are_for_terminals_and_not_where_nobody_wants_them(
    runner: CliRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    @cli.command("coloured")
    def coloured() -> None:
        click.secho("green", fg="green")

    monkeypatch.setattr(type(cli), "get_command", lambda *_: coloured)
    assert "\033[" in runner.invoke(cli, ["coloured"], color=True).stdout
    assert runner.invoke(cli, ["coloured"], color=True, env={"NO_COLOR": "1"}).stdout == "green\n"
    assert runner.invoke(cli, ["coloured"]).stdout == "green\n"


def test_json_of_the_host_is_json(runner: CliRunner) -> None:
    done = runner.invoke(cli, ["token", "create", "ci", "--json"])
    made = json.loads(done.stdout)
    assert made["token"].startswith(f"lcf_{made['id']}_")
    listed = json.loads(runner.invoke(cli, ["token", "list", "--json"]).stdout)["tokens"]
    assert [each["id"] for each in listed] == [made["id"]]
