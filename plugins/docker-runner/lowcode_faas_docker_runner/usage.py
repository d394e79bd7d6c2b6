"""CPU time and peak memory of a container, read from its cgroup where this host has it."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final

__all__ = ["Usage"]

_ROOT: Final = Path("/sys/fs/cgroup")
_READ_BYTES: Final = 512


class Usage:
    """Descriptors of the files that count; everything is unknown until they are found.

    Reading one costs a few microseconds. With an engine on another machine, or from within
    another container, there are no such files, and the answers stay ``None``.
    """

    def __init__(self) -> None:
        self._cpu: int | None = None
        self._cpu_in_stat = False
        self._peak: int | None = None

    def find(
        self, container: str, pid: int, root: Path = _ROOT, proc: Path = Path("/proc")
    ) -> None:
        """Open the files of the cgroup that ``pid`` is in, if that is the container's."""
        for line in _lines(proc / str(pid) / "cgroup"):
            _, controllers, path = line.split(":", 2)
            # On another machine the number is some other process.
            if container not in path:
                continue
            if not controllers:
                folder = root / path.lstrip("/")
                if not folder.is_dir():
                    folder = root / "unified" / path.lstrip("/")
                if self._cpu is None and (found := _open(folder / "cpu.stat")) is not None:
                    self._cpu, self._cpu_in_stat = found, True
                if self._peak is None:
                    self._peak = _open(folder / "memory.peak")
                continue
            names = controllers.split(",")
            if "cpuacct" in names:
                found = _open_below(root, ("cpuacct", controllers), path, "cpuacct.usage")
                if found is not None:
                    _close(self._cpu)
                    self._cpu, self._cpu_in_stat = found, False
            if "memory" in names:
                found = _open_below(
                    root, ("memory", controllers), path, "memory.max_usage_in_bytes"
                )
                if found is not None:
                    _close(self._peak)
                    self._peak = found

    def cpu_ns(self) -> int | None:
        """Return the CPU time of everything in the container, in nanoseconds."""
        data = _read(self._cpu)
        if data is None:
            return None
        if not self._cpu_in_stat:
            return int(data)
        name, _, rest = data.partition(b" ")
        return int(rest.split(None, 1)[0]) * 1000 if name == b"usage_usec" else None

    def peak(self) -> int | None:
        """Return the most memory the container has had, in bytes."""
        data = _read(self._peak)
        return None if data is None else int(data)

    def close(self) -> None:
        """Close the files; the answers are ``None`` from now on."""
        cpu, self._cpu = self._cpu, None
        peak, self._peak = self._peak, None
        _close(cpu)
        _close(peak)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


def _open(path: Path) -> int | None:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None


def _open_below(root: Path, folders: tuple[str, ...], path: str, name: str) -> int | None:
    for folder in folders:
        found = _open(root / folder / path.lstrip("/") / name)
        if found is not None:
            return found
    return None


def _read(descriptor: int | None) -> bytes | None:
    if descriptor is None:
        return None
    # The cgroup goes with the container: reading then fails, or finds nothing.
    try:
        return os.pread(descriptor, _READ_BYTES, 0) or None
    except OSError:
        return None


def _close(descriptor: int | None) -> None:
    if descriptor is not None:
        with contextlib.suppress(OSError):
            os.close(descriptor)
