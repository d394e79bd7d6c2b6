"""What the core imports, its distribution brings: nothing is there only since a plugin wants it, too."""

from __future__ import annotations

import ast
import configparser
import re
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

#: What is there for type checkers only, and ours.
NOT_INSTALLED = {"_typeshed", "lowcode_faas_core"}


def imported(path: Path) -> set[str]:
    """Return the top-level names that a file imports."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names


def test_the_core_requires_what_it_imports(root: Path) -> None:
    config = configparser.ConfigParser()
    config.read(root / "setup.cfg")
    required = {
        re.split(r"[^a-z0-9-]", line.lower())[0]
        for line in config["options"]["install_requires"].split()
    }
    distributions = packages_distributions()
    missing = {
        f"{path.relative_to(root)} imports {name}"
        for path in (root / "lowcode_faas_core").rglob("*.py")
        if not {"testing", "plugin_templates"} & {*path.relative_to(root).parts}
        for name in imported(path) - set(sys.stdlib_module_names) - NOT_INSTALLED
        if not {each.lower() for each in distributions.get(name, [name])} & required
    }
    assert not missing, "\n".join(sorted(missing))
