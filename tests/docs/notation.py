"""Whether something printed is what a page shows, which may leave some of it open.

``docs/writing-docs.md`` has the notation.
"""

from __future__ import annotations

import json
import re
from typing import Any

__all__ = ["contains", "documents", "matches", "matches_text", "pattern"]

ANY = "…"


def pattern(text: str) -> str:
    """Return a regular expression of one line."""
    parts = re.split(rf"({ANY}| {{2,}})", text)
    return "".join(
        r"[^\n]*?" if part == ANY else " {2,}" if part.startswith("  ") else re.escape(part)
        for part in parts
    )


def _pattern_of_lines(shown: str) -> str:
    found = ""
    for line in shown.strip("\n").split("\n"):
        found += r"(?:[^\n]*\n)*?" if line.strip() == ANY else pattern(line.rstrip()) + r"[ \t]*\n"
    return found


def matches_text(shown: str, printed: str) -> bool:
    """Tell whether the whole of ``printed`` is as shown."""
    return re.fullmatch(_pattern_of_lines(shown), printed.strip("\n") + "\n") is not None


def contains(shown: str, printed: str) -> bool:
    """Tell whether lines in a row of ``printed`` are as shown."""
    return re.search("(?:^|\n)" + _pattern_of_lines(shown), printed.rstrip("\n") + "\n") is not None


def documents(text: str) -> list[Any]:
    """Return the JSON documents that stand one after the other in ``text``."""
    decoder, found, at = json.JSONDecoder(), [], 0
    text = text.strip()
    while at < len(text):
        document, at = decoder.raw_decode(text, at)
        found.append(document)
        at += len(text[at:]) - len(text[at:].lstrip())
    return found


def matches(shown: Any, printed: Any) -> bool:
    """Tell whether a JSON value is as shown."""
    if shown == ANY:
        return True
    match shown:
        case str():
            return isinstance(printed, str) and re.fullmatch(pattern(shown), printed) is not None
        case float():
            return isinstance(printed, int | float) and not isinstance(printed, bool)
        case dict():
            named = {key: value for key, value in shown.items() if key != ANY}
            return (
                isinstance(printed, dict)
                and (ANY in shown or set(printed) == set(named))
                and all(key in printed and matches(named[key], printed[key]) for key in named)
            )
        case list():
            named_ones = shown[:-1] if shown[-1:] == [ANY] else shown
            return (
                isinstance(printed, list)
                and len(named_ones) <= len(printed)
                and (len(named_ones) == len(printed) or named_ones is not shown)
                and all(map(matches, named_ones, printed))
            )
        case _:
            return type(shown) is type(printed) and bool(shown == printed)
