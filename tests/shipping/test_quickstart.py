"""The README without a checkout: an empty folder, the wheels, and what the page says, as it stands there."""

from __future__ import annotations

import os

import pytest

from tests.docs.following import blocks_until, follow, system_path
from tests.docs.pages import Page
from tests.docs.reader import Reader

#: The first test builds the wheels.
pytestmark = pytest.mark.timeout(900)

HERE = "tests/shipping/test_quickstart.py"


@pytest.fixture
def reader(wheelhouse, tmp_path):
    """Return somebody who has the wheels, the Python they are for, and nothing else."""
    folder = tmp_path / "empty"
    folder.mkdir()
    (folder / "dist").symlink_to(wheelhouse)
    # Everything is compiled when it is imported first; ahead of that it would take longer.
    variables = {"PIP_NO_COMPILE": "1", "PIP_CONFIG_FILE": os.devnull}
    reader = Reader(tmp_path, variables, begins=folder, path=system_path(tmp_path))
    yield reader
    reader.close()


def test_wheels_take_the_place_of_the_checkout(reader):
    """Of one page: README.zh-CN.md holds the same blocks."""
    blocks = blocks_until(Page("README.md"), "## From the command line")
    assert [block.text for block in blocks if "in" in block.options and HERE in block.info]

    def means(block):
        # What starts the service from a checkout is what the blocks for this test replace.
        return block.options.get("in", HERE) == HERE and "make run" not in block.text

    assert follow(blocks, reader, means) >= 8
    python = reader.folder / ".venv" / "bin" / "python"
    assert python.exists()
    assert not [each for each in reader.folder.iterdir() if each.name in ("Makefile", "plugins")]
