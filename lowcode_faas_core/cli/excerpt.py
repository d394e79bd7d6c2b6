"""A line of a source with a caret below the place that is meant."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from lowcode_faas_core.cli.columns import printable

__all__ = ["excerpt"]

#: What ends a line for Node.
_END: Final = re.compile("\r\n|[\n\r\u2028\u2029]")
#: Characters shown on either side of the place: bundles are one line of thousands.
AROUND: Final = 60
#: Columns from one tab stop to the next, for the parser that tells the place.
TAB: Final = 4


def excerpt(source: str, line: int, column: int | None) -> list[str]:
    """Return a line and what marks a place in it, or nothing where the source has no such place.

    :param column: from 1, of the line as it is shown: a tab goes on to the next stop, some
        characters take two columns, some none. ``None`` where only the line is known.
    """
    lines = _END.split(source)
    wanted = 0 if column is None else column - 1
    if not (1 <= line <= len(lines) and wanted >= 0 and lines[line - 1].strip()):
        return []
    shown, place, counted = "", None, 0
    for character in lines[line - 1]:
        if place is None and counted >= wanted:
            place = len(shown)
        if character == "\t":
            text = " " * (TAB - counted % TAB)
            counted += len(text)
        else:
            text = printable(character)
            counted += _width(character)
        shown += text
    before, after = shown[:place], "" if place is None else shown[place:]
    if len(before) > AROUND:
        before = f"…{before[-AROUND:]}"
    if len(after) > AROUND:
        after = f"{after[:AROUND]}…"
    marked = [] if column is None else [f"{' ' * sum(map(_width, before))}^"]
    return [before + after, *marked]


def _width(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf", "Cc"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
