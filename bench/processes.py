"""What a server and everything it started costs: CPU time and memory, read from /proc."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ["ancestors", "cpu_s", "executable", "pss_bytes", "tree"]

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
#: Places in /proc/PID/stat after the name: parent, then utime, stime, cutime, cstime.
_PARENT = 1
_TIMES = slice(11, 15)


def _stat(pid: int) -> list[str] | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name stands in parentheses and may hold spaces, and parentheses.
    return text.rpartition(")")[2].split()


def tree(pid: int) -> list[int]:
    """Return ``pid`` and all that descends from it."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (stat := _stat(int(entry))) is not None:
            children.setdefault(int(stat[_PARENT]), []).append(int(entry))
    found = [pid]
    for each in found:
        found += children.get(each, [])
    return found


def cpu_s(pid: int) -> float:
    """Return the CPU time of the tree in seconds, with that of its members that have ended."""
    ticks = 0
    for each in tree(pid):
        stat = _stat(each)
        if stat is not None:
            ticks += sum(map(int, stat[_TIMES]))
    return ticks * _TICK_S


def pss_bytes(pid: int) -> int:
    """Return the memory of one process, shared pages by their share; 0 where it has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)


def ancestors(pid: int) -> Iterator[int]:
    """Yield the parent, its parent and so on, up to the init."""
    while pid > 1 and (stat := _stat(pid)) is not None:
        pid = int(stat[_PARENT])
        if pid:
            yield pid


def executable(pid: int) -> str:
    """Return the name of the file a process runs; empty where it has ended."""
    try:
        return Path(f"/proc/{pid}/exe").readlink().name
    except OSError:
        return ""
