"""Files of env, as people keep them: a JSON object, or the lines a shell would take."""

from __future__ import annotations

import json
import re
from pathlib import Path

import click

from lowcode_faas_core.cli.sources import read_text
from lowcode_faas_core.errors import InvalidValue
from lowcode_faas_core.names import check_env

__all__ = ["read_env"]

#: What a shell may have before a name; a variable that is called export has none after it.
_export = re.compile(r"\s*export\s+(?!=)").match


def read_env(path: Path) -> dict[str, str]:
    """Return the env in a file: a JSON object of strings, or lines ``KEY=VALUE`` and comments.

    A line may begin with ``export``.

    :raises UsageError: it is neither, or no env; names the file, and the line where it is known.
    """
    content = read_text(path)
    if content.lstrip().startswith("{"):
        return _of_json(path, content)
    env = {}
    for number, line in enumerate(content.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        exported = _export(line)
        key, equals, value = line[exported.end() if exported else 0 :].partition("=")
        where = f"{path}, line {number}"
        if not equals:
            raise click.UsageError(f"{where}: not KEY=VALUE")
        env[key.strip()] = value
        _check(where, key.strip(), value)
    return env


def _of_json(path: Path, content: str) -> dict[str, str]:
    try:
        found = json.loads(content)
    except ValueError as error:
        raise click.UsageError(f"{path}: not JSON: {error}") from error
    for key, value in found.items():
        written = re.search(re.escape(json.dumps(key, ensure_ascii=False)) + r"\s*:", content)
        # A key may be written in escapes, and then its line is not looked for any further.
        line = f", line {content.count(chr(10), 0, written.start()) + 1}" if written else ""
        if not isinstance(value, str):
            raise click.UsageError(f"{path}{line}: {key} must be a string")
        _check(f"{path}{line}", key, value)
    return dict(found)


def _check(where: str, key: str, value: str) -> None:
    try:
        check_env({key: value})
    except InvalidValue as error:
        raise click.UsageError(f"{where}: {error.detail}") from error
