"""wrk makes the load: in continuous integration it is installed, elsewhere its absence is a skip."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest


@pytest.fixture(scope="session", autouse=True)
def wrk() -> None:
    if shutil.which("wrk") is None and os.environ.get("CI") and os.geteuid() == 0:
        quiet = {"check": False, "capture_output": True}
        subprocess.run(["apt-get", "update"], **quiet)
        subprocess.run(["apt-get", "install", "--yes", "--no-install-recommends", "wrk"], **quiet)
    if shutil.which("wrk") is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("wrk is needed: apt install wrk")
