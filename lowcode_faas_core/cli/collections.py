"""``lowcode-faas collections``: the tree that functions live in."""

from __future__ import annotations

from pathlib import Path

import click

from lowcode_faas_core.cli.calling import as_json, calling, show_json
from lowcode_faas_core.cli.columns import show_rows
from lowcode_faas_core.cli.completing import collection_names
from lowcode_faas_core.cli.deploy import read_env
from lowcode_faas_core.client.connection import Connection
from lowcode_faas_core.client.paths import collection_path, function_path

__all__ = ["collections"]


_prefix = click.option(
    "--prefix",
    default="",
    metavar="PATH",
    help="This one and all below it.",
    shell_complete=collection_names,
)


@click.group()
def collections() -> None:
    """List, make and remove collections."""


@collections.command("list")
@_prefix
@as_json
@calling
def list_collections(api: Connection, prefix: str, as_json: bool) -> None:
    """List collections with the names in their env."""
    items = list(api.pages("/collections", {"prefix": prefix or None}))
    if as_json:
        show_json(items)
        return
    show_rows((each["path"], ", ".join(each["env_keys"])) for each in items)
    if not items:
        click.echo("no collections", err=True)


@collections.command()
@click.argument("path")
@click.option(
    "--env-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Its env: a JSON object, or lines KEY=VALUE.",
)
@as_json
@calling
def create(api: Connection, path: str, env_file: Path | None, as_json: bool) -> None:
    """Make a collection, and those above it."""
    body = {"path": path, **({"env": read_env(env_file)} if env_file else {})}
    made = api.request("POST", "/collections", body).document
    if as_json:
        show_json(made)
    else:
        click.echo(made["path"])


@collections.command()
@click.argument("path", shell_complete=collection_names)
@calling
def delete(api: Connection, path: str) -> None:
    """Remove an empty collection."""
    api.request("DELETE", collection_path(path))
    click.echo(f"deleted {path}", err=True)


@collections.command()
@_prefix
@as_json
@calling
def tree(api: Connection, prefix: str, as_json: bool) -> None:
    """Show collections and their functions as a tree."""
    paths = sorted(each["path"] for each in api.pages("/collections", {"prefix": prefix or None}))
    base = prefix.count("/") if prefix else 0
    document = []
    for path in paths if prefix else ["", *paths]:
        depth = path.count("/") - base
        if path and not as_json:
            click.echo(f"{'  ' * depth}{path.rpartition('/')[2]}/")
        functions = []
        for each in api.pages(function_path(path)):
            version = each["current"]["version"]
            functions.append({"name": each["name"], "version": version})
            if not as_json:
                click.echo(f"{'  ' * (depth + 1 if path else 0)}{each['name']}  v{version}")
        document.append({"path": path, "functions": functions})
    if as_json:
        show_json(document)
