"""Imports go one way: a module imports only from groups before its own, and never in a circle."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

#: The groups in order; a name stands for the module, or for every module of the package.
ORDER = (
    "errors",
    "arrival callers findings ids lanes model names records shared_map shared_output trace_context turns waits",
    "invoked_functions paging settings shared_counts",
    "setting_values",
    "configuration",
    "interfaces",
    "hookspecs interface_versions",
    "catalogue documents hook_trace plugins tokens",
    "in_flight rates",
    "authentication environment limits meter sources",
    "admission",
    "delivery fetching following sandbox logquery",
    "logs record_queue recorded_run recording",
    "invoker",
    "wire name_lookup worker_link worker_connections remote readiness startup",
    "services doctor",
    "api",
    "dispatcher worker_shortcut worker",
    "successors repeats client_socket client_connection method_queue not_http intake lane_worker drain "
    "deadlines preflight",
    "unix_listener server",
    "client",
    "cli",
)
PACKAGE = "lowcode_faas_core"
RANKS = {name: rank for rank, group in enumerate(ORDER) for name in group.split()}


def imported(path: Path) -> Iterator[str]:
    """Return the modules of ours that a file imports, wherever in it the import stands."""
    return _imported(ast.parse(path.read_text()))


def _imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            if node.module == PACKAGE:
                yield from (f"{PACKAGE}.{alias.name}" for alias in node.names)
            elif node.module.startswith(f"{PACKAGE}."):
                yield node.module
        elif isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name.startswith(f"{PACKAGE}."))


def at_runtime(path: Path) -> set[str]:
    """Return what is imported when the module runs: not what only annotations need."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = [ast.Pass()]
    return set(_imported(tree))


def core_modules(root: Path) -> list[Path]:
    return [
        path
        for path in sorted((root / PACKAGE).rglob("*.py"))
        if path.relative_to(root / PACKAGE).parts[0]
        not in ("testing", "plugin_templates", "__init__.py")
    ]


def group_of(module: str) -> str:
    return module.split(".")[1]


def test_every_module_has_its_place(root: Path) -> None:
    places = {
        path.relative_to(root / PACKAGE).parts[0].removesuffix(".py") for path in core_modules(root)
    }
    assert places <= set(RANKS), f"give these a place in ORDER: {sorted(places - set(RANKS))}"


def test_imports_go_one_way(root: Path) -> None:
    wrong = []
    for path in core_modules(root):
        own = path.relative_to(root / PACKAGE).parts[0].removesuffix(".py")
        for module in imported(path):
            target = group_of(module)
            if target in RANKS and RANKS[target] > RANKS[own]:
                wrong.append(f"{path.relative_to(root)} imports {module}")
            elif target == "testing":
                wrong.append(f"{path.relative_to(root)} imports the test kit")
    assert not wrong, "\n".join(wrong)


def test_nothing_imports_in_a_circle(root: Path) -> None:
    graph: dict[str, set[str]] = {}
    for path in core_modules(root):
        parts = path.relative_to(root).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        graph[name] = at_runtime(path) - {name}
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join((*trail, name))
        if name in done:
            return
        for target in sorted(graph.get(name, ())):
            visit(target, (*trail, name))
        done.add(name)

    for name in graph:
        visit(name, ())


def test_plugins_know_the_core_by_its_public_modules_only(root: Path) -> None:
    private = ("services", "api", "dispatcher", "worker", "server", "client", "cli", "preflight")
    wrong = [
        f"{path.relative_to(root)} imports {module}"
        for path in sorted((root / "plugins").glob("*/lowcode_faas_*/**/*.py"))
        for module in imported(path)
        if group_of(module) in private
    ]
    assert not wrong, "\n".join(wrong)


def test_plugins_by_others_use_what_is_promised(root: Path) -> None:
    page = (root / "docs" / "writing-a-plugin.md").read_text()
    (sentence,) = re.findall(r"of `lowcode_faas_core`, plugins use (.*?)\. ", page, re.DOTALL)
    promised = tuple(f"{PACKAGE}.{name}" for name in re.findall(r"`(\S+?)`", sentence))
    assert len(promised) > 10
    files = [
        *(root / PACKAGE / "plugin_templates").rglob("*.py"),
        *(root / "examples" / "plugins").rglob("*.py"),
        *(root / "tests" / "plugins" / "frozen").glob("*.py"),
    ]
    found = {module for path in files for module in imported(path)}
    assert found
    wrong = {each for each in found if not f"{each}.".startswith(tuple(f"{p}." for p in promised))}
    assert not wrong
