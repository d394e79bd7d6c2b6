"""What is known of rows that a run missed: the sections of ``bench/missed.md``, written by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bench.rows import Row, Verdict

__all__ = ["explained", "sections"]

PAGE: Final = Path(__file__).with_name("missed.md")
_HEADING: Final = "## "


def sections() -> dict[str, str]:
    """Return the sections by their headings, each of which is the name of a row."""
    _, *parts = f"\n{PAGE.read_text()}".split(f"\n{_HEADING}")
    found = {}
    for part in parts:
        name, _, text = part.partition("\n")
        found[name] = text.strip()
    return found


def explained(rows: Sequence[Row]) -> list[str]:
    """Return the lines about those of the rows that were missed, and no others."""
    written = sections()
    lines = []
    for row in rows:
        if row.verdict is Verdict.MISSED:
            text = written.get(row.what) or "Nothing is written about it in `bench/missed.md`."
            lines += [f"### {row.what}", "", text, ""]
    return ["## Missed rows", "", *lines] if lines else []
