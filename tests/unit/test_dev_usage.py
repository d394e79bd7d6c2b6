"""``lowcode-faas dev``: bad usage is said before anything is started."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from lowcode_faas_core.cli import cli, dev


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("greet.mjs", "-d", "[]"), "must be a JSON object"),
        (("greet.mjs", "-d", "{"), "--data is not JSON"),
        (("greet.mjs", "-d", "@nowhere"), "nowhere cannot be read"),
        (("greet.mjs", "--env", "WORD"), "'WORD' is not KEY=VALUE"),
        (("greet.mjs", "--env", "NODE_OPTIONS=-h"), "NODE_OPTIONS"),
        (("greet.mjs", "--env-file", "nowhere"), "nowhere"),
        (("name with spaces.mjs",), "a function name must match"),
        (("greet.txt",), "a function's file ends in .js"),
        (("nowhere.mjs",), "nowhere.mjs"),
    ],
)
def test_bad_usage(
    arguments: tuple[str, ...], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("greet.mjs", "name with spaces.mjs", "greet.txt"):
        Path(name).write_text("export const handler = () => ({ok: true});")
    monkeypatch.setattr(dev, "Workbench", None)
    done = CliRunner().invoke(cli, ["dev", *arguments])
    assert (done.exit_code, done.stdout) == (2, "")
    assert said in done.stderr
