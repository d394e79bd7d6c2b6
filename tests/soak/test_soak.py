"""The short form of the soak."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.fault(42)
@pytest.mark.fault(98)
def test_nothing_is_wrong_while_hostile_code_runs_and_processes_are_killed() -> None:
    seconds = os.environ.get("SOAK_SHORT_SECONDS", "20")
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("soak.py"), "--seconds", seconds],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=200,
    )
    print(done.stdout[-8000:])
    assert done.returncode == 0, done.stdout[-12000:] + done.stderr[-4000:]
    assert "; 0 wrong" in done.stdout
