"""Starts a command as systemd starts a service: ``python activate.py FD[,FD] COMMAND…``.

The listening sockets become descriptors from 3 on, told by ``LISTEN_FDS`` and ``LISTEN_PID``; what
the unit's hardening asks of the kernel and any process may ask for itself is in force.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import sys

#: From the kernel's prctl.h.
PR_SET_NO_NEW_PRIVS, PR_SET_MDWE, MDWE_REFUSE_EXEC_GAIN = 38, 65, 1


def main(listeners: list[int], command: list[str]) -> None:
    """Become the command."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "PR_SET_NO_NEW_PRIVS")
    # MemoryDenyWriteExecute=; kernels before 6.3 do not know it. Node compiles at run time, so that
    # only what starts no Node itself may be asked to do without.
    if os.environ.get("ACTIVATE_MDWE"):
        libc.prctl(PR_SET_MDWE, MDWE_REFUSE_EXEC_GAIN, 0, 0, 0)
    # Above those that are written to: one of them may be there already.
    for number, listener in enumerate([fcntl.fcntl(each, fcntl.F_DUPFD, 10) for each in listeners]):
        os.dup2(listener, 3 + number)
    os.environ |= {"LISTEN_FDS": str(len(listeners)), "LISTEN_PID": str(os.getpid())}
    os.execv(command[0], command)


if __name__ == "__main__":
    main([int(each) for each in sys.argv[1].split(",")], sys.argv[2:])
