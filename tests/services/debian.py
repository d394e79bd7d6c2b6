"""Installs packages of Debian that tests need: in continuous integration, and as root."""

from __future__ import annotations

import fcntl
import os
import subprocess
import tempfile
from pathlib import Path

__all__ = ["install"]


def install(*packages: str) -> None:
    """Install packages where that may be done; whoever needs them looks whether they are there.

    One process after the other: apt gives up where another one is at work.
    """
    if not os.environ.get("CI") or os.geteuid() != 0:
        return
    environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    options = ["--yes", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=300"]
    with (Path(tempfile.gettempdir()) / "lowcode-faas-tests-apt.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for command in (["update"], ["install", *options, *packages]):
            subprocess.run(["apt-get", *command], env=environ, capture_output=True, check=False)
