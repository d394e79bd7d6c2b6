"""``lowcode-faas invoke``: run a function, print what it returned, end as it ended."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final

import click

from lowcode_faas_core.cli.calling import as_json, calling, collection, named, show_json
from lowcode_faas_core.cli.columns import printable
from lowcode_faas_core.client.connection import Connection
from lowcode_faas_core.client.paths import function_path

__all__ = ["indented", "invoke", "pairs", "read_input", "show_result"]

#: What lines below the first of a message begin with.
INDENT: Final = "    "


@click.command()
@named
@collection
@click.option("-d", "--data", default="{}", help="Its input: JSON, @FILE, or - for standard input.")
@click.option("--env", "env", multiple=True, metavar="KEY=VALUE", help="For this run only.")
@click.option("--version", type=click.IntRange(1), help="Another version than the current.")
@click.option("--timeout-ms", type=click.IntRange(1), help="Its deadline.")
@as_json
@calling
def invoke(
    api: Connection,
    name: str,
    collection: str,
    data: str,
    env: tuple[str, ...],
    version: int | None,
    timeout_ms: int | None,
    as_json: bool,
) -> None:
    """Run a function and print its output; exit code 1 when it did not succeed."""
    body: dict[str, Any] = {"input": read_input(data)}
    if env:
        body["env"] = pairs(env)
    if timeout_ms is not None:
        body["timeout_ms"] = timeout_ms
    path = function_path(collection, name, "invoke")
    result = api.request("POST", path, body, {"version": version}).document
    show_result(result, as_json)
    if result["status"] != "succeeded":
        raise SystemExit(1)


def show_result(result: dict[str, Any], as_json: bool, label: str = "") -> None:
    """Print the output of a run, and on stderr, after the label, how it ended."""
    if as_json:
        show_json(result)
        return
    if result["output"] is not None:
        show_json(result["output"])
    error = result["error"]
    why, *more = (f": {error['message']}" if error else "").split("\n")
    total = result["timings_ms"]["total"]
    click.echo(
        f"{label}{result['status']}{printable(why)}  ({result['start']} start, {total:.1f} ms, version "
        f"{result['deployment_version']}, execution {result['execution_id']})",
        err=True,
    )
    stack = (error and error.get("stack")) or ""
    if error and error["message"] not in stack:
        click.echo("".join(f"{line}\n" for line in _below(more)), err=True, nl=False)
    if stack:
        click.echo("\n".join(map(printable, stack.split("\n"))), err=True)


def indented(message: str) -> str:
    """Return a message for a terminal: its lines below the first cannot pass for another's."""
    first, *more = message.split("\n")
    return "\n".join([printable(first), *_below(more)])


def _below(lines: list[str]) -> list[str]:
    return [f"{INDENT}{printable(line)}" if line else "" for line in lines]


def pairs(given: tuple[str, ...]) -> dict[str, str]:
    """Return ``KEY=VALUE`` words as a mapping."""
    found = {}
    for word in given:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise click.UsageError(f"{word!r} is not KEY=VALUE")
        found[key] = value
    return found


def read_input(data: str) -> Any:
    """Return the input that an option names: JSON, ``@FILE``, or ``-`` for standard input."""
    where = "--data"
    try:
        if data == "-":
            where, data = "standard input", sys.stdin.read()
        elif data.startswith("@"):
            where = data[1:]
            data = Path(where).read_text(encoding="utf-8")
        return json.loads(data)
    except OSError as error:
        raise click.UsageError(f"{where} cannot be read: {error}") from error
    except ValueError as error:
        raise click.UsageError(f"{where} is not JSON: {error}") from error
