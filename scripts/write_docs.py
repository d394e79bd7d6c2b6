"""Writes the pages of docs/ that come from declarations; ``--check`` only says whether they do."""

from __future__ import annotations

import sys
from pathlib import Path

from lowcode_faas_core.catalogue import Catalogue
from lowcode_faas_core.configuration import CORE_SETTINGS
from lowcode_faas_core.plugins import FURTHER, PluginRegistry, Selection
from lowcode_faas_core.settings import SettingInfo, infos

ROOT = Path(__file__).resolve().parent.parent

INTRODUCTION = """\
# Configuration

This page is generated from the settings classes by `make docs`.

The environment is read once, at start. Everything that is wrong is reported together, each problem
naming its variable, and the process exits with code 2. An empty value counts as not set. A name
that starts with `LOWCODE_FAAS_` and is not listed here is a warning with the nearest match. A
variable marked *secret* may also be given as `<name>_FILE`, the path of a file that holds it.
`lowcode-faas config` prints the effective values and where each came from, secrets masked.
"""


def table(settings: list[SettingInfo]) -> str:
    """Return the variables as a table."""
    lines = ["| variable | default | meaning |", "|---|---|---|"]
    for info in settings:
        default = f"`{info.default}`" if info.default else ""
        secret = " *Secret.*" if info.secret else ""
        lines.append(f"| `{info.variable}` | {default} | {info.doc}{secret} |")
    return "\n".join(lines) + "\n"


def configuration() -> str:
    """Return the page of all variables: the core's, then each plugin's of this repository."""
    parts = [INTRODUCTION]
    for cls in CORE_SETTINGS:
        parts.append(
            f"## {cls.__name__.removesuffix('Settings')}\n\n{cls.__doc__}\n\n{table(infos([cls]))}"
        )
    ours = {path.parent.name.replace("_", "-") for path in ROOT.glob("plugins/*/pyproject.toml")}
    seen: set[str] = set()
    for candidate in Catalogue.installed().candidates:
        folder = candidate.distribution.removeprefix("lowcode-faas-")
        if folder not in ours or candidate.identity in seen:
            continue
        seen.add(candidate.identity)
        registry = PluginRegistry([Selection("", FURTHER, (candidate.name,))])
        classes = registry.settings_classes()
        if classes:
            parts.append(f"## Plugin `{candidate.name}`\n\n{table(infos(classes))}")
    return "\n".join(parts)


def main() -> None:
    """Write, or with ``--check`` compare and exit 1 when a page is out of date."""
    pages = {ROOT / "docs" / "configuration.md": configuration()}
    stale = [path for path, text in pages.items() if not path.exists() or path.read_text() != text]
    if "--check" in sys.argv[1:]:
        for path in stale:
            print(f"{path.relative_to(ROOT)} is out of date; run make docs")
        raise SystemExit(bool(stale))
    for path in stale:
        path.write_text(pages[path])


if __name__ == "__main__":
    main()
