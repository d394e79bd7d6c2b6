"""The glossary has every word that code and pages stand on; the changelog has its form."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lowcode_faas_core.plugins import HOOKS

#: The words of the house; where a word has another form in the table, that.
WORDS = (
    *"collection function handler source deployment version invocation execution sandbox".split(),
    *"instance runner storage plugin launcher dispatcher worker deadline frame pool hook".split(),
    *("log sink", "source fetcher", "warm, prewarmed, cold", "execution store", "log dialect"),
)
#: Words of other houses for the same things.
OTHERS = "lambda job executor provider".split()
KINDS = "Added Changed Deprecated Removed Fixed Security".split()


@pytest.fixture(scope="module")
def glossary(root: Path) -> list[str]:
    text = (root / "docs" / "glossary.md").read_text()
    return re.findall(r"^\| ([^|]+) \|", text, re.MULTILINE)[1:]


def test_each_word_has_one_meaning(glossary: list[str]) -> None:
    assert len(glossary) == len(set(glossary))
    assert set(WORDS) <= set(glossary)


def test_every_role_is_a_word(glossary: list[str]) -> None:
    """Roles are the names of the hooks that build something."""
    named = {hook.removeprefix("lowcode_faas_").replace("_", " ") for hook in HOOKS}
    others = {"authenticate": "authenticator", "metrics": "metrics plugin"}
    roles = {others.get(name, name) for name in named - {"settings", "app created"}}
    assert roles <= set(glossary), sorted(roles - set(glossary))


def test_no_word_of_another_house_is_one_of_ours(glossary: list[str]) -> None:
    assert not set(OTHERS) & set(glossary)


def test_the_changelog_keeps_its_form(root: Path) -> None:
    lines = (root / "CHANGELOG.md").read_text().splitlines()
    releases = [line for line in lines if line.startswith("## ")]
    assert releases[0] == "## [Unreleased]"
    dated = r"## \[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d"
    assert [line for line in releases[1:] if not re.fullmatch(dated, line)] == []
    assert {line[4:] for line in lines if line.startswith("### ")} <= set(KINDS)
    entries = lines[lines.index(releases[0]) :]
    stray = [line for line in entries if line and not re.match(r"#{2,3} |- \S|  \S", line)]
    assert stray == []
