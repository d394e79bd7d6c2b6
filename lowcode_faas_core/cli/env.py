"""``lowcode-faas env``: the env of a function or a collection, and where a run's comes from."""

from __future__ import annotations

from typing import Any

import click

from lowcode_faas_core.cli.calling import as_json, calling, collection, named, show_json
from lowcode_faas_core.cli.columns import on_terminal, printable, show_rows
from lowcode_faas_core.cli.completing import function_names
from lowcode_faas_core.cli.invoke import pairs
from lowcode_faas_core.client.connection import Connection
from lowcode_faas_core.client.paths import collection_path, function_path

__all__ = ["env"]

_function = click.option(
    "-f",
    "--function",
    "name",
    help="Of this function; of the collection without it.",
    shell_complete=function_names,
)


@click.group()
def env() -> None:
    """Read and change env; without -f that of the collection (-c), or of the root."""


def _path(collection: str, name: str | None) -> str:
    if name is not None:
        return function_path(collection, name, "env")
    return collection_path(collection, "env")


@env.command()
@_function
@collection
@as_json
@calling
def get(api: Connection, name: str | None, collection: str, as_json: bool) -> None:
    """Print it as KEY=VALUE."""
    found: dict[str, str] = api.request("GET", _path(collection, name)).document["env"]
    if as_json:
        show_json(found)
        return
    for key, value in sorted(found.items()):
        # For a program it is the value itself; a line of somebody else's choice is none of the env's.
        click.echo(f"{key}={printable(value) if on_terminal() else value}")


@env.command("set")
@click.argument("values", nargs=-1, required=True, metavar="KEY=VALUE…")
@_function
@collection
@calling
def set_values(api: Connection, values: tuple[str, ...], name: str | None, collection: str) -> None:
    """Set some, and leave the others."""
    given = pairs(values)
    path = _path(collection, name)
    kept = api.request("GET", path).document["env"]
    api.request("PUT", path, {"env": {**kept, **given}})


@env.command()
@click.argument("keys", nargs=-1, required=True, metavar="KEY…")
@_function
@collection
@calling
def unset(api: Connection, keys: tuple[str, ...], name: str | None, collection: str) -> None:
    """Remove some."""
    path = _path(collection, name)
    kept = api.request("GET", path).document["env"]
    absent = [key for key in keys if key not in kept]
    if absent:
        raise click.ClickException(f"not set here: {', '.join(absent)}")
    api.request("PUT", path, {"env": {key: kept[key] for key in kept if key not in keys}})


@env.command()
@named
@collection
@as_json
@calling
def explain(api: Connection, name: str, collection: str, as_json: bool) -> None:
    """Show what a run of function NAME gets, and which level each value comes from."""
    found: dict[str, Any] = api.request(
        "GET", function_path(collection, name, "env", "explain")
    ).document
    if as_json:
        show_json(found)
        return
    show_rows(_explained(found["env"]))


def _explained(entries: dict[str, Any]) -> list[tuple[object, ...]]:
    return [
        (
            key,
            each["value"],
            f"{each['level']} {each['path']}".rstrip(),
            f"hides {', '.join(_where(hidden) for hidden in each['hides'])}"
            if each["hides"]
            else "",
        )
        for key, each in sorted(entries.items())
    ]


def _where(level: dict[str, str]) -> str:
    return f"{level['level']} {level['path']}".rstrip()
