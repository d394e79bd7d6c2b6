"""Breaks our own backends in one place at a time and demands that the test kit notices.

Each mutation of ``mutations.toml`` is made in a copy of the tree, the checks it names run there, and
one of them must fail.
"""

from __future__ import annotations

import argparse
import compileall
import contextlib
import os
import py_compile
import queue
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

__all__ = ["Mutation", "Outcome", "Tree", "load", "prove"]

ROOT = Path(__file__).resolve().parents[2]
LIST = Path(__file__).with_name("mutations.toml")
WORKERS = 2
#: Seconds a run of checks may take on a machine that has other things to do. One that takes longer
#: proves nothing, unless the mutation is expected to hang.
PATIENCE_S = 120.0
#: Seconds after which a mutation that is expected to hang is taken to do so; the same checks take
#: a second or two when nothing is broken.
HANG_S = 20.0
#: How often a mutation is tried that shows only when two writers meet: once in a hundred runs of
#: its check they do not.
TRIES = 3
#: What the checks need of the tree, beside the plugins that the list names.
COPIED = ("lowcode_faas_core", "plugins", "tests/unit", "tests/faults", "pyproject.toml")
#: The plugins of pytest's that the checks use.
PLUGINS = ("-p", "pytest_timeout", "-p", "lowcode_faas_core.testing.pytest_plugin")
T = TypeVar("T")

#: How pytest ends when tests ran and some failed.
TESTS_FAILED = 1
#: A check that failed, or the fixture that builds what it is about, in pytest's summary.
_FAILED = re.compile(r"^(?:FAILED|ERROR) .*::(\w+)", re.MULTILINE)


@dataclass(frozen=True)
class Mutation:
    """One change of one file, and the checks of which at least one must fail for it."""

    name: str
    suite: str
    file: str
    old: str
    new: str
    checks: tuple[str, ...]
    hangs: bool = False
    races: bool = False


@dataclass(frozen=True)
class Outcome:
    """Whether a mutation was caught, and by which check; else why not."""

    mutation: Mutation
    caught: bool
    why: str = ""
    seconds: float = 0.0


def load(path: Path = LIST) -> tuple[dict[str, str], list[Mutation]]:
    """Return the suites, name to node id, and the mutations."""
    found = tomllib.loads(path.read_text())
    suites: dict[str, str] = found["suites"]
    mutations = [
        Mutation(**{**entry, "checks": tuple(entry["checks"])}) for entry in found["mutation"]
    ]
    names = [mutation.name for mutation in mutations]
    if len(set(names)) != len(names):
        raise ValueError("two mutations have the same name")
    return suites, mutations


