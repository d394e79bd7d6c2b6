"""Whatever ends a measurement ends what it started."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.servers import ROOT

#: Starts a server and a load on it, says their pids, and measures on.
MEASURING = """
import time
from bench.lab import Lab
from bench.load import Target, pressed
from bench.processes import tree
import os
with Lab() as lab:
    server = lab.bare()
    with pressed(Target(server, "/echo", {"input": {}}), 1):
        print(*tree(os.getpid())[1:], lab.folder, flush=True)
        time.sleep(60)
"""


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_servers_and_load_end_with_the_measurement(number: signal.Signals) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", MEASURING],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        # A shell has what it runs in the background ignore it, and the tests may be that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        assert process.stdout is not None
        *pids, folder = process.stdout.readline().split()
        assert len(pids) == 2
        process.send_signal(number)
        process.wait(30)
        last = time.monotonic() + 10
        while any(lives(int(pid)) for pid in pids):
            assert time.monotonic() < last, "something outlived it"
            time.sleep(0.02)
        if number is signal.SIGKILL:
            Path(folder).rmdir()
        assert not Path(folder).exists()
    finally:
        process.kill()
        process.communicate()
