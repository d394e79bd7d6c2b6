"""What a shell offers while somebody types: names of collections and functions of the service.

Whoever presses a key waits: there is one question, a short wait, and nothing where no answer comes.
"""

from __future__ import annotations

import os
from typing import Any, Final

import click

from lowcode_faas_core.client.address import find
from lowcode_faas_core.client.connection import Connection, Refused, Unreachable
from lowcode_faas_core.client.paths import function_path
from lowcode_faas_core.errors import ConfigurationError

__all__ = ["SERVER", "TOKEN", "collection_names", "function_names"]

#: Where the options of that name are kept while a command runs.
SERVER: Final = "lowcode_faas.server"
TOKEN: Final = "lowcode_faas.token"  # noqa: S105  # the name of an option
#: Longest wait for the service, in seconds.
PATIENCE_S: Final = 1.0
#: Names asked for: more than anybody reads.
MOST: Final = 1000


def function_names(ctx: click.Context, _param: click.Parameter | None, begun: str) -> list[str]:
    """Return functions of the collection named so far."""
    given = ctx.params.get("collection") or ctx.params.get("collection_path") or ""
    return _begun((each["name"] for each in _listed(ctx, function_path(given))), begun)


def collection_names(ctx: click.Context, _param: click.Parameter | None, begun: str) -> list[str]:
    """Return paths of collections."""
    return _begun((each["path"] for each in _listed(ctx, "/collections")), begun)


def _begun(names: Any, begun: str) -> list[str]:
    return [name for name in names if name.startswith(begun)]


def _listed(ctx: click.Context, path: str) -> list[dict[str, Any]]:
    try:
        address = find(os.environ, ctx.meta.get(SERVER) or "", ctx.meta.get(TOKEN) or "")
        with Connection(address, PATIENCE_S) as api:
            items: list[dict[str, Any]] = api.request("GET", path, query={"limit": MOST}).document[
                "items"
            ]
            return items
    except (ConfigurationError, Refused, Unreachable, KeyError, TypeError):
        return []
