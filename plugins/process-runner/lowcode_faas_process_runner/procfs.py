"""What the kernel says about a process that is not our child: states, parents, clocks, how it ended."""

from __future__ import annotations

import contextlib
import fcntl
import struct
from pathlib import Path
from typing import Final

__all__ = ["cpu_clock", "exit_status", "parent", "state"]

#: _IOWR(0xFF, 11, struct pidfd_info) with the 64 bytes of its first version.
_PIDFD_GET_INFO: Final = 0xC040FF0B
_PIDFD_INFO_EXIT: Final = 1 << 3
_INFO: Final = struct.Struct("=QQ11Ii")


def cpu_clock(pid: int) -> int:
    """Return the id of the clock that counts the CPU time of all threads of ``pid``."""
    return (~pid << 3) | 2


def _fields(pid: int) -> list[bytes] | None:
    try:
        line = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    # The name in parentheses may hold spaces and parentheses itself.
    return line[line.rindex(b")") + 2 :].split()


def state(pid: int) -> str | None:
    """Return the state letter (``Z``: ended, not reaped yet), ``None`` when there is no process."""
    fields = _fields(pid)
    return fields[0].decode("ascii") if fields else None


def parent(pid: int) -> int | None:
    """Return the pid of the parent, ``None`` when there is no process."""
    fields = _fields(pid)
    return int(fields[1]) if fields else None


def exit_status(pidfd: int) -> int | None:
    """Return the wait status of an ended process that someone else reaped.

    ``None`` where the kernel cannot tell (before Linux 6.15).
    """
    request = bytearray(_INFO.size)
    struct.pack_into("=Q", request, 0, _PIDFD_INFO_EXIT)
    with contextlib.suppress(OSError):
        fcntl.ioctl(pidfd, _PIDFD_GET_INFO, request)
        answer = _INFO.unpack(request)
        if answer[0] & _PIDFD_INFO_EXIT:
            return int(answer[-1])
    return None
