"""Puts each sandbox in control groups of its own where the service may make some.

Version 1 has a tree for each controller, version 2 one for all. In version 2 a group that holds
processes cannot have limited groups below it, so the group above the service's is tried as well:
systemd's ``Delegate=yes`` with ``DelegateSubgroup=`` gives exactly that.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lowcode_faas_core.model import SandboxLimits

__all__ = ["Cgroups", "Group"]

_PREFIX: Final = "lowcode-faas-"
_CONTROLLERS: Final[tuple[str, ...]] = ("memory", "pids", "cpu")
#: The scheduler's period for the CPU quota, in µs: the kernel's default.
_PERIOD_US: Final = 100_000
#: Age of an empty group that nobody will enter any more.
_FORGOTTEN_S: Final = 60.0
#: How long the processes of an abandoned group may take to go after SIGKILL.
_EMPTYING_S: Final = 2.0


@dataclass(frozen=True)
class Group:
    """The groups of one sandbox: a folder for each controller, the same one in version 2."""

    folders: Mapping[str, Path]

    @property
    def paths(self) -> Sequence[str]:
        """The folders to enter, each once."""
        return list(dict.fromkeys(map(str, self.folders.values())))

    def holds(self, pid: int) -> bool:
        """Tell whether a process has entered all of them."""
        try:
            entered = Path(f"/proc/{pid}/cgroup").read_text()
        except OSError:
            return False
        names = [line.rsplit("/", 1)[-1] for line in entered.splitlines()]
        return all(names.count(Path(path).name) >= len(self.paths) for path in self.paths)

    def ran_out_of_memory(self) -> bool:
        """Tell whether the kernel killed a process here for the memory limit."""
        folder = self.folders.get("memory")
        if folder is None:
            return False
        for name in ("memory.events", "memory.oom_control"):
            with contextlib.suppress(OSError):
                counts = dict(line.split() for line in (folder / name).read_text().splitlines())
                return int(counts.get("oom_kill", "0")) > 0
        return False

    def remove(self) -> bool:
        """Remove the empty groups; False when one still holds a process."""
        gone = True
        for path in self.paths:
            try:
                Path(path).rmdir()
            except FileNotFoundError:
                continue
            except OSError:
                gone = False
        return gone


class Cgroups:
    """Where groups can be made: a parent folder for each controller that works here."""

    def __init__(self, parents: Mapping[str, Path], *, unified: bool) -> None:
        self.parents = parents
        self._unified = unified

    @classmethod
    def find(cls, cgroup_file: Path = Path("/proc/self/cgroup")) -> Cgroups:
        """Try what the machine offers; the result may offer nothing."""
        own: dict[str, str] = {}
        with contextlib.suppress(OSError):
            for line in cgroup_file.read_text().splitlines():
                _, controllers, path = line.split(":", 2)
                own.update(dict.fromkeys(controllers.split(","), path))
        mounts = _mounts()
        separate = {
            name: found
            for name in _CONTROLLERS
            if name in mounts and name in own and (found := mounts[name] / own[name].lstrip("/"))
        }
        one = cls(separate, unified=False)._working()
        if one.parents or "" not in own or "" not in mounts:
            return one
        service = mounts[""] / own[""].lstrip("/")
        for parent in (service, service.parent):
            if parent.is_relative_to(mounts[""]) and (names := _delegated(parent)):
                two = cls(dict.fromkeys(names, parent), unified=True)._working()
                if two.parents:
                    return two
        return one

    def create(self, name: str, limits: SandboxLimits, own_processes: int) -> Group:
        """Make the groups of one sandbox with its limits; about 0.3 ms.

        :raises OSError: when that fails; nothing is left behind then.
        """
        group = Group({key: parent / f"{_PREFIX}{name}" for key, parent in self.parents.items()})
        try:
            for path in group.paths:
                Path(path).mkdir()
            for key, folder in group.folders.items():
                for file, value in self._values(key, limits, own_processes):
                    (folder / file).write_text(value)
        except OSError:
            group.remove()
            raise
        for file in ("memory.swap.max", "memory.memsw.limit_in_bytes"):
            # Absent without swap accounting; then a limit on memory alone is what there is.
            with contextlib.suppress(OSError, KeyError):
                swap = "0" if self._unified else str(limits.memory_mb << 20)
                knob = group.folders["memory"] / file
                if knob.exists():
                    knob.write_text(swap)
        return group

    def remove_owned(self, owner: str) -> tuple[set[str], bool]:
        """Kill what is left in the groups of an owner and remove them.

        Return the names of the sandboxes, and whether all of their groups are gone now.
        """
        found: set[str] = set()
        all_gone = True
        for parent in set(self.parents.values()):
            for folder in parent.glob(f"{_PREFIX}{owner}-*"):
                found.add(folder.name.removeprefix(_PREFIX))
                all_gone &= _empty(folder)
        return found, all_gone

    def remove_forgotten(self, is_known: Callable[[str], bool]) -> None:
        """Remove old empty groups whose lease is lost, with a folder of temporary files that is gone.

        ``is_known`` tells whether there is a lease of an owner: groups that it made ahead are empty.
        """
        for parent in set(self.parents.values()):
            for folder in parent.glob(f"{_PREFIX}*"):
                if is_known(folder.name.removeprefix(_PREFIX).rpartition("-")[0]):
                    continue
                with contextlib.suppress(OSError):
                    if time.time() - folder.stat().st_mtime > _FORGOTTEN_S:
                        folder.rmdir()

    def _values(
        self, key: str, limits: SandboxLimits, own_processes: int
    ) -> Sequence[tuple[str, str]]:
        memory = str(limits.memory_mb << 20)
        quota = str(max(1000, int(limits.cpus * _PERIOD_US)))
        if key == "memory":
            return [("memory.max" if self._unified else "memory.limit_in_bytes", memory)]
        if key == "pids":
            return [("pids.max", str(limits.pids + own_processes))]
        if self._unified:
            return [("cpu.max", f"{quota} {_PERIOD_US}")]
        return [("cpu.cfs_quota_us", quota)]

    def _working(self) -> Cgroups:
        """Return the same with only the controllers a trial group can be made and limited with."""
        limits = SandboxLimits(memory_mb=64, cpus=1.0, pids=64, tmp_mb=1)
        working = {}
        for key, parent in self.parents.items():
            trial = Cgroups({key: parent}, unified=self._unified)
            with contextlib.suppress(OSError):
                trial.create(f"trial-{os.getpid()}-{time.monotonic_ns()}", limits, 0).remove()
                working[key] = parent
        return Cgroups(working, unified=self._unified)


def _mounts() -> dict[str, Path]:
    """Return where each controller's tree is mounted; version 2 under the empty name."""
    found: dict[str, Path] = {}
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/mountinfo").read_text().splitlines():
            left, _, right = line.partition(" - ")
            point = Path(left.split()[4])
            kind, _, options = right.split(" ", 2)
            if kind == "cgroup2":
                found.setdefault("", point)
            elif kind == "cgroup":
                for name in options.split(","):
                    found.setdefault(name, point)
    return found


def _delegated(parent: Path) -> list[str]:
    """Return the controllers that groups below ``parent`` have, or can be given."""
    with contextlib.suppress(OSError):
        available = (parent / "cgroup.controllers").read_text().split()
        wanted = [name for name in _CONTROLLERS if name in available]
        for name in wanted:
            with contextlib.suppress(OSError):
                (parent / "cgroup.subtree_control").write_text(f"+{name}")
        enabled = (parent / "cgroup.subtree_control").read_text().split()
        return [name for name in wanted if name in enabled]
    return []


def _empty(folder: Path) -> bool:
    """Kill what is in the group until it can be removed; return whether it is gone."""
    deadline = time.monotonic() + _EMPTYING_S
    while True:
        with contextlib.suppress(OSError):
            for line in (folder / "cgroup.procs").read_text().split():
                os.kill(int(line), signal.SIGKILL)
        try:
            folder.rmdir()
        except FileNotFoundError:
            return True
        except OSError:
            # A process that is still going keeps the group, also when it is listed no more.
            if time.monotonic() >= deadline:
                return False
        else:
            return True
        time.sleep(0.01)
