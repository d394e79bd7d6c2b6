"""What an output of a page may leave open, and what it may not."""

from __future__ import annotations

import pytest

from tests.docs.notation import contains, documents, matches, matches_text


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        ("hello", "hello\n", True),
        ("hello", "hello world\n", False),
        ("hello …", "hello world", True),
        ("hello … you", "hello\n you", False),
        ("v1  current  …Z", "v1     current   2026-01-01Z", True),
        ("v1  current", "v1 current", False),
        ("a\n…\nd", "a\nb\nc\nd\n", True),
        ("a\n…\nd", "a\nd\n", True),
        ("a\nd", "a\nb\nd\n", False),
        ("(a+b)", "(a+b)", True),
        ("(a+b)", "(aab)", False),
    ],
)
def test_text(shown: str, printed: str, same: bool) -> None:
    assert matches_text(shown, printed) is same


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        ('{"a": 1}', '{"a":1}', True),
        ('{"a": 1}', '{"a":1,"b":2}', False),
        ('{"a": 1, "…": "…"}', '{"a":1,"b":2}', True),
        ('{"a": 1, "…": "…"}', '{"b":2}', False),
        ('{"a": "…"}', '{"a":null}', True),
        ('{"a": "0…"}', '{"a":"01a2"}', True),
        ('{"a": "0…"}', '{"a":"1"}', False),
        ('{"a": 0.1}', '{"a":7}', True),
        ('{"a": 0.1}', '{"a":"7"}', False),
        ('{"a": 1}', '{"a":2}', False),
        ('{"a": true}', '{"a":1}', False),
        ('[1, "…"]', "[1,2,3]", True),
        ("[1, 2]", "[1,2,3]", False),
        ("[1, 2, 3]", "[1,2]", False),
    ],
)
def test_json(shown: str, printed: str, same: bool) -> None:
    (one,), (other,) = documents(shown), documents(printed)
    assert matches(one, other) is same


def test_documents_one_after_the_other() -> None:
    assert documents('{"a": 1}\n\n[2]"x" 3\n') == [{"a": 1}, [2], "x", 3]


def test_lines_in_the_midst_of_others() -> None:
    assert contains("b …\nc", "a\nb 1\nc\nd\n")
    assert not contains("b …\nc", "a\nb 1\nd\nc\n")
    assert not contains("b", "ab\n")
