"""``lowcode-faas token``: making, listing and revoking API tokens, in the file on this host."""

from __future__ import annotations

import json
import os
import time
from datetime import timedelta
from typing import Any, Final

import click

from lowcode_faas_core.callers import Verb
from lowcode_faas_core.cli.starting import refusing
from lowcode_faas_core.configuration import AccessSettings, ServerSettings
from lowcode_faas_core.errors import ConfigurationError, InvalidValue
from lowcode_faas_core.settings import read
from lowcode_faas_core.tokens import PREFIX_OF_TOKENS, Token, TokenFile, split

__all__ = ["token"]

DEFAULT_VERBS = "read,deploy,invoke"
MAKE_ONE: Final = "lowcode-faas token create admin --verbs admin"


def _verbs(_context: click.Context, _option: click.Parameter, given: tuple[str, ...]) -> list[Verb]:
    words = [word.strip() for text in given for word in text.split(",") if word.strip()]
    try:
        found = [Verb(word) for word in words]
    except ValueError as error:
        raise click.BadParameter(f"{error}; verbs are {', '.join(Verb)}") from error
    if not found:
        raise click.BadParameter(f"name at least one of {', '.join(Verb)}")
    return found


def _file() -> TokenFile:
    return TokenFile(read(dict(os.environ), AccessSettings).tokens)


def _alive(file: TokenFile) -> list[Token]:
    now = time.time()
    return [each for each in file.read() or () if each.expires is None or each.expires > now]


def _asks() -> bool:
    """Return whether a service of this environment asks who calls, once there is a token."""
    try:
        return not read(dict(os.environ), ServerSettings).allow_anonymous
    except ConfigurationError:
        return True  # a service says at its start what is wrong


@click.group()
def token() -> None:
    """Make, list and revoke the API's tokens; a running service follows within five seconds."""


@token.command()
@click.argument("name")
@click.option(
    "--verbs",
    multiple=True,
    default=(DEFAULT_VERBS,),
    show_default=DEFAULT_VERBS,
    callback=_verbs,
    metavar="VERB,…",
    help="What it allows: read, deploy, invoke, admin (everything).",
)
@click.option(
    "--collection",
    default="",
    metavar="PATH",
    help="Where: this collection and all below it. Without it: everywhere.",
)
@click.option(
    "--days", type=click.FloatRange(0, min_open=True, max=36500), help="How long it lasts."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@refusing
def create(
    name: str, verbs: list[Verb], collection: str, days: float | None, as_json: bool
) -> None:
    """Make a token and print it, alone, on standard output; only its hash is kept."""
    lifetime = None if days is None else timedelta(days=days)
    file = _file()
    first = file.read() is None
    try:
        made = file.create(name, verbs, collection, lifetime)
    except InvalidValue as error:
        raise click.UsageError(error.detail) from error
    click.echo("keep it now, it is shown only this once:", err=True)
    click.echo(json.dumps({"token": made, "id": split(made)[0]}) if as_json else made)
    if not _asks():
        return
    if first:
        click.echo(
            "it is the first: from now on every caller needs a token, as LOWCODE_FAAS_TOKEN or by "
            "--token",
            err=True,
        )
    if not any(Verb.ADMIN in each.verbs and not each.collection for each in _alive(file)):
        click.echo(f"none of the tokens has admin everywhere: make one with {MAKE_ONE}", err=True)


@token.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@refusing
def list_tokens(as_json: bool) -> None:
    """List the tokens there are, without their secrets."""
    rows: list[dict[str, Any]] = [
        {
            "id": each.id,
            "name": each.name,
            "verbs": list(each.verbs),
            "collection": each.collection,
            "created_at": each.created_at,
            "expires_at": each.expires_at,
        }
        for each in _file().read() or ()
    ]
    if as_json:
        click.echo(json.dumps({"tokens": rows}, indent=2))
        return
    for row in rows:
        until = f"  until {row['expires_at']}" if row["expires_at"] else ""
        click.echo(
            f"{row['id']}  {row['name']:20} {','.join(row['verbs']):20} "
            f"{row['collection'] or '(everywhere)'}  since {row['created_at']}{until}"
        )


@token.command()
@click.argument("identity", metavar="ID")
@refusing
def revoke(identity: str) -> None:
    """End a token: nobody is let in by it after five seconds at most."""
    if identity.startswith(PREFIX_OF_TOKENS):
        identity, _ = split(identity)  # somebody gave the token itself
    file = _file()
    found = file.revoke(identity)
    if found is None:
        raise click.ClickException("there is no such token; lowcode-faas token list shows them")
    click.echo(f"revoked {found.id} ({found.name})", err=True)
    if _asks() and not _alive(file):
        click.echo(
            "it was the last: a running service still asks for a token, and lets nobody in by one "
            f"until you make another with\n{MAKE_ONE}; on a loopback address it is open again once "
            f"you remove\n{file.path} and start it anew",
            err=True,
        )
