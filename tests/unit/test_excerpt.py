"""The place of a fault, shown below its line."""

from __future__ import annotations

import pytest

from lowcode_faas_core.cli.excerpt import excerpt


@pytest.mark.parametrize(
    ("source", "line", "column", "shown"),
    [
        ("a\nb c\n", 2, 3, ["b c", "  ^"]),
        ("a\r\nb c\r\n", 2, 3, ["b c", "  ^"]),
        ("a\u2028b c", 2, 3, ["b c", "  ^"]),
        # One past the end is where something is missing
        ("f(", 1, 3, ["f(", "  ^"]),
        # Columns are those of the parser: tabs go to stops of four, and some take two or none
        ("\tx\ty b", 1, 9, ["    x   y b", "        ^"]),
        ("ab\tx y", 1, 5, ["ab  x y", "    ^"]),
        ("'\U0001f600' x", 1, 6, ["'\U0001f600' x", "     ^"]),
        ("'\u4e2d' x", 1, 6, ["'\u4e2d' x", "     ^"]),
        ("'e\u0301' x", 1, 5, ["'e\u0301' x", "    ^"]),
        # What a terminal would obey is shown as text
        ("'\x01' x", 1, 4, ["'\\x01' x", "       ^"]),
        ("a" * 500, 1, 101, [f"…{'a' * 60}{'a' * 60}…", f"{' ' * 61}^"]),
        ("a\nb c", 2, None, ["b c"]),
        # No such place
        ("a", 2, 1, []),
        ("a", 0, 1, []),
        ("a", 1, 0, []),
        ("a\n\n", 2, 1, []),
    ],
)
def test_the_caret_is_below_the_place(
    source: str, line: int, column: int | None, shown: list[str]
) -> None:
    assert excerpt(source, line, column) == shown
