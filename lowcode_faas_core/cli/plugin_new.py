"""``lowcode-faas plugin new``: a package of one's own that works and holds its contract at once."""

from __future__ import annotations

import json
import re
import shutil
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Final

import click

from lowcode_faas_core.catalogue import EXTRAS, fold

__all__ = ["plugin"]

#: The name that stands for the new one in the templates, also as ``PLACEHOLDER``.
PLACEHOLDER: Final = "placeholder"
ROLES: Final = ("storage", "log-sink", "runner", "source")
#: A longer name would make lines of the new package longer than its own linter allows.
MAX_NAME: Final = 24
_legal = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*").fullmatch
_PREFIX: Final = "lowcode-faas-"


@click.group()
def plugin() -> None:
    """Write a plugin of one's own."""


def _checked(_context: click.Context, _parameter: click.Parameter, name: str) -> str:
    if name.startswith(_PREFIX):
        raise click.BadParameter(f"leave {_PREFIX} out: it is put in front of every name.")
    if not _legal(name) or len(name) > MAX_NAME:
        raise click.BadParameter(
            f"{name!r} must be lower-case words of letters and digits joined by -, "
            f"{MAX_NAME} characters at most."
        )
    if name in {fold(each) for each in EXTRAS} or name in ("none", PLACEHOLDER):
        raise click.BadParameter(f"{name!r} is taken; choose another one.")
    return name


@plugin.command()
@click.argument("name", callback=_checked)
@click.option("--role", type=click.Choice(ROLES), required=True, help="What the plugin is for.")
@click.option(
    "--into",
    type=click.Path(exists=True, file_okay=False, writable=True, path_type=Path),
    default=".",
    show_default=True,
    help="Where the new folder goes.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def new(name: str, role: str, into: Path, as_json: bool) -> None:
    """Make the folder lowcode-faas-NAME: a package that works, and its tests.

    It is to be changed: what it does is the simplest thing that holds the contract of its role.
    """
    folder = into / f"{_PREFIX}{name}"
    try:
        folder.mkdir()
    except OSError as error:
        reason = "is there already" if isinstance(error, FileExistsError) else error.strerror
        raise click.ClickException(f"{folder} {reason}; nothing was written") from error
    template = resources.files("lowcode_faas_core") / "plugin_templates" / role
    try:
        files = _write(template, folder, name)
    except BaseException:
        shutil.rmtree(folder)
        raise
    if as_json:
        written = sorted(str(path.relative_to(folder)) for path in files)
        click.echo(json.dumps({"folder": str(folder), "files": written}, indent=2))
        return
    click.echo(folder)
    click.echo(f"Next: pip install -e '{folder}[test]' && pytest {folder}", err=True)


def _write(template: Traversable, folder: Path, name: str) -> list[Path]:
    written: list[Path] = []
    for each in template.iterdir():
        if each.name.startswith((".", "__pycache__")):
            continue  # installers compile what they find, linters leave caches
        path = folder / _renamed(each.name, name)
        if each.is_dir():
            path.mkdir()
            written += _write(each, path, name)
        else:
            path.write_text(_renamed(each.read_text(encoding="utf-8"), name), encoding="utf-8")
            written.append(path)
    return written


def _renamed(text: str, name: str) -> str:
    module = name.replace("-", "_")
    return (
        text.replace(f"lowcode_faas_{PLACEHOLDER}", f"lowcode_faas_{module}")
        .replace(PLACEHOLDER.upper(), module.upper())
        .replace(PLACEHOLDER, name)
    )
