"""What commands that talk to the public API share: options, the connection, and how they end."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any, Concatenate, Final, ParamSpec

import click

from lowcode_faas_core.cli.columns import json_text, printable_lines
from lowcode_faas_core.cli.completing import SERVER, TOKEN, collection_names, function_names
from lowcode_faas_core.cli.starting import refusing
from lowcode_faas_core.client.address import find
from lowcode_faas_core.client.connection import Connection, Refused, Unreachable

__all__ = ["INTERRUPTED", "as_json", "calling", "collection", "named", "show_json"]

P = ParamSpec("P")

#: What a shell makes of SIGINT.
INTERRUPTED: Final = 130
HOW_TO_SHOW_ONE: Final = (
    "name one in LOWCODE_FAAS_TOKEN or by --token; on the service's host "
    "lowcode-faas token create makes one"
)

as_json = click.option("--json", "as_json", is_flag=True, help="Print what the API answered.")
collection = click.option(
    "-c",
    "--collection",
    default="",
    metavar="PATH",
    help="Its collection; the root without it.",
    shell_complete=collection_names,
)
named = click.argument("name", shell_complete=function_names)


def _keep(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    ctx.meta[f"lowcode_faas.{param.name}"] = value


_server = click.option(
    "--server",
    metavar="URL",
    callback=_keep,
    expose_value=False,
    help="The service; else LOWCODE_FAAS_URL, else url of the configuration file.",
)
_token = click.option(
    "--token",
    metavar="TOKEN",
    callback=_keep,
    expose_value=False,
    help="What it is shown; others here see it, LOWCODE_FAAS_TOKEN is not seen.",
)


def calling(command: Callable[Concatenate[Connection, P], None]) -> Callable[P, None]:
    """Give ``command`` a connection; a refusal is its words on stderr and exit code 1."""

    @_server
    @_token
    @functools.wraps(command)
    @refusing
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> None:
        meta = click.get_current_context().meta
        address = find(os.environ, meta.get(SERVER) or "", meta.get(TOKEN) or "")
        with Connection(address) as api:
            try:
                command(api, *args, **kwargs)
            except (Refused, Unreachable) as error:
                said = printable_lines(error)
                if isinstance(error, Refused) and error.status == 401 and not address.token:
                    said += f"\n{HOW_TO_SHOW_ONE}"
                raise click.ClickException(said) from error
            except KeyboardInterrupt:
                raise SystemExit(INTERRUPTED) from None

    return wrapped


def show_json(document: Any) -> None:
    """Print a document for programs, and for people with a program between."""
    click.echo(json_text(document, indent=2))
