"""``lowcode-faas list, show, versions, rollback, pull, delete``: what is deployed."""

from __future__ import annotations

import sys

import click

from lowcode_faas_core.cli.calling import as_json, calling, collection, named, show_json
from lowcode_faas_core.cli.columns import printable, show_rows
from lowcode_faas_core.client.connection import Connection
from lowcode_faas_core.client.paths import function_path

__all__ = ["delete", "list_functions", "pull", "rollback", "show", "versions"]


@click.command("list")
@collection
@as_json
@calling
def list_functions(api: Connection, collection: str, as_json: bool) -> None:
    """List the functions of one collection."""
    items = list(api.pages(function_path(collection)))
    if as_json:
        show_json(items)
        return
    show_rows(
        (each["name"], f"v{each['current']['version']}", each["language"], each["updated_at"])
        for each in items
    )
    if not items:
        click.echo("no functions here", err=True)


@click.command()
@named
@collection
@click.option("--source", is_flag=True, help="Print the deployed source instead.")
@click.option("--version", type=click.IntRange(1), help="With --source: of this version.")
@as_json
@calling
def show(
    api: Connection, name: str, collection: str, source: bool, version: int | None, as_json: bool
) -> None:
    """Show one function."""
    if source:
        path = function_path(collection, name, "source")
        click.echo(api.text(path, {"version": version}), nl=False)
        return
    if version is not None:
        raise click.UsageError("--version goes with --source; `versions` lists all of them")
    found = api.request("GET", function_path(collection, name)).document
    if as_json:
        show_json(found)
        return
    current = found["current"]
    limits = {key: value for key, value in current["limits"].items() if value is not None}
    show_rows(
        [
            ("name", found["name"]),
            ("collection", found["collection_path"] or "(root)"),
            ("language", found["language"]),
            ("version", current["version"]),
            ("deployment", current["deployment_id"]),
            ("sha256", current["sha256"]),
            ("reuse", current["reuse"]),
            ("limits", ", ".join(f"{key}={value}" for key, value in limits.items()) or None),
            ("env", ", ".join(found["env_keys"]) or None),
            ("deployed", current["created_at"]),
        ]
    )


@click.command()
@named
@collection
@as_json
@calling
def versions(api: Connection, name: str, collection: str, as_json: bool) -> None:
    """List the versions of a function that are kept, newest first."""
    items = list(api.pages(function_path(collection, name, "versions")))
    if as_json:
        show_json(items)
        return
    show_rows(
        (
            f"v{each['version']}",
            "current" if each["current"] else "",
            each["created_at"],
            each["sha256"][:12],
            f"as v{each['restored_from']}" if each["restored_from"] else "",
        )
        for each in items
    )


@click.command()
@named
@click.argument("version", type=click.IntRange(1), required=False)
@collection
@as_json
@calling
def rollback(
    api: Connection, name: str, version: int | None, collection: str, as_json: bool
) -> None:
    """Deploy an earlier version anew: VERSION, or the one before the current."""
    if version is None:
        kept = api.request("GET", function_path(collection, name, "versions"), query={"limit": 2})
        earlier = [each["version"] for each in kept.document["items"] if not each["current"]]
        if not earlier:
            raise click.ClickException(f"{name} has no earlier version that is kept")
        version = earlier[0]
    path = function_path(collection, name, "rollback")
    made = api.request("POST", path, {"version": version}).document
    if as_json:
        show_json(made)
        return
    click.echo(f"{name}  version {made['version']}  as version {made['restored_from']}")


@click.command()
@named
@collection
@click.option("--url", help="Another place than where it was deployed from.")
@click.option("--sha256", help="Refuse any other bytes.")
@as_json
@calling
def pull(
    api: Connection,
    name: str,
    collection: str,
    url: str | None,
    sha256: str | None,
    as_json: bool,
) -> None:
    """Have a function's source fetched again, and deployed.

    It stays where it did not change. `lowcode-faas show NAME --source` is the other direction: what
    is deployed, to your terminal.
    """
    given = {"source_url": url, "sha256": sha256}
    body = {key: value for key, value in given.items() if value is not None}
    answer = api.request("POST", function_path(collection, name, "pull"), body)
    made = answer.document
    if as_json:
        show_json(made)
        return
    news = "deployed" if answer.status == 201 else "unchanged"
    where = printable(url or made["source_url"])
    click.echo(f"{name}  version {made['version']}  {news}  from {where}")


@click.command()
@named
@collection
@click.option("--yes", is_flag=True, help="Do not ask.")
@calling
def delete(api: Connection, name: str, collection: str, yes: bool) -> None:
    """Remove a function, its env and all its versions.

    It asks first. Where nobody can be asked, because standard input is no terminal, it refuses
    without --yes.
    """
    where = f"{collection}/{name}" if collection else name
    if not yes:
        if not sys.stdin.isatty():
            raise click.UsageError("nobody can be asked here: give --yes")
        click.confirm(f"Delete {where} with all its versions?", abort=True, err=True)
    api.request("DELETE", function_path(collection, name))
    click.echo(f"deleted {where}", err=True)
