"""What is documented is what is there: hooks with their signatures, variables with their defaults."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lowcode_faas_core import hookspecs
from lowcode_faas_core.plugins import HOOKS


def test_there_is_a_page_for_each_hook_and_no_other(root: Path) -> None:
    pages = {path.stem for path in (root / "docs" / "hooks").glob("*.md")}
    assert pages == set(HOOKS)


@pytest.mark.parametrize("hook", HOOKS)
def test_a_hooks_page_shows_its_exact_signature(root: Path, hook: str) -> None:
    signature = inspect.signature(getattr(hookspecs, hook))
    page = (root / "docs" / "hooks" / f"{hook}.md").read_text()
    assert f"def {hook}{signature}:".replace("'", "") in page


@pytest.mark.parametrize("hook", HOOKS)
def test_each_hook_is_tested(tree: list[Path], root: Path, hook: str) -> None:
    tests = [
        path
        for path in tree
        if path.suffix == ".py"
        and "tests" in path.relative_to(root).parts
        and "house" not in path.relative_to(root).parts
        and hook in path.read_text()
    ]
    assert tests


def test_decisions_are_numbered_one_by_one(root: Path) -> None:
    pages = sorted((root / "docs" / "decisions").glob("*.md"))
    assert [int(page.name[:4]) for page in pages] == list(range(1, len(pages) + 1))


def test_the_generated_pages_are_up_to_date(root: Path) -> None:
    done = subprocess.run(
        [sys.executable, root / "scripts" / "write_docs.py", "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_variable_named_in_the_code_is_documented(tree: list[Path], root: Path) -> None:
    page = (root / "docs" / "configuration.md").read_text()
    known = set(re.findall(r"LOWCODE_FAAS_[A-Z0-9_]+", page))
    unknown = {
        f"{path.relative_to(root)}: {name}"
        for path in tree
        if path.suffix in (".py", ".md", ".mjs", ".cjs", ".sh", ".service", "")
        and path.relative_to(root).parts[0]
        in (*"lowcode_faas_core scripts conf".split(), "plugins")
        and not {"tests", "plugin_templates"} & {*path.relative_to(root).parts}
        for name in re.findall(r"LOWCODE_FAAS_[A-Z0-9_]*[A-Z0-9]\b", path.read_text())
        # A secret may come by its file, too.
        if name not in known and name.removesuffix("_FILE") not in known
    }
    assert not unknown, "\n".join(sorted(unknown))
