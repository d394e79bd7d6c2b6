"""Limits and reuse of what is deployed: those named, and of the others what the function has."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import click

from lowcode_faas_core.cli.sources import Source
from lowcode_faas_core.client.connection import Connection, Refused
from lowcode_faas_core.client.paths import function_path

__all__ = ["DEFAULT", "Asked", "limit_options"]

#: In place of a value: none of the function's own.
DEFAULT: Final = "default"

C = TypeVar("C", bound=Callable[..., Any])

#: As the API names them.
_LIMITS: Final[dict[str, tuple[type[int] | type[float], str]]] = {
    "memory_mb": (int, "Its memory."),
    "cpus": (float, "Its share of the cores."),
    "pids": (int, "Its processes and threads."),
    "tmp_mb": (int, "Its room in /tmp."),
    "timeout_ms": (int, "Its longest run."),
}


def _number_or_default(ctx: click.Context, param: click.Parameter, given: str | None) -> object:
    """Read an option's value; what is too much is the operator's to say."""
    del ctx
    if given is None or given == DEFAULT:
        return given
    number, _ = _LIMITS[str(param.name)]
    try:
        found: float = number(given)
        legal = math.isfinite(found)
    except (ValueError, OverflowError):
        legal = False
    if not legal:
        what = "a whole number" if number is int else "a number"
        raise click.BadParameter(f"{given!r} is neither {what} nor {DEFAULT}")
    return found


def _option(limit: str) -> str:
    """Return the option that sets a limit."""
    return f"--{limit.replace('_', '-')}"


def limit_options(command: C) -> C:
    """Give a command an option for each limit, with the API's names as parameters."""
    for limit, (_, said) in reversed(_LIMITS.items()):
        command = click.option(
            _option(limit), callback=_number_or_default, metavar="NUMBER|default", help=said
        )(command)
    return command


@dataclass(frozen=True)
class Asked:
    """What the options named."""

    #: By the names of the API; ``None`` is not named.
    limits: dict[str, int | float | str | None]
    reuse: str | None
    #: Nothing is kept.
    defaults: bool

    def check_folder(self) -> None:
        """Raise ``UsageError`` for what goes with one function only."""
        for limit, value in self.limits.items():
            if value is not None:
                raise click.UsageError(
                    f"{_option(limit)} goes with a file, not with a folder: its functions differ"
                )

    def members(self, api: Connection, source: Source) -> dict[str, Any]:
        """Return the members of the request: the API takes what it is not sent for defaults.

        :raises Refused: what the function has cannot be read.
        """
        reuse, limits = self.reuse, {k: v for k, v in self.limits.items() if v is not None}
        if not self.defaults and (reuse is None or len(limits) < len(_LIMITS)):
            current = _current(api, source)
            reuse = reuse or current.get("reuse")
            limits = {**current.get("limits", {}), **limits}
        limits = {k: v for k, v in limits.items() if v not in (None, DEFAULT)}
        return {
            **({"reuse": reuse} if reuse not in (None, DEFAULT) else {}),
            **({"limits": limits} if limits else {}),
        }


def _current(api: Connection, source: Source) -> dict[str, Any]:
    try:
        found = api.request("GET", function_path(source.collection, source.name)).document
    except Refused as error:
        if error.status == 404:
            return {}
        if error.status == 403 and "verb" in str(error):
            raise click.ClickException(
                f"{source.path}: {error}\nits limits and reuse cannot be kept unseen; "
                "--defaults deploys without looking"
            ) from error
        raise
    current: dict[str, Any] = found["current"]
    return current
