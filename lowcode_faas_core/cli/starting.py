"""How every command reports that something cannot start: one sentence a line, exit code 2."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import click

from lowcode_faas_core.errors import StartError

__all__ = ["refusing"]

P = ParamSpec("P")
R = TypeVar("R")


def refusing(command: Callable[P, R]) -> Callable[P, R]:
    """Turn a StartError of ``command`` into its text on stderr and exit code 2."""

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except StartError as error:
            for warning in error.warnings:
                click.echo(f"lowcode-faas: warning: {warning}", err=True)
            for line in error.detail.splitlines():
                click.echo(f"lowcode-faas: {line}", err=True)
            raise SystemExit(2) from error

    return wrapped
