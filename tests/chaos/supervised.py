"""A role that is started again whenever it ended, as an init system does, and when it was down."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import urllib3

__all__ = ["Supervised", "parents"]

COMMAND = Path(sys.executable).with_name("lowcode-faas")


def parents() -> dict[int, tuple[int, str]]:
    """Return parent and state letter of every process."""
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):
                stat = Path(f"/proc/{name}/stat").read_text(errors="replace")
                fields = stat.rpartition(")")[2].split()
                found[int(name)] = (int(fields[1]), fields[0])
    return found


class Supervised:
    """One role over all its lives; a thread watches over it until :meth:`close`."""

    def __init__(self, role: str, port: int, folder: Path, variables: dict[str, str]) -> None:
        self.role = role
        self.url = f"http://127.0.0.1:{port}"
        self.lives = 0
        #: When something of it was killed, and when it was seen to serve again (``inf``: not yet).
        self.hurt: list[list[float]] = []
        self._folder = folder
        self._environ = {
            **{k: v for k, v in os.environ.items() if not k.startswith("LOWCODE_FAAS_")},
            "TMPDIR": str(folder / "tmp"),
            **{f"LOWCODE_FAAS_{k}": v for k, v in variables.items()},
        }
        self._closing = threading.Event()
        self._http = urllib3.PoolManager(retries=False, timeout=2)
        self.process = self._start()
        self._watch = threading.Thread(target=self._look_after, daemon=True)
        self._watch.start()

    def close(self) -> None:
        """Start it no more."""
        self._closing.set()
        self._watch.join(10)

    def ready(self) -> bool:
        """Ask it, over a connection of its own."""
        try:
            headers = {"Connection": "close"}
            return self._http.request("GET", f"{self.url}/readyz", headers=headers).status == 200
        except urllib3.exceptions.HTTPError:
            return False

    def note_kill(self) -> None:
        """Remember that it is hurt from now on."""
        self.hurt.append([time.monotonic(), float("inf")])

    def was_hurt(self, began: float, ended: float) -> bool:
        """Tell whether it was in the time between."""
        return any(start <= ended and until >= began for start, until in list(self.hurt))

    def processes(self) -> list[int]:
        """Return its living processes, the master first."""
        below: dict[int, list[int]] = {}
        for pid, (parent, state) in parents().items():
            if state not in "ZX":
                below.setdefault(parent, []).append(pid)
        found = [self.process.pid] if self.process.poll() is None else []
        for pid in found:
            found += below.get(pid, ())
        return found

    def serving(self) -> list[int]:
        """Return its gunicorn workers: the master's children."""
        table = parents()
        return [pid for pid in self.processes() if table.get(pid, (0,))[0] == self.process.pid]

    def text(self) -> str:
        """Return what all its lives printed."""
        files = sorted(self._folder.glob(f"{self.role}-*.log"))
        return "".join(file.read_text(errors="replace") for file in files)

    def _start(self) -> subprocess.Popen[bytes]:
        self.lives += 1
        with (self._folder / f"{self.role}-{self.lives}.log").open("wb") as output:
            return subprocess.Popen(
                [COMMAND, self.role],
                cwd=self._folder,
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _look_after(self) -> None:
        while not self._closing.wait(0.05):
            if self.process.poll() is not None:
                self.process = self._start()
            open_since = [window for window in self.hurt if window[1] == float("inf")]
            # One look tells of one serving process: a killed one is replaced within a second.
            if open_since and time.monotonic() - open_since[-1][0] > 1 and self.ready():
                for window in open_since:
                    window[1] = time.monotonic()
