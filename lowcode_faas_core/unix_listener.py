"""A worker's Unix socket: taken from nobody who lives, and there until the worker is done.

gunicorn alone removes the socket of whoever listens at the path; and its own when it begins to stop,
while its workers still serve and finish. Where that is gone by then, it ends without them.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from pathlib import Path
from typing import Any, Final

from gunicorn.arbiter import Arbiter

from lowcode_faas_core.errors import ConfigurationError
from lowcode_faas_core.settings import PREFIX

__all__ = ["Master", "check_path"]

#: Number of the first of the sockets that systemd hands over.
HANDED_OVER: Final = 3


def check_path(path: Path) -> None:
    """Say that somebody listens at ``path``, or that nobody can.

    A socket that was left by a killed worker is no obstacle. What systemd hands over is all that is
    listened on: the path must be among it.

    :raises ConfigurationError: when a worker cannot have it.
    """
    if "GUNICORN_FD" in os.environ:
        return  # the listeners are inherited from an earlier master
    given = os.environ.get("LISTEN_FDS")
    reason = _obstacle(path) if given is None else _missing(path, int(given))
    if reason:
        raise ConfigurationError(
            [f"{PREFIX}WORKER_SOCKET is {path}, which cannot be used: {reason}"]
        )


def _missing(path: Path, count: int) -> str:
    for number in range(HANDED_OVER, HANDED_OVER + count):
        try:
            with socket.socket(fileno=os.dup(number)) as each:
                if each.getsockname() == str(path):
                    return ""
        except OSError as error:
            return f"what LISTEN_FDS hands over is no socket: {error.strerror}"
    return "it is not handed over with the other sockets; name it by ListenStream= as well"


def _obstacle(path: Path) -> str:
    if not os.access(path.parent, os.W_OK | os.X_OK, effective_ids=True):
        known = path.parent.is_dir()
        return f"its folder {'cannot be written to' if known else 'does not exist'}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            if not stat.S_ISSOCK(path.lstat().st_mode):
                return "something else is there, which is no socket"
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return ""
        except BlockingIOError:
            pass  # so many wait to be accepted that it is full
        except OSError as error:
            return error.strerror or str(error)
    return "a worker listens there"


class Master(Arbiter):  # type: ignore[misc]  # gunicorn has no types
    """gunicorn's master, for which a Unix socket is as much its own as a port."""

    LISTENERS: list[Any]

    def __init__(self, app: Any) -> None:
        super().__init__(app)
        #: Sockets that are its own to remove, each with its device and inode.
        self.made: dict[Path, tuple[int, int]] = {}

    def start(self) -> None:
        """Listen.

        :raises ConfigurationError: others have begun to since the start was tried.
        """
        for address in self.cfg.address:
            if isinstance(address, str):
                check_path(Path(address))
        super().start()
        if not self.systemd:
            for path in map(Path, self._paths()):
                with contextlib.suppress(OSError):
                    self.made[path] = _identity(path)

    def stop(self, graceful: bool = True) -> None:
        """Have the workers end, by whom new connections are taken as long as they do; then go."""
        others = [each for each in self.LISTENERS if each.FAMILY != socket.AF_UNIX]
        for listener in self.LISTENERS:
            if listener not in others:
                listener.close()
        self.LISTENERS = others
        last = self.reexec_pid == self.master_pid == 0
        super().stop(graceful)
        for path, made in self.made.items() if last else ():
            with contextlib.suppress(OSError):
                if _identity(path) == made:
                    path.unlink()

    def _paths(self) -> list[str]:
        unix = [each for each in self.LISTENERS if each.FAMILY == socket.AF_UNIX]
        return [each.getsockname() for each in unix]


def _identity(path: Path) -> tuple[int, int]:
    found = path.lstat()
    return found.st_dev, found.st_ino
