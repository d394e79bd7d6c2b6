"""How far long work has come: on the terminal of whoever waits, and nowhere else."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

__all__ = ["progress"]


@contextmanager
def progress(
    label: str, length: int | None = None, *, quiet: bool = False
) -> Iterator[Callable[[str], None]]:
    """Give what is called with each thing that is done; a bar where the number is known.

    Nothing is written unless standard error is a terminal.
    """
    if quiet or not sys.stderr.isatty():
        yield lambda _: None
        return
    if length is None:
        with _counted(label) as done:
            yield done
        return
    with click.progressbar(
        length=length, label=label, file=sys.stderr, item_show_func=lambda item: item
    ) as bar:
        yield lambda item: bar.update(1, item)


@contextmanager
def _counted(label: str) -> Iterator[Callable[[str], None]]:
    """Show a number that grows, in one line that is gone at the end."""
    count = 0

    def done(_item: str) -> None:
        nonlocal count
        count += 1
        click.echo(f"\r{label}  {count}", nl=False, err=True)

    try:
        yield done
    finally:
        click.echo("\r\033[K", nl=False, err=True)
