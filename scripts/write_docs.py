"""Writes what of the pages comes from declarations; ``--check`` only says whether it is as written."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from api_page import api_page

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

#: What most installations set, in the order of the README.
MOST_USED = """
    LISTEN STORAGE DATA_DIR FILES_KEEP_VERSIONS RUNNER NODE_DOCKER_IMAGE WORKER_URL WORKER_TOKEN
    API_TOKENS_FILE MAX_INSTANCES LIMIT_MEMORY_MB INVOKE_DEFAULT_TIMEOUT_MS FUNCTION_LOGS_SINK
    LOG_LOKI_URL EXECUTIONS_MAX_AGE_S METRICS POSTGRES_DSN S3_ENDPOINT S3_BUCKET
""".split()


def table(settings: list[SettingInfo]) -> str:
    """Return the variables as a table."""
    lines = ["| variable | default | meaning |", "|---|---|---|"]
    for info in settings:
        default = f"`{info.default}`" if info.default else ""
        secret = " *Secret.*" if info.secret else ""
        lines.append(f"| `{info.variable}` | {default} | {info.doc}{secret} |")
    return "\n".join(lines) + "\n"


def plugin_settings() -> Iterator[tuple[str, list[SettingInfo]]]:
    """Return the variables of each plugin of this repository, by a name it is selected with."""
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
            yield candidate.name, infos(classes)


def configuration() -> str:
    """Return the page of all variables: the core's, then each plugin's of this repository."""
    parts = [INTRODUCTION]
    for cls in CORE_SETTINGS:
        parts.append(
            f"## {cls.__name__.removesuffix('Settings')}\n\n{cls.__doc__}\n\n{table(infos([cls]))}"
        )
    parts += [f"## Plugin `{name}`\n\n{table(found)}" for name, found in plugin_settings()]
    return "\n".join(parts)


def readme() -> str:
    """Return the README with the table of the variables most used."""
    known: dict[str, SettingInfo] = {}
    for found in (infos(list(CORE_SETTINGS)), *(found for _, found in plugin_settings())):
        known = {info.variable: info for info in found} | known
    written = table([known[f"LOWCODE_FAAS_{name}"] for name in MOST_USED])
    start, end = "<!-- written by make docs: variables -->\n", "<!-- end -->"
    before, _, rest = (ROOT / "README.md").read_text().partition(start)
    return f"{before}{start}\n{written}\n{end}{rest.partition(end)[2]}"


def main() -> None:
    """Write, or with ``--check`` compare and exit 1 when a page is out of date."""
    pages = {
        ROOT / "docs" / "configuration.md": configuration(),
        ROOT / "docs" / "api.md": api_page(ROOT / "lowcode_faas_core" / "openapi.json"),
        ROOT / "README.md": readme(),
    }
    stale = [path for path, text in pages.items() if not path.exists() or path.read_text() != text]
    if "--check" in sys.argv[1:]:
        for path in stale:
            print(f"{path.relative_to(ROOT)} is out of date; run make docs")
        raise SystemExit(bool(stale))
    for path in stale:
        path.write_text(pages[path])


if __name__ == "__main__":
    main()
