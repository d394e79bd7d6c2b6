"""``lowcode-faas deploy``: a file is a function, a folder is a collection."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from lowcode_faas_core.cli.calling import as_json, calling, collection, show_json
from lowcode_faas_core.cli.env_file import read_env
from lowcode_faas_core.cli.excerpt import excerpt
from lowcode_faas_core.cli.limits import DEFAULT, Asked, limit_options
from lowcode_faas_core.cli.progress import progress
from lowcode_faas_core.cli.sources import (
    FUNCTION_ENV,
    LANGUAGES,
    Source,
    check_folder,
    check_source,
    folders,
    one_file,
    read_text,
)
from lowcode_faas_core.client.connection import Answer, Connection, Refused
from lowcode_faas_core.client.paths import collection_path
from lowcode_faas_core.errors import InvalidValue
from lowcode_faas_core.names import check_collection_path

__all__ = ["FUNCTION_ENV", "LANGUAGES", "deploy", "read_env"]


@click.command()
@click.argument("path", type=click.Path(exists=True, path_type=Path), metavar="FILE|FOLDER")
@collection
@click.option("--name", help="Its name; the file's without it.")
@click.option(
    "--env-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Its env: a JSON object, or lines KEY=VALUE.",
)
@limit_options
@click.option(
    "--reuse",
    type=click.Choice(["warm", "fresh", DEFAULT]),
    help="Whether its runs share a sandbox, or get a new one each.",
)
@click.option(
    "--defaults", is_flag=True, help="The operator's limits and reuse, but for those named."
)
@as_json
@calling
def deploy(
    api: Connection,
    /,
    path: Path,
    collection: str,
    name: str | None,
    env_file: Path | None,
    reuse: str | None,
    defaults: bool,
    as_json: bool,
    **limits: int | float | str | None,
) -> None:
    """Deploy a file, or a folder: its sources, and those below it in collections of their names.

    Folders that hold neither a source nor a collection.env.json, nor have one below them, are
    passed over.

    A function that is there keeps the limits and reuse of the current version, each that is not
    named here; `default` as a value puts one back to the operator's, --defaults all of them.
    """
    asked = Asked(limits, reuse, defaults)
    if path.is_dir() and (name is not None or env_file is not None):
        raise click.UsageError("--name and --env-file go with a file, not with a folder")
    if path.is_dir():
        asked.check_folder()
    _check_collection(collection)
    found = folders(path, collection) if path.is_dir() else []
    sources = [source for folder in found for source in folder.sources]
    if not path.is_dir():
        sources = [one_file(path, collection, name)]
    if not sources:
        raise click.UsageError(f"{path} holds no {', '.join(LANGUAGES)}")
    # All is read and checked before anything is sent: half a folder deployed helps nobody.
    for folder in found:
        check_folder(folder)
    for source in sources:
        check_source(source)
    envs = [(each.collection, read_env(each.env) if each.env else None) for each in found]
    bodies = [_body(source, env_file or source.env) for source in sources]
    for target, env in envs:
        _make_collection(api, target, env)
    deployed = []
    # Lines on a terminal say how far it is, and a bar would stand between them.
    told = path.is_file() or (sys.stdout.isatty() and not as_json)
    with progress("deploying", len(sources), quiet=told) as done:
        for source, body in zip(sources, bodies, strict=True):
            answer = _deploy(api, source, asked, body)
            deployed.append(answer.document)
            done(source.name)
            if not as_json:
                _show(source, answer)
    if as_json:
        show_json(deployed if path.is_dir() else deployed[0])


def _check_collection(path: str) -> None:
    try:
        check_collection_path(path)
    except InvalidValue as error:
        raise click.UsageError(f"-c {path!r}: {error.detail}") from error


def _body(source: Source, env: Path | None) -> dict[str, Any]:
    return {
        "name": source.name,
        "collection_path": source.collection,
        "language": LANGUAGES[source.path.suffix],
        "source_code": read_text(source.path),
        **({"env": read_env(env)} if env else {}),
    }


def _deploy(api: Connection, source: Source, asked: Asked, body: dict[str, Any]) -> Answer:
    try:
        return api.request("POST", "/functions", {**body, **asked.members(api, source)})
    except Refused as error:
        said = _in_words_of_the_command(error, source.collection)
        raise click.ClickException(
            "\n".join([f"{source.path}: {said}", *_place(error, body)])
        ) from error


def _in_words_of_the_command(error: Refused, collection: str) -> str:
    if error.problem.get("code") == "collection_not_found":
        command = f"lowcode-faas collections create {collection}"
        return f"the collection {collection!r} is not registered; `{command}` registers it"
    return str(error)


def _place(error: Refused, body: dict[str, Any]) -> list[str]:
    line, column = error.problem.get("line"), error.problem.get("column")
    return [] if line is None else excerpt(body["source_code"], line, column)


def _show(source: Source, answer: Answer) -> None:
    made = answer.document
    news = "deployed" if answer.status == 201 else "unchanged"
    unchecked = "" if made["checked"] else "  (its syntax was not checked)"
    where = f"{source.collection}/" if source.collection else ""
    click.echo(f"{where}{source.name}  version {made['version']}  {news}{unchecked}")


def _make_collection(api: Connection, target: str, env: dict[str, str] | None) -> None:
    """Make what is not there; its env is the file's, where there is a file."""
    body = {} if env is None else {"env": env}
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
