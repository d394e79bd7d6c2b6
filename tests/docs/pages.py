"""The pages that people read, taken apart: fenced blocks with their markers, headings, links."""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).resolve().parents[2]
PATTERNS = (
    "*.md",
    "bench/missed.md",
    "docs/**/*.md",
    "plugins/*/README.md",
    "examples/**/*.md",
    "js/README.md",
)
MARKERS = ("run", "output", "illustration")
#: What may follow a marker. ``docs/writing-docs.md`` says what each is for.
OPTIONS = {
    "run": ("fails", "file", "in", "needs", "serve"),
    "output": ("in", "of"),
    "illustration": (),
}
HOW = """\
Every fenced block says in its first line, after the language, what it is:
  ```sh run                      is executed by tests/docs, in the page's order; exit code 0 is demanded
  ```sh run serve                starts a service that stays until the page's end
  ```js run file=hello.mjs       is written to that file, for the blocks below it
  ```python run                  is executed
  ```yaml run                    is parsed (json, toml, ini and the like as well)
  ```text output  ```json output is compared with what the block above it printed
  ```sh run in=tests/x/test_y.py is executed by that test, which reads this page
  ```text illustration           is neither; there are at most 10 of these in all pages
docs/writing-docs.md has the rest: what an output may leave open, and how to try a page."""


class Misread(Exception):
    """A page does not say what its block is."""


@dataclass(frozen=True)
class Block:
    """A fenced block."""

    page: str
    #: Of the opening fence, from 1.
    line: int
    info: str
    text: str
    language: str = ""
    marker: str = ""
    options: dict[str, str] = field(default_factory=dict)

    @property
    def where(self) -> str:
        return f"{self.page}:{self.line}"

    def parsed(self) -> Block:
        """Return the block with its marker; raise ``Misread`` where that is not one of ours."""
        language, *rest = self.info.split() or [""]
        if not rest:
            raise Misread(f"{self.where}: ```{self.info} has no marker")
        marker, *given = rest
        if marker not in MARKERS:
            raise Misread(f"{self.where}: {marker!r} is none of {', '.join(MARKERS)}")
        options = {key: value for key, _, value in (each.partition("=") for each in given)}
        if unknown := sorted(set(options) - set(OPTIONS[marker])):
            raise Misread(f"{self.where}: {marker} has no option {', '.join(unknown)}")
        return Block(self.page, self.line, self.info, self.text, language, marker, options)


@dataclass(frozen=True)
class Link:
    """Where a link or an image leads."""

    page: str
    line: int
    target: str

    @property
    def where(self) -> str:
        return f"{self.page}:{self.line}"


def slug(heading: str) -> str:
    """Return the anchor GitHub gives a heading."""
    kept = [
        each
        for each in heading.strip().lower()
        if each in "-_ " or unicodedata.category(each)[0] in "LN" or unicodedata.combining(each)
    ]
    return "".join(kept).replace(" ", "-")


@dataclass(frozen=True)
class Page:
    """One page, by its path from the root."""

    name: str
    #: Instead of what the file says.
    text: str | None = None

    @property
    def path(self) -> Path:
        return ROOT / self.name

    @cached_property
    def source(self) -> str:
        return self.path.read_text() if self.text is None else self.text

    @cached_property
    def _tokens(self) -> list[Token]:
        return MarkdownIt("commonmark").enable("table").parse(self.source)

    def blocks(self) -> list[Block]:
        """Return the fenced blocks, markers not looked at yet."""
        return [
            Block(self.name, token.map[0] + 1, token.info.strip(), token.content)
            for token in self._tokens
            if token.type == "fence" and token.map
        ]

    def headings(self) -> list[tuple[int, str]]:
        """Return level and text of each heading."""
        pairs = zip(self._tokens, self._tokens[1:], strict=False)
        return [
            (int(opening.tag[1]), "".join(each.content for each in inline.children or ()))
            for opening, inline in pairs
            if opening.type == "heading_open"
        ]

    def anchors(self) -> set[str]:
        """Return what a link to a part of this page may name."""
        found: dict[str, int] = {}
        for _, text in self.headings():
            name = slug(text)
            again = found.get(name, 0)
            found[name] = again + 1
            if again:
                found[f"{name}-{again}"] = 1
        return set(found) | set(re.findall(r'<a (?:id|name)="([^"]+)"', self.source))

    def _inline(self) -> Iterator[tuple[int, Token]]:
        for token in self._tokens:
            if token.type == "inline" and token.map:
                for child in token.children or ():
                    yield token.map[0] + 1, child

    def links(self) -> list[Link]:
        """Return all links and images, in order."""
        found = []
        for line, token in self._inline():
            target = token.attrGet("href") if token.type == "link_open" else None
            target = token.attrGet("src") if token.type == "image" else target
            if target is not None:
                found.append(Link(self.name, line, str(target)))
        return found

    def code_spans(self) -> list[tuple[int, str]]:
        """Return inline code, with the line it is near."""
        return [
            (line, token.content) for line, token in self._inline() if token.type == "code_inline"
        ]


@functools.cache
def pages() -> tuple[Page, ...]:
    """Return every page, in the order of its path; each is parsed once."""
    found = {path for pattern in PATTERNS for path in ROOT.glob(pattern)}
    return tuple(Page(str(path.relative_to(ROOT))) for path in sorted(found))
