"""``lowcode-faas logs query``: the query that finds what functions printed, in five languages."""

from __future__ import annotations

import click

from lowcode_faas_core.cli.calling import as_json, calling, show_json
from lowcode_faas_core.client.connection import Connection

__all__ = ["logs"]


@click.group()
def logs() -> None:
    """Find what functions printed."""


@logs.command()
@click.option("--run-id")
@click.option("--execution-id")
@click.option("--function")
@click.option("-c", "--collection", "collection_path", metavar="PATH")
@click.option("--deployment-id")
@click.option("--since", help="RFC 3339.")
@click.option("--until", help="RFC 3339.")
@as_json
@calling
def query(api: Connection, /, as_json: bool, **filters: str | None) -> None:
    """Print one filter as a query of each language the service knows."""
    found = api.request("GET", "/function-logs/query", query=filters).document
    if as_json:
        show_json(found)
        return
    for name, text in found.items():
        if text is not None:
            click.echo(f"{name}:\n  {text}")
