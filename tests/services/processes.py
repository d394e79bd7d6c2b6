"""Server processes of the tests: they end with whoever started them, whatever ends that."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

__all__ = ["WITH_ME", "Server", "children", "free_port"]

#: Kills the server when the thread that started it is gone: after ``kill -9`` nobody else would.
WITH_ME = ["setpriv", "--pdeathsig", "KILL"]


#: Below those that Linux gives to outgoing connections: none of these takes one before its server.
PORTS = range(20_000, 32_000)


def free_port() -> int:
    """Return a TCP port that nobody listens on now."""
    for port in random.sample(PORTS, 100):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise RuntimeError(f"nobody can listen on any of 100 ports of {PORTS}")


def children(pid: int) -> list[int]:
    """Return the processes whose parent is ``pid``."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(fields[1]) == pid:
                    found.append(int(entry.name))
    return found


class Server:
    """One server process and its children: started, stopped, killed, paused and resumed."""

    def __init__(
        self, command: list[str], log: Path, answers: Callable[[], bool], *, stop: int
    ) -> None:
        self._command = command
        self._log = log
        self._answers = answers
        self._stop = stop
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process the command became."""
        assert self._process is not None, "the server is not started"
        return self._process.pid

    def start(self, patience_s: float = 30.0) -> None:
        """Start it and return when it answers."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + patience_s
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                said = self._log.read_text(errors="replace")[-3000:]
                raise RuntimeError(f"{self._command} does not start:\n{said}")
            time.sleep(0.05)

    def stop(self, number: int | None = None) -> None:
        """End it with its own signal, or another one, and return when it is gone."""
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        self._signal(process.pid, signal.SIGCONT)
        if number == signal.SIGKILL:
            # Its children would notice, and answer until they do.
            self._signal(process.pid, number)
        process.send_signal(self._stop if number is None else number)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def kill(self) -> None:
        """End it as a crash would."""
        self.stop(signal.SIGKILL)

    def pause(self) -> None:
        """Stop it where it is: connections stay, nothing answers."""
        self._signal(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._signal(self.pid, signal.SIGCONT)

    @staticmethod
    def _signal(pid: int, number: int) -> None:
        for each in (pid, *children(pid)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(each, number)
