"""Rows for people: columns as wide as what is in them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import click

__all__ = ["printable", "show_rows"]


def printable(text: object) -> str:
    """Return text without what would move a terminal's cursor or end the line."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(text))


def show_rows(rows: Iterable[Sequence[object]]) -> None:
    """Print rows of cells; ``None`` is ``-``."""
    cells = [["-" if each is None else printable(each) for each in row] for row in rows]
    if not cells:
        return
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo(line.rstrip())
