"""README.zh-CN.md holds what README.md holds: whoever changes one changes the other."""

from __future__ import annotations

import re

from tests.docs.pages import Page

ENGLISH, CHINESE = Page("README.md"), Page("README.zh-CN.md")
HOW = "README.zh-CN.md is README.md in Chinese: make the same change there, blocks byte for byte"
#: Each names the other.
EACH_OTHER = {"README.md", "README.zh-CN.md"}


def test_the_headings_are_as_many_and_as_deep() -> None:
    levels = [[level for level, _ in page.headings()] for page in (ENGLISH, CHINESE)]
    assert levels[0] == levels[1], HOW


def test_the_blocks_are_the_same() -> None:
    shown = [[(block.info, block.text) for block in page.blocks()] for page in (ENGLISH, CHINESE)]
    assert shown[0] == shown[1], HOW


def test_the_links_lead_to_the_same_places() -> None:
    targets = [
        sorted(link.target for link in page.links() if link.target not in EACH_OTHER)
        for page in (ENGLISH, CHINESE)
    ]
    assert targets[0] == targets[1], HOW
    named = [{link.target for link in page.links()} & EACH_OTHER for page in (ENGLISH, CHINESE)]
    assert named == [{"README.zh-CN.md"}, {"README.md"}]


def test_the_tables_name_the_same_variables_with_the_same_defaults() -> None:
    rows = [
        re.findall(r"^\| (`LOWCODE_FAAS_\w+`) \| ([^|]*) \|", page.source, re.MULTILINE)
        for page in (ENGLISH, CHINESE)
    ]
    assert rows[0]
    assert rows[0] == rows[1], HOW


def test_inline_code_is_the_same() -> None:
    """Names of variables, commands and files are no language's own."""
    spans = [{code for _, code in page.code_spans()} for page in (ENGLISH, CHINESE)]
    assert spans[0] - spans[1] == set(), HOW
