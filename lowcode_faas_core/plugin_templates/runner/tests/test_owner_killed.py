from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from lowcode_faas_placeholder import lowcode_faas_launcher

OWNER = """
import os, time
from lowcode_faas_core.model import SandboxLimits
from lowcode_faas_placeholder import lowcode_faas_launcher

limits = SandboxLimits(memory_mb=256, cpus=1.0, pids=64, tmp_mb=16)
launcher = lowcode_faas_launcher(os.environ)
sandbox = launcher.start(limits, time.monotonic_ns() + 20_000_000_000)
print(sandbox.pid, flush=True)
time.sleep(60)
"""


def lives(pid):
    try:
        return b") Z " not in Path("/proc", str(pid), "stat").read_bytes()
    except OSError:
        return False


def test_nothing_outlives_an_owner_that_is_killed(tmp_path, monkeypatch):
    # Given a service of its own with a sandbox
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with subprocess.Popen([sys.executable, "-c", OWNER], stdout=subprocess.PIPE) as owner:
        pid = int(owner.stdout.readline())
        assert lives(pid)
        # When it is killed, and cannot clean up
        owner.kill()
    # Then the kernel ends the sandbox, and the next service removes its folder
    deadline = time.monotonic() + 10
    while lives(pid):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    launcher = lowcode_faas_launcher(os.environ)
    assert launcher.adopt_orphans() == 1
    assert list(tmp_path.iterdir()) == []
    launcher.close()