class Tree:
    """A copy of the part of the repository that the checks need."""

    def __init__(self, root: Path, into: Path) -> None:
        self.path = into
        leave = shutil.ignore_patterns("__pycache__", "*.egg-info", "build", "node_modules")
        for part in COPIED:
            source, target = root / part, into / part
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, ignore=leave)
            else:
                shutil.copy2(source, target)
        # By the hash of their source: a mutation may have the size and the second of the original.
        checked = py_compile.PycInvalidationMode.CHECKED_HASH
        for part in ("lowcode_faas_core", "plugins"):
            compileall.compile_dir(str(into / part), quiet=2, invalidation_mode=checked)

    def run(self, node_ids: Iterable[str], patience_s: float) -> tuple[int | None, str]:
        """Run tests against this copy; return pytest's exit code (``None``: time is up) and output."""
        plugins = sorted(path for path in (self.path / "plugins").iterdir() if path.is_dir())
        environ = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(map(str, [self.path, *plugins])),
            "PYTHONDONTWRITEBYTECODE": "1",
            # A run takes a second or two, and the plugins that happen to be installed as much again.
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        }
        command = [sys.executable, "-m", "pytest", "-x", "-q", "--timeout=0", "--tb=short"]
        command += ["-p", "no:cacheprovider", *PLUGINS]
        command += ["-c", str(self.path / "pyproject.toml"), "--rootdir", str(self.path)]
        with tempfile.TemporaryFile("w+") as output:
            process = subprocess.Popen(
                [*command, *node_ids],
                cwd=self.path,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            code: int | None
            try:
                code = process.wait(patience_s)
            except subprocess.TimeoutExpired:
                code = None
            finally:
                _end_session(process)
            output.seek(0)
            return code, output.read()

    def try_out(self, mutation: Mutation, suites: dict[str, str]) -> Outcome:
        """Make a mutation, run its checks, and take it back; a race is looked for again."""
        outcome = self._try_once(mutation, suites)
        for _ in range(TRIES - 1 if mutation.races else 0):
            if not outcome.caught:
                outcome = self._try_once(mutation, suites)
        return outcome

    def _try_once(self, mutation: Mutation, suites: dict[str, str]) -> Outcome:
        file = self.path / mutation.file
        original = file.read_text()
        wrong = stale([mutation], self.path)
        if wrong:
            return Outcome(mutation, False, wrong[0])
        began = time.monotonic()
        file.write_text(original.replace(mutation.old, mutation.new))
        try:
            patience_s = HANG_S if mutation.hangs else PATIENCE_S
            code, said = self.run(_node_ids(mutation, suites), patience_s)
        finally:
            file.write_text(original)
        seconds = time.monotonic() - began
        # A module that cannot be imported proves nothing about the checks in it.
        found = _FAILED.search(said)
        if code == TESTS_FAILED and found:
            return Outcome(mutation, True, f"by {found[1]}", seconds)
        if code is None and mutation.hangs:
            return Outcome(mutation, True, "by never ending", seconds)
        if code == 0:
            why = "it survived"
        elif code is None:
            why = f"its checks took more than {patience_s:.0f} s"
        else:
            why = f"pytest ended with {code}:\n{said[-2000:]}"
        return Outcome(mutation, False, why, seconds)


def _end_session(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _node_ids(mutation: Mutation, suites: dict[str, str]) -> list[str]:
    node = suites[mutation.suite]
    return [f"{node}::{check}" for check in mutation.checks]


def _baseline(suites: dict[str, str], mutations: Sequence[Mutation]) -> list[tuple[str, list[str]]]:
    """Return, for each suite, every check the mutations name."""
    wanted: dict[str, dict[str, None]] = {}
    for mutation in mutations:
        nodes = wanted.setdefault(mutation.suite, {})
        nodes.update(dict.fromkeys(_node_ids(mutation, suites)))
    return [(suite, list(nodes)) for suite, nodes in wanted.items()]


def prove(
    mutations: Sequence[Mutation],
    suites: dict[str, str],
    tell: Callable[[str], object] = print,
    root: Path = ROOT,
) -> list[Outcome]:
    """Run every check unbroken, then every mutation; return the outcomes in order.

    :raises RuntimeError: when a check fails although nothing is broken.
    """
    with tempfile.TemporaryDirectory(prefix="faas-mutations-") as folder:
        trees: queue.SimpleQueue[Tree] = queue.SimpleQueue()
        for number in range(WORKERS):
            trees.put(Tree(root, Path(folder) / str(number)))

        def with_tree(use: Callable[[Tree], T]) -> T:
            tree = trees.get()
            try:
                return use(tree)
            finally:
                trees.put(tree)

        with ThreadPoolExecutor(WORKERS) as workers:
            unbroken = {
                suite: workers.submit(
                    with_tree, lambda tree, nodes=nodes: tree.run(nodes, PATIENCE_S * 2)
                )
                for suite, nodes in _baseline(suites, mutations)
            }
            for suite, future in unbroken.items():
                code, said = future.result()
                if code != 0:
                    raise RuntimeError(f"{suite} fails although nothing is broken:\n{said[-6000:]}")
            futures = [
                workers.submit(with_tree, lambda tree, one=one: tree.try_out(one, suites))
                for one in mutations
            ]
            outcomes = []
            for future in futures:
                outcomes.append(future.result())
                tell(_line(outcomes[-1]))
            return outcomes


def _line(outcome: Outcome) -> str:
    verdict = "caught" if outcome.caught else "NOT CAUGHT"
    why = f": {outcome.why}" if outcome.why else ""
    return f"{verdict:10} {outcome.seconds:5.1f} s  {outcome.mutation.name}{why}"


def stale(mutations: Iterable[Mutation], root: Path = ROOT) -> list[str]:
    """Return what is wrong with the list itself: texts that are gone, changes that are not Python."""
    wrong = []
    for mutation in mutations:
        text = (root / mutation.file).read_text()
        if text.count(mutation.old) != 1:
            wrong.append(
                f"{mutation.name}: old is in {mutation.file} {text.count(mutation.old)} times"
            )
            continue
        try:
            compile(text.replace(mutation.old, mutation.new), mutation.file, "exec")
        except SyntaxError as error:
            wrong.append(f"{mutation.name}: {error}")
    return wrong


def main(arguments: Sequence[str]) -> int:
    """Run the command line; return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", nargs="*", help="try the mutations whose name holds one of these")
    parser.add_argument(
        "--check", action="store_true", help="see only whether the list fits the code"
    )
    parser.add_argument("--list", type=Path, default=LIST, help="another list than mutations.toml")
    given = parser.parse_args(arguments)
    suites, mutations = load(given.list)
    if given.check:
        wrong = stale(mutations)
        print("\n".join([*wrong, f"mutations: {len(mutations)} listed, {len(wrong)} stale"]))
        return 1 if wrong else 0
    chosen = [m for m in mutations if not given.part or any(one in m.name for one in given.part)]
    outcomes = prove(chosen, suites, lambda line: print(line, flush=True))
    caught = sum(outcome.caught for outcome in outcomes)
    print(f"mutations: {caught} of {len(outcomes)} caught")
    return 0 if caught == len(outcomes) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
