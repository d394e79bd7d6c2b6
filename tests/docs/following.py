"""Who follows a page from its beginning to the end of a section, elsewhere than in this checkout."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from tests.docs.pages import Block, Page
from tests.docs.reader import Printed, Reader
from tests.docs.test_pages import compare, run

__all__ = ["blocks_until", "follow", "system_path"]

#: Where a system has its commands, none of which is ours.
SYSTEM = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def system_path(folder: Path) -> str:
    """Return a PATH on which ``python3`` is the Python that these tests have, if not its packages."""
    commands = folder / "commands"
    commands.mkdir()
    (commands / "python3").symlink_to(sys._base_executable)  # type: ignore[attr-defined]  # as venv does
    return f"{commands}:{SYSTEM}"


def blocks_until(page: Page, heading: str) -> list[Block]:
    """Return the blocks above the section that follows the one called ``heading``."""
    lines = page.source.splitlines()
    start = lines.index(heading)
    # From 1, as the lines of blocks are.
    end = next(n for n, line in enumerate(lines, 1) if n > start + 1 and line.startswith("## "))
    return [block.parsed() for block in page.blocks() if block.line < end]


def follow(blocks: list[Block], reader: Reader, means: Callable[[Block], bool]) -> int:
    """Run the blocks that are meant, compare what is below them, and return how many ran."""
    printed: Printed | None = None
    ran, meant = 0, False
    for number, block in enumerate(blocks):
        below = blocks[number + 1] if number + 1 < len(blocks) else None
        if block.marker == "output" and meant:
            compare(block, printed, reader)
        elif block.marker == "run" and (meant := means(block)):
            printed = run(block, below, reader)
            ran += 1
    return ran
