"""Reads from /proc what the soak compares: processes of the service, their memory, descriptors."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Footprint", "children", "footprint", "nodes"]


@dataclass(frozen=True)
class Footprint:
    """What one process holds."""

    rss_mb: float
    #: What is open, by kind: what a descriptor links to, without the number of a socket or pipe.
    open: Counter[str]
    threads: int

    @property
    def descriptors(self) -> int:
        """How many are open."""
        return self.open.total()

    def __str__(self) -> str:
        return f"{self.rss_mb:.1f} MB, {self.descriptors} descriptors, {self.threads} threads"


def footprint(pid: int) -> Footprint:
    """Return what a process holds now."""
    status = dict(
        line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines()
    )
    return Footprint(
        int(status["VmRSS"].split()[0]) / 1024,
        _open(pid),
        int(status["Threads"]),
    )


def _open(pid: int) -> Counter[str]:
    """Count what is open, but for the store of executions: it opens a second connection when needed."""
    found: Counter[str] = Counter()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            target = os.readlink(link)
            if "/executions/" not in target:
                found[target.partition(":[")[0]] += 1
    return found


def _parents() -> dict[int, int]:
    """Return the parent of every process that lives; a zombie does not."""
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                stat = Path(f"/proc/{name}/stat").read_text(errors="replace")
            except OSError:
                continue
            fields = stat.rpartition(")")[2].split()
            if fields[0] not in "ZX":
                found[int(name)] = int(fields[1])
    return found


def children(pid: int) -> list[int]:
    """Return the processes a process started, the eldest first."""
    found = [child for child, parent in _parents().items() if parent == pid]
    return sorted(found, key=_started)


def _started(pid: int) -> int:
    try:
        return int(
            Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[19]
        )
    except OSError:
        return 1 << 62


def nodes(pid: int, test: Callable[[int], bool] | None = None) -> list[int]:
    """Return the Node processes below a process."""
    below: dict[int, list[int]] = {}
    for child, parent in _parents().items():
        below.setdefault(parent, []).append(child)
    waiting, found = [pid], []
    while waiting:
        for child in below.get(waiting.pop(), ()):
            waiting.append(child)
            try:
                if "node" in os.readlink(f"/proc/{child}/exe"):
                    found.append(child)
            except OSError:
                continue
    return found if test is None else [node for node in found if test(node)]
