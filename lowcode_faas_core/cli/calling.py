"""What commands that talk to the public API share: options, the connection, and how they end."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable
from typing import Any, Concatenate, Final, ParamSpec

import click

from lowcode_faas_core.cli.starting import refusing
from lowcode_faas_core.client.address import find
from lowcode_faas_core.client.connection import Connection, Refused, Unreachable

__all__ = ["as_json", "calling", "collection", "show_json"]

P = ParamSpec("P")

#: What a shell makes of SIGINT.
INTERRUPTED: Final = 130

as_json = click.option("--json", "as_json", is_flag=True, help="Print what the API answered.")
collection = click.option(
    "-c", "--collection", default="", metavar="PATH", help="Its collection; the root without it."
)


def calling(command: Callable[Concatenate[Connection, P], None]) -> Callable[P, None]:
    """Give ``command`` a connection; a refusal is its words on stderr and exit code 1."""

    @functools.wraps(command)
    @refusing
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> None:
        with Connection(find(os.environ)) as api:
            try:
                command(api, *args, **kwargs)
            except (Refused, Unreachable) as error:
                raise click.ClickException(str(error)) from error
            except KeyboardInterrupt:
                raise SystemExit(INTERRUPTED) from None

    return wrapped


def show_json(document: Any) -> None:
    """Print a document for programs, and for people with a program between."""
    click.echo(json.dumps(document, indent=2, ensure_ascii=False))
