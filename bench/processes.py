"""What a server and everything it started costs: CPU time and memory, read from /proc."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

__all__ = [
    "ancestors",
    "connections",
    "cpu_by_executable",
    "cpu_s",
    "executable",
    "pss_bytes",
    "tree",
]

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
#: Places in /proc/PID/stat after the name: parent, then utime, stime, cutime, cstime.
_PARENT = 1
_TIMES = slice(11, 15)
#: Places in /proc/net/tcp and tcp6, and its word for an established connection.
_LOCAL, _STATE, _INODE = 1, 3, 9
_ESTABLISHED = "01"


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
    return sum(cpu_by_executable(pid).values())


def cpu_by_executable(pid: int) -> Counter[str]:
    """Return the same by what its members run; what has ended counts as its parent."""
    ticks: Counter[str] = Counter()
    for each in tree(pid):
        stat = _stat(each)
        if stat is not None:
            ticks[executable(each)] += sum(map(int, stat[_TIMES]))
    return Counter({name: count * _TICK_S for name, count in ticks.items()})


def connections(pid: int, port: int) -> Counter[int]:
    """Return how many connections to a port each process of the tree has."""
    tables = (Path(f"/proc/net/{name}") for name in ("tcp", "tcp6"))
    lines = (line.split() for each in tables for line in each.read_text().splitlines()[1:])
    sockets = {
        f"socket:[{parts[_INODE]}]"
        for parts in lines
        if parts[_STATE] == _ESTABLISHED and int(parts[_LOCAL].rpartition(":")[2], 16) == port
    }
    return Counter({each: _open_of(each, sockets) for each in tree(pid)})


def _open_of(pid: int, sockets: set[str]) -> int:
    found = 0
    try:
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                found += str(entry.readlink()) in sockets
    except OSError:
        return 0
    return found


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
