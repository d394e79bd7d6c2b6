"""Pages say what each of their blocks is, and lead nowhere that is not there.

``tests/docs`` executes the blocks.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.docs.languages import PARSERS
from tests.docs.pages import HOW, ROOT, Block, Misread, Page, pages, slug

#: Blocks, in all pages together, that nothing checks.
ILLUSTRATIONS = 10
#: Inline code that begins with one of these names a file of the repository.
FOLDERS = "bench conf docs examples js lowcode_faas_core plugins requirements scripts tests".split()
#: The beginning of a moment that a run wrote.
YEAR = re.compile(r"\b20[0-9]{2}-(?:…|[01][0-9])")
SHELLS = ("sh", "bash", "console")


def parsed(page: Page) -> list[Block]:
    return [block.parsed() for block in page.blocks()]


def complaints(page: Page) -> list[str]:
    """Return what is wrong with the markers of a page."""
    found = []
    above: Block | None = None
    blocks = page.blocks()
    for number, raw in enumerate(blocks):
        try:
            block = raw.parsed()
        except Misread as misread:
            found.append(str(misread))
            continue
        options = block.options
        if block.marker == "run":
            below = "".join(each.text for each in blocks[number + 1 :])
            name = options.get("file")
            if name is None and block.language not in (*SHELLS, "python", *PARSERS):
                found.append(f"{block.where}: nothing runs {block.language!r}; give it file=NAME")
            elif name and block.language not in PARSERS and Path(name).stem not in below:
                found.append(f"{block.where}: no block below uses {name}")
            above = block
        elif block.marker == "output" and not options:
            if above is None or above.language not in (*SHELLS, "python"):
                found.append(f"{block.where}: an output, and no block above that prints")
            above = None
        if block.marker == "output" and (year := YEAR.search(block.text)):
            found.append(f"{block.where}: {year[0]} holds this year only; write 20…")
        if test := options.get("in"):
            path = ROOT / test
            if not path.is_file() or Path(page.name).name not in path.read_text():
                found.append(f"{block.where}: {test} is no test that names this page")
    return found


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_every_block_says_what_it_is(page: Page) -> None:
    found = complaints(page)
    assert not found, "\n".join([*found, "", HOW])


def test_few_blocks_are_illustrations() -> None:
    found = [
        block.where
        for page in pages()
        for block in page.blocks()
        if block.info.split()[1:2] == ["illustration"]
    ]
    assert len(found) <= ILLUSTRATIONS, "\n".join([*found, "", HOW])


@pytest.mark.parametrize(
    ("fence", "said"),
    [
        ("```sh", "has no marker"),
        ("```", "has no marker"),
        ("```sh runs", "'runs' is none of"),
        ("```sh run files=x", "has no option files"),
        ("```js run", "give it file=NAME"),
        ("```js run file=x.mjs", "no block below uses x.mjs"),
        ("```text output", "no block above that prints"),
        ("```sh run in=tests/nowhere.py", "no test that names this page"),
    ],
)
def test_a_block_that_says_too_little_is_found(fence: str, said: str) -> None:
    (found,) = complaints(Page("docs/none.md", f"{fence}\ntrue\n```\n"))
    assert said in found


def test_anchors_are_githubs() -> None:
    assert slug("In containers: `docker`".replace("`", "")) == "in-containers-docker"
    assert slug("What `process` is, and is not".replace("`", "")) == "what-process-is-and-is-not"
    assert slug("部署、回滚 (v2)") == "部署回滚-v2"


@functools.cache
def anchors(path: Path) -> set[str]:
    return Page(str(path.relative_to(ROOT))).anchors() if path.suffix == ".md" else set()


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_no_link_is_dead(page: Page) -> None:
    dead = []
    for link in page.links():
        parts = urlsplit(link.target)
        if parts.scheme:
            if parts.scheme not in ("http", "https") or "." not in parts.netloc:
                dead.append(f"{link.where}: {link.target} is no address")
            continue
        target = (page.path.parent / unquote(parts.path)).resolve() if parts.path else page.path
        if not target.exists() or not target.is_relative_to(ROOT):
            dead.append(f"{link.where}: {link.target} is not there")
        elif parts.fragment and unquote(parts.fragment) not in anchors(target):
            dead.append(f"{link.where}: {link.target} has no such heading")
    assert not dead, "\n".join(dead)


def absent_in(code: str, page: Page) -> str:
    """Return what inline code names and is not there, empty when it names nothing like that."""
    if re.fullmatch(rf"(?:{'|'.join(FOLDERS)})/[\w./-]*\w/?", code):
        there = any((folder / code).exists() for folder in (ROOT, page.path.parent))
        return "" if there else code
    if target := re.fullmatch(r"make ([a-z-]+)", code):
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        return "" if target[1] in targets else code
    variables = (ROOT / "docs" / "configuration.md").read_text()
    for name in re.findall(r"LOWCODE_FAAS_[A-Z0-9_]*[A-Z0-9]\b(?!_|…)", code):
        # A secret may come by its file, too.
        if f"`{name}`" not in variables and f"`{name.removesuffix('_FILE')}`" not in variables:
            return str(name)
    return ""


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_what_inline_code_names_is_there(page: Page) -> None:
    """Files of the repository, targets of make, variables."""
    if page.name == "CHANGELOG.md":
        return  # names what was there
    found = [(line, absent_in(code, page)) for line, code in page.code_spans()]
    absent = [f"{page.name}:{line}: {name} is not there" for line, name in found if name]
    assert not absent, "\n".join(absent)


def test_the_pages_are_all_of_them(tree: list[Path]) -> None:
    """Only what a tool keeps for itself is no page."""
    known = Counter(page.name for page in pages())
    others = [
        str(path.relative_to(ROOT))
        for path in tree
        if path.suffix == ".md" and "plugin_templates" not in path.parts  # pages of what is made
    ]
    assert set(others) - set(known) <= {"bench/RESULTS.md", "bench/README.md"}
