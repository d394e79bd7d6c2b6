"""``lowcode-faas executions``: what ran, how it ended, and running it again."""

from __future__ import annotations

import itertools

import click

from lowcode_faas_core.cli.calling import as_json, calling, show_json
from lowcode_faas_core.cli.columns import printable, show_rows
from lowcode_faas_core.cli.completing import collection_names, function_names
from lowcode_faas_core.client.connection import Connection, segment

__all__ = ["executions"]


@click.group()
def executions() -> None:
    """List, show and repeat what ran."""


@executions.command("list")
@click.option("-f", "--function", shell_complete=function_names)
@click.option(
    "-c",
    "--collection",
    "collection_path",
    metavar="PATH",
    help="And all below it.",
    shell_complete=collection_names,
)
@click.option("--status", help="running, succeeded, failed, timeout, …")
@click.option("--start", help="cold, prewarmed, warm, …")
@click.option("--run-id")
@click.option("--deployment-id")
@click.option("--since", help="RFC 3339.")
@click.option("--until", help="RFC 3339.")
@click.option("-n", "--number", type=click.IntRange(1), default=20, show_default=True)
@as_json
@calling
def list_executions(api: Connection, /, number: int, as_json: bool, **filters: str | None) -> None:
    """List the newest."""
    items = list(itertools.islice(api.pages("/executions", filters), number))
    if as_json:
        show_json(items)
        return
    show_rows(
        (
            each["execution_id"],
            each["started_at"],
            f"{each['collection_path']}/{each['function_name']}".lstrip("/"),
            f"v{each['deployment_version']}",
            each["status"],
            f"{each['timings_ms']['total']:.1f} ms" if each["timings_ms"] else None,
        )
        for each in items
    )


@executions.command()
@click.argument("execution_id")
@click.option("--json", "as_json", is_flag=True, help="It is JSON either way.")
@calling
def show(api: Connection, execution_id: str, as_json: bool) -> None:
    """Print all that is known of one, as JSON."""
    del as_json
    show_json(api.request("GET", f"/executions/{segment(execution_id)}").document)


@executions.command()
@click.argument("execution_id")
@click.option("--version", type=click.IntRange(1), help="Another version than it ran on.")
@as_json
@calling
def replay(api: Connection, execution_id: str, version: int | None, as_json: bool) -> None:
    """Run it again with its input; exit code 1 when that does not succeed."""
    path = f"/executions/{segment(execution_id)}/replay"
    both = api.request("POST", path, query={"version": version}).document
    if as_json:
        show_json(both)
    else:
        for name in ("original", "replay"):
            each = both[name]
            why = f": {printable(each['error']['message'])}" if each["error"] else ""
            where = f"version {each['deployment_version']}, {each['execution_id']}"
            click.echo(f"{name:8}  {each['status']}{why}  ({where})")
    if both["replay"]["status"] != "succeeded":
        raise SystemExit(1)
