"""``lowcode-faas logs``: what functions printed, or print, and queries that find it elsewhere."""

from __future__ import annotations

import contextlib
from typing import Any

import click
from click.shell_completion import CompletionItem

from lowcode_faas_core.cli.calling import as_json, calling, collection, named, show_json
from lowcode_faas_core.cli.columns import json_text
from lowcode_faas_core.cli.completing import collection_names, function_names
from lowcode_faas_core.cli.executions import ending_in, with_whole_id
from lowcode_faas_core.cli.invoke import indented
from lowcode_faas_core.client.connection import Connection, Refused, segment
from lowcode_faas_core.client.events import follow_one
from lowcode_faas_core.client.paths import function_path
from lowcode_faas_core.client.tail import Printed, Tail

__all__ = ["logs"]


_json_lines = click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")


class _OrFunction(click.Group):
    """Takes what is no command of its own for those of ``function``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = ["function", *args]
        return super().parse_args(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        names = function_names(ctx, None, incomplete)
        return [*super().shell_complete(ctx, incomplete), *map(CompletionItem, names)]


@click.group(cls=_OrFunction)
def logs() -> None:
    """Print what functions printed, or print: logs NAME, or logs EXECUTION_ID.

    That is short for `logs function NAME`, and `logs show EXECUTION_ID` where no function is
    called that. The end of an id does, as the service's console shows it.
    """


@logs.command()
@named
@collection
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes, until Ctrl-C.")
@click.option(
    "-n",
    "--number",
    type=click.IntRange(0),
    default=10,
    show_default=True,
    help="So many of the newest runs first.",
)
@_json_lines
@calling
def function(
    api: Connection, name: str, collection: str, follow: bool, number: int, as_json: bool
) -> None:
    """Print what the runs of a function printed."""
    tail = Tail(api, collection, name)
    for printed in tail.newest(number):
        _print_of(printed, as_json)
    if not tail.found:
        try:
            api.request("GET", function_path(collection, name))  # nobody waits for a name misspelt
        except Refused as error:
            if error.status != 404 or collection or (found := _execution(api, name)) is None:
                raise
            _show(api, found, follow, as_json)
            return
        click.echo("it has not run yet", err=True)
    if not follow:
        return
    for each in tail.follow():
        if isinstance(each, Printed):
            _print_of(each, as_json)
        else:
            click.echo(f"{each}; trying again", err=True)


def _print_of(printed: Printed, as_json: bool) -> None:
    """Print a line of one of many runs: with who printed it."""
    run, line = printed.run, printed.line
    if as_json:
        version = run["deployment_version"]
        _print({**line, "run_id": run["run_id"], "deployment_version": version}, as_json)
    else:
        _print(line, as_json, f"v{run['deployment_version']}  {run['execution_id']}  ")


@logs.command()
@click.argument("execution_id")
@click.option("-f", "--follow", is_flag=True, help="Go on until it ends.")
@_json_lines
@calling
def show(api: Connection, execution_id: str, follow: bool, as_json: bool) -> None:
    """Print the lines of one execution; the end of its id does, from 8 characters on."""
    with_whole_id(api, execution_id, lambda whole: _show(api, whole, follow, as_json))


def _execution(api: Connection, name: str) -> str | None:
    """Return the id of the execution that is called that, or else ends so."""
    with contextlib.suppress(Refused):
        api.request("GET", f"/executions/{segment(name)}")
        return name
    with contextlib.suppress(Refused):
        return ending_in(api, name)
    return None


def _show(api: Connection, execution_id: str, follow: bool, as_json: bool) -> None:
    path = f"/executions/{segment(execution_id)}/logs"
    if not follow:
        for line in api.pages(path):
            _print(line, as_json)
        return
    for line in follow_one(api, execution_id):
        if isinstance(line, str):
            click.echo(line, err=True)
        else:
            _print(line, as_json)


def _print(line: dict[str, Any], as_json: bool, of: str = "") -> None:
    if as_json:
        click.echo(json_text(line))
    else:
        click.echo(f"{line['ts']}  {of}{line['level']:5}  {indented(line['message'])}")


@logs.command()
@click.option("--run-id")
@click.option("--execution-id")
@click.option("--function", shell_complete=function_names)
@click.option(
    "-c", "--collection", "collection_path", metavar="PATH", shell_complete=collection_names
)
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
