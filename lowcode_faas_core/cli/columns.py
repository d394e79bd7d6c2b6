"""Rows for people: columns as wide as what is in them."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Final

import click

__all__ = ["json_text", "on_terminal", "printable", "printable_lines", "show_rows"]

#: What JSON leaves as it is and terminals obey: DEL and the second set of control characters.
_MOVERS: Final = re.compile("[\x7f-\x9f]")


def on_terminal() -> bool:
    """Tell whether standard output is read by somebody rather than something."""
    return sys.stdout.isatty()


def printable(text: object) -> str:
    """Return text without what would move a terminal's cursor or end the line."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(text))


def printable_lines(text: object) -> str:
    """Return text whose lines stay lines, without anything else that would move the cursor."""
    return "\n".join(map(printable, str(text).splitlines()))


def json_text(document: object, indent: int | None = None) -> str:
    """Return a document as JSON in which nothing moves a terminal's cursor either."""
    text = json.dumps(document, indent=indent, ensure_ascii=False)
    return _MOVERS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def show_rows(rows: Iterable[Sequence[object]]) -> None:
    """Print rows of cells; ``None`` is ``-``."""
    cells = [["-" if each is None else printable(each) for each in row] for row in rows]
    if not cells:
        return
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo(line.rstrip())
