"""A clone of this repository, in which everything that makes a first start is done once in a run."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

__all__ = ["clone"]

ROOT = Path(__file__).resolve().parents[2]


def _git(*arguments: str | Path) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout


@pytest.fixture(scope="session")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return a clone with this working tree's uncommitted changes.

    Who starts it first finds no virtual environment; those after have it, and find the first one's
    data folder.
    """
    folder = tmp_path_factory.mktemp("clone") / "lowcode-faas"
    _git("clone", "--quiet", "--depth", "1", f"file://{ROOT}", folder)
    listed = ("ls-files", "-z", "--exclude-standard")
    for name in filter(None, _git(*listed, "--modified", "--others").split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
        else:
            (folder / name).unlink(missing_ok=True)
    yield folder
    shutil.rmtree(folder)
