"""``lowcode-faas logs``: what a run printed, while it runs too, and queries that find it elsewhere."""

from __future__ import annotations

import json
from typing import Any

import click

from lowcode_faas_core.cli.calling import as_json, calling, show_json
from lowcode_faas_core.cli.columns import printable
from lowcode_faas_core.client.connection import Connection, segment
from lowcode_faas_core.client.events import events

__all__ = ["logs"]


@click.group()
def logs() -> None:
    """Find what functions printed."""


@logs.command()
@click.argument("execution_id")
@click.option("-f", "--follow", is_flag=True, help="Go on until it ends.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
@calling
def show(api: Connection, execution_id: str, follow: bool, as_json: bool) -> None:
    """Print the lines of one execution."""
    path = f"/executions/{segment(execution_id)}/logs"
    if not follow:
        for line in api.pages(path):
            _print(line, as_json)
        return
    for name, data in events(api.open("GET", path, None, {"follow": 1}, stream=True)):
        if name == "end":
            click.echo(json.loads(data)["status"], err=True)
            return
        _print(json.loads(data), as_json)


def _print(line: dict[str, Any], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(line, ensure_ascii=False))
    else:
        click.echo(f"{line['ts']}  {line['level']:5}  {printable(line['message'])}")


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
