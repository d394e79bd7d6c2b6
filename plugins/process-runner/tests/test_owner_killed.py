"""When the serving process is killed, nothing it started lives on, and a later life clears up."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from lowcode_faas_process_runner import procfs
from lowcode_faas_process_runner.cgroups import Cgroups
from lowcode_faas_process_runner.leases import Leases

OWNER = """
import dataclasses, json, os, sys, time
from pathlib import Path
from lowcode_faas_process_runner import ProcessLauncher, ProcessSettings
from lowcode_faas_process_runner.cgroups import Cgroups
from lowcode_faas_process_runner.layers import detect
from lowcode_faas_process_runner.leases import Leases
from lowcode_faas_core.model import SandboxLimits
from lowcode_faas_core.sandbox.protocol import Kind, encode

folder, kind = sys.argv[1:]
settings = ProcessSettings()
layers = detect(settings.uid_base)
if kind != "best":
    layers = dataclasses.replace(layers, private_tmp=False)
if kind == "no_namespace":
    layers = dataclasses.replace(layers, pid_namespace=False, user_namespace=False)
launcher = ProcessLauncher(settings, os.environ, layers=layers, leases=Leases(Path(folder)))
limits = SandboxLimits(memory_mb=256, cpus=1.0, pids=64, tmp_mb=16)
pids = []
for spins in (True, True, False):
    sandbox = launcher.start(limits, time.monotonic_ns() + 20 * 10**9)
    if spins:
        load = {"source": "for (;;);", "file": "f.mjs", "env": {}, "timeout_ms": 1000}
        sandbox.write(encode(sandbox.token, Kind.LOAD, json.dumps(load).encode()))
    pids += [sandbox.pid, sandbox.node_pid]
print(json.dumps(pids), flush=True)
time.sleep(60)
"""


@pytest.fixture
def owner(leases_folder, request):
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(leases_folder), request.param],
        stdout=subprocess.PIPE,
    )
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def _lives(pid):
    # A zombie answers kill -0: only the state letter tells.
    return procfs.state(pid) not in (None, "Z", "X")


@pytest.mark.fault(98)
@pytest.mark.fault(100)
@pytest.mark.parametrize("owner", ["best", "no_tmp", "no_namespace"], indirect=True)
def test_kill_9_of_the_owner_ends_its_sandboxes(owner, leases_folder, launchers):
    # Given an owner with two sandboxes that spin and an idle one
    pids = json.loads(owner.stdout.readline())
    assert all(map(_lives, pids))
    left = list(leases_folder.iterdir())
    groups = _groups(leases_folder)

    # When it is killed
    owner.send_signal(signal.SIGKILL)
    owner.wait()

    # Then nothing of it runs two seconds later
    end = time.monotonic() + 2
    while any(map(_lives, pids)):
        assert time.monotonic() < end, [(pid, procfs.state(pid)) for pid in pids]
        time.sleep(0.01)

    # And the next life finds and removes what it left on disk, once
    folders = {path.name for path in left if path.is_dir()}
    expected = len(folders | groups)
    survivor = launchers("best")
    assert survivor.adopt_orphans() == expected
    assert survivor.adopt_orphans() == 0
    assert not [path for path in leases_folder.iterdir() if path in left]
    assert _groups(leases_folder) == set()


def _groups(leases_folder):
    owners = {path.name.removesuffix(".lease") for path in leases_folder.glob("*.lease")}
    return {
        folder.name.removeprefix("lowcode-faas-")
        for parent in Cgroups.find().parents.values()
        for folder in parent.glob("lowcode-faas-*-*")
        if folder.name.split("-")[2] in owners
    }


def test_a_lease_is_taken_over_only_when_its_owner_is_gone(leases_folder):
    living, looking = Leases(leases_folder), Leases(leases_folder)
    living.acquire()
    folder = living.make_folder(f"{living.owner}-1", None)
    with looking.abandoned() as owners:
        assert owners == []
    os.close(living._held)  # what the kernel does at the owner's end
    with looking.abandoned() as owners:
        assert owners == [living.owner]
        assert looking.remove_folders(living.owner) == {Path(folder).name}
    with looking.abandoned() as owners:
        assert owners == []


def test_removing_follows_no_link(leases_folder, tmp_path):
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("kept")
    leases = Leases(leases_folder)
    folder = Path(leases.make_folder(f"{leases.owner}-1", None))
    (folder / "link").symlink_to(precious)
    leases.remove_folders(leases.owner)
    assert not folder.exists()
    assert (precious / "file").read_text() == "kept"
    leases.release()


def test_a_folder_of_someone_else_is_refused(leases_folder, tmp_path):
    from lowcode_faas_core.errors import RunnerUnavailable

    (tmp_path / "theirs").mkdir()
    leases_folder.symlink_to(tmp_path / "theirs")
    with pytest.raises(RunnerUnavailable, match="not a folder of this user"):
        Leases(leases_folder).acquire()
