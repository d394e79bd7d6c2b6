"""What this machine gives a serving process: descriptors, shared memory, the kernel's own means."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from lowcode_faas_core.catalogue import fold
from lowcode_faas_core.findings import Finding, failure, fine, warning
from lowcode_faas_core.plugins import RUNNER
from lowcode_faas_core.startup import Startup

__all__ = ["descriptors", "kernel", "limits_enough", "shared_memory", "swap", "time_of_day"]

#: Connections that gunicorn takes into each worker.
CONNECTIONS: Final = 1000
#: Descriptors of one sandbox in its serving process, at most.
OF_A_SANDBOX: Final = 8
#: Descriptors of everything else in a serving process.
OF_THE_REST: Final = 128
#: gunicorn's heartbeats take a page a worker; below this even they may not fit, in bytes.
HEARTBEATS_BYTES: Final = 1 << 20
#: This code cannot have been written before, in seconds since the epoch: 2026-01-01.
PAST: Final = 1_767_225_600


def descriptors(startup: Startup) -> Iterator[Finding]:
    """Compare the limit on open files with what a serving process may need."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = CONNECTIONS + OF_THE_REST
    if startup.registry.selected(RUNNER):
        share = startup.pool.share(startup.server.workers)
        needed += OF_A_SANDBOX * share.max_instances
    yield limits_enough(soft, needed)


def limits_enough(soft: int, needed: int) -> Finding:
    """Judge a limit on open files."""
    if soft != resource.RLIM_INFINITY and soft < needed:
        return warning(
            "open files",
            f"the limit is {soft}, and a serving process under load may need {needed}: raise it "
            "where the service is started (LimitNOFILE=, ulimit -n)",
        )
    return fine("open files", f"the limit is {soft}, and {needed} may be needed")


def shared_memory(startup: Startup, path: Path = Path("/dev/shm")) -> Iterator[Finding]:  # noqa: S108
    """See that gunicorn's heartbeats need no disk."""
    del startup
    if not path.is_dir() or not os.access(path, os.W_OK):
        yield warning(
            "shared memory",
            f"{path} is not writable: heartbeats of the gunicorn workers go to a disk, and a slow "
            "one has them killed as hung",
        )
        return
    room = os.statvfs(path)
    left = room.f_bavail * room.f_frsize
    if left < HEARTBEATS_BYTES:
        yield warning("shared memory", f"{path} has {left >> 10} KiB left: make it larger")
    else:
        yield fine("shared memory", f"{path} has {left >> 20} MiB left")


def kernel(startup: Startup) -> Iterator[Finding]:
    """See that processes can be held by descriptor, which the process runner needs."""
    if not _runs_processes(startup):
        return
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError as error:
        yield failure(
            "kernel",
            f"pidfd_open is refused ({error.strerror}): the process runner needs Linux 5.3 or "
            "newer, and a seccomp profile that allows it",
        )
    else:
        yield fine("kernel", f"Linux {os.uname().release}, with pidfd_open")


def swap(startup: Startup, root: Path = Path("/")) -> Iterator[Finding]:
    """Warn where memory limits of sandboxes do not bind what is swapped."""
    if not _runs_processes(startup):
        return
    groups = root / "sys/fs/cgroup"
    if (groups / "cgroup.controllers").exists():
        yield fine("control groups", "version 2")
        return
    if not (groups / "memory").is_dir():
        yield warning("control groups", "no memory controller is mounted: memory has no hard limit")
        return
    swaps = (root / "proc/swaps").read_text().splitlines()[1:]
    if swaps and not (groups / "memory/memory.memsw.limit_in_bytes").exists():
        yield warning(
            "control groups",
            "version 1 without swap accounting, and there is swap: a sandbox at its memory limit "
            "swaps instead of ending; boot with swapaccount=1, with version 2, or without swap",
        )
    else:
        yield warning(
            "control groups", "version 1, which kernels and engines give up: boot with version 2"
        )


def time_of_day(startup: Startup) -> Iterator[Finding]:
    """See that the clock was ever set."""
    del startup
    if time.time() < PAST:
        yield failure("clock", "this machine's clock is in the past: set it, by NTP")


def _runs_processes(startup: Startup) -> bool:
    """Tell whether sandboxes are processes of this machine; an engine answers for its own."""
    return any(
        fold(plugin.name) in ("process", "process-runner")
        for plugin in startup.registry.selected(RUNNER)
    )
