"""Prints, after the house tests, what is counted and not judged."""

from __future__ import annotations

import ast
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
#: Lines above which a module is likely to hold two things.
LONG = 400


def _tracked() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode == 0:
        files = [ROOT / line for line in listed.stdout.splitlines()]
    else:  # a copy of the tree without its history
        files = [path for path in ROOT.rglob("*") if not path.is_relative_to(ROOT / ".venv")]
    return sorted(path for path in files if path.is_file())


def _fault_marks(path: Path) -> Iterator[int]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.fault":
            yield from (each.value for each in node.args if isinstance(each, ast.Constant))


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def tree() -> list[Path]:
    """Every file of the repository, ignored ones left out."""
    return _tracked()


@pytest.fixture(scope="session")
def fault_rows() -> dict[int, str]:
    """The rows of the table of faults and threats: number and title."""
    lines = (Path(__file__).parent / "fault_rows.txt").read_text().splitlines()
    return {int(number): title for number, _, title in (line.partition(" ") for line in lines)}


@pytest.fixture(scope="session")
def fault_marks(tree: list[Path]) -> dict[int, list[str]]:
    """Which test files mark which row."""
    found: dict[int, list[str]] = {}
    for path in tree:
        if path.suffix == ".py" and "tests" in path.relative_to(ROOT).parts:
            for number in _fault_marks(path):
                found.setdefault(number, []).append(str(path.relative_to(ROOT)))
    for number, files in _collected_marks.items():
        found.setdefault(number, []).extend(sorted(files))
    return found


#: Marks of the tests collected in this session: with the whole suite, also those that are computed.
_collected_marks: dict[int, set[str]] = {}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for mark in item.iter_markers("fault"):
            for number in mark.args:
                _collected_marks.setdefault(number, set()).add(item.location[0])


_report: list[str] = []


@pytest.fixture(scope="session")
def report() -> list[str]:
    """Lines to print at the end of the session."""
    return _report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _report:
        terminalreporter.section("house")
        for line in _report:
            terminalreporter.line(line)
