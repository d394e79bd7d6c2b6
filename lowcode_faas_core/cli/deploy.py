"""``lowcode-faas deploy``: a file is a function, a folder is a collection."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click

from lowcode_faas_core.cli.calling import as_json, calling, collection, show_json
from lowcode_faas_core.cli.progress import progress
from lowcode_faas_core.client.connection import Answer, Connection, Refused
from lowcode_faas_core.client.paths import collection_path
from lowcode_faas_core.errors import InvalidValue
from lowcode_faas_core.names import check_collection_path, check_function_name

__all__ = ["deploy"]

LANGUAGES: Final = {
    ".js": "javascript",
    ".mjs": "javascript",
    ".ts": "typescript",
    ".mts": "typescript",
}
#: Beside ``price.mjs`` this file is its env; beside a folder's sources the other is the folder's.
FUNCTION_ENV: Final = ".env.json"
COLLECTION_ENV: Final = "collection.env.json"


@dataclass(frozen=True)
class _Source:
    path: Path
    collection: str
    name: str


@click.command()
@click.argument("path", type=click.Path(exists=True, path_type=Path), metavar="FILE|FOLDER")
@collection
@click.option("--name", help="Its name; the file's without it.")
@click.option(
    "--env-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Its env: a JSON object, or lines KEY=VALUE.",
)
@click.option("--reuse", help="warm or fresh; the operator's default without it.")
@as_json
@calling
def deploy(
    api: Connection,
    path: Path,
    collection: str,
    name: str | None,
    env_file: Path | None,
    reuse: str | None,
    as_json: bool,
) -> None:
    """Deploy a file, or a folder: its sources, and those below it in collections of their names."""
    if path.is_dir() and (name is not None or env_file is not None):
        raise click.UsageError("--name and --env-file go with a file, not with a folder")
    sources = list(_below(path, collection)) if path.is_dir() else [_file(path, collection, name)]
    if not sources:
        raise click.UsageError(f"{path} holds no {', '.join(LANGUAGES)}")
    for source in sources:
        _check(source)
    if path.is_dir():
        for folder, target in _folders(path, collection):
            _make_collection(api, folder, target)
    deployed = []
    # Lines on a terminal say how far it is, and a bar would stand between them.
    told = path.is_file() or (sys.stdout.isatty() and not as_json)
    with progress("deploying", len(sources), quiet=told) as done:
        for source in sources:
            answer = _deploy(api, source, env_file, reuse)
            deployed.append(answer.document)
            done(source.name)
            if not as_json:
                _show(source, answer)
    if as_json:
        show_json(deployed if path.is_dir() else deployed[0])


def _deploy(api: Connection, source: _Source, env_file: Path | None, reuse: str | None) -> Answer:
    body: dict[str, Any] = {
        "name": source.name,
        "collection_path": source.collection,
        "language": LANGUAGES[source.path.suffix],
        "source_code": _text(source.path),
    }
    env = env_file or source.path.with_name(source.path.stem + FUNCTION_ENV)
    if env_file is not None or env.is_file():
        body["env"] = read_env(env)
    if reuse is not None:
        body["reuse"] = reuse
    try:
        return api.request("POST", "/functions", body)
    except Refused as error:
        raise click.ClickException(f"{source.path}: {error}") from error


def _show(source: _Source, answer: Answer) -> None:
    made = answer.document
    news = "deployed" if answer.status == 201 else "unchanged"
    unchecked = "" if made["checked"] else "  (its syntax was not checked)"
    where = f"{source.collection}/" if source.collection else ""
    click.echo(f"{where}{source.name}  version {made['version']}  {news}{unchecked}")


def read_env(path: Path) -> dict[str, str]:
    """Return the env in a file: a JSON object of strings, or lines ``KEY=VALUE`` and comments."""
    content = _text(path)
    if content.lstrip().startswith("{"):
        try:
            found = json.loads(content)
        except ValueError as error:
            raise click.UsageError(f"{path}: not JSON: {error}") from error
        if not all(isinstance(value, str) for value in found.values()):
            raise click.UsageError(f"{path}: every value must be a string")
        return dict(found)
    env = {}
    for number, line in enumerate(content.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        key, equals, value = line.partition("=")
        if not equals:
            raise click.UsageError(f"{path}, line {number}: not KEY=VALUE")
        env[key.strip()] = value
    return env


def _file(path: Path, collection: str, name: str | None) -> _Source:
    if path.suffix not in LANGUAGES:
        raise click.UsageError(f"{path}: a function's file ends in {', '.join(LANGUAGES)}")
    return _Source(path, collection, name or path.stem)


def _below(root: Path, collection: str) -> Iterator[_Source]:
    for folder, target in _folders(root, collection):
        for path in sorted(folder.iterdir()):
            if path.is_file() and path.suffix in LANGUAGES and not path.name.endswith(".d.ts"):
                yield _Source(path, target, path.stem)


def _folders(root: Path, collection: str) -> Iterator[tuple[Path, str]]:
    yield root, collection
    for path in sorted(root.iterdir()):
        if path.is_dir() and not path.name.startswith(".") and path.name != "node_modules":
            yield from _folders(path, f"{collection}/{path.name}".lstrip("/"))


def _check(source: _Source) -> None:
    """Refuse a bad name before anything is sent: half a folder deployed helps nobody."""
    try:
        check_collection_path(source.collection, "/collection_path")
        check_function_name(source.name)
    except InvalidValue as error:
        raise click.UsageError(f"{source.path}: {error.detail}") from error


def _make_collection(api: Connection, folder: Path, target: str) -> None:
    """Make what is not there; its env is the file's, where there is a file."""
    beside = folder / COLLECTION_ENV
    body = {"env": read_env(beside)} if beside.is_file() else {}
    try:
        if target:
            api.request("POST", "/collections", {"path": target, **body})
        there = not target
    except Refused as error:
        if error.status != 409:
            raise
        there = True
    if there and body:
        api.request("PUT", collection_path(target, "env"), body)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise click.UsageError(f"{path} cannot be read: {error}") from error
