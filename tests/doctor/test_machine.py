"""What lies on the disk and what the machine gives; permissions are real ones."""

from __future__ import annotations

import os
import shutil

import pytest

from lowcode_faas_core.doctor.machine import limits_enough, shared_memory, swap
from lowcode_faas_core.doctor.places import file_system
from lowcode_faas_core.findings import Level, clock
from lowcode_faas_core.startup import ProcessRole, Startup

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="gives files to other users")
AS_NOBODY = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups")


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "data"
    path.mkdir(mode=0o700)
    return path


@pytest.fixture
def startup():
    return Startup.read({"LOWCODE_FAAS_RUNNER": "process"}, ProcessRole.DISPATCHER)


def test_a_data_folder_that_others_read_is_a_warning(doctor, data):
    assert "is writable" in doctor().texts("ok", "data folder")
    data.chmod(0o755)
    report = doctor()
    assert f"chmod 700 {data}" in report.texts("warning", "data folder")
    assert report.code == 0


@as_root
def test_another_user_is_told_what_it_cannot_do(doctor, data, tmp_path):
    # pytest's folders are root's alone; whoever runs the doctor must get as far as ours.
    for above in (tmp_path, *tmp_path.parents):
        if above.stat().st_mode & 0o001 == 0:
            above.chmod(above.stat().st_mode | 0o011)
    report = doctor(command=AS_NOBODY)
    assert report.code == 1, report
    assert "belongs to root" in report.texts("warning", "data folder")
    assert "is not writable for nobody" in report.texts("failure", "data folder")
    assert "files:" in report.texts("failure", "storage")


@as_root
def test_a_data_folder_that_cannot_be_made_is_a_failure(doctor, tmp_path):
    for above in (tmp_path, *tmp_path.parents):
        if above.stat().st_mode & 0o001 == 0:
            above.chmod(above.stat().st_mode | 0o011)
    report = doctor(command=AS_NOBODY)
    assert "is not there, and" in report.texts("failure", "data folder")


def test_tokens_are_for_their_owner(doctor, data):
    tokens = data / "tokens.json"
    tokens.write_text('{"tokens": []}')
    tokens.chmod(0o600)
    assert "holds 0" in doctor().texts("ok", "tokens")
    tokens.chmod(0o644)
    assert "chmod 600" in doctor().texts("warning", "tokens")
    tokens.chmod(0o666)
    report = doctor()
    assert report.code == 1
    assert "chmod 600" in report.texts("failure", "tokens")
    tokens.chmod(0o600)
    tokens.write_text("{")
    assert "is not a file of tokens" in doctor().texts("failure", "tokens")


def test_secrets_in_files_are_not_for_everybody(doctor, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("x")
    secret.chmod(0o640)
    assert not doctor(WORKER_TOKEN_FILE=str(secret)).texts("warning", "secrets")
    secret.chmod(0o644)
    report = doctor(WORKER_TOKEN_FILE=str(secret))
    assert "open to every user" in report.texts("warning", "secrets")


def test_a_low_limit_on_open_files_is_a_warning(doctor):
    low = ("prlimit", "--nofile=512:512") if shutil.which("prlimit") else ()
    assert low, "util-linux is part of every Debian"
    assert "the limit is 512" in doctor(command=low).texts("warning", "open files")
    assert limits_enough(1024, 1024).level is Level.OK


def test_control_groups_are_judged_by_what_is_mounted(startup, tmp_path):
    def levels():
        return [(each.level, each.text) for each in swap(startup, tmp_path)]

    groups = tmp_path / "sys/fs/cgroup"
    groups.mkdir(parents=True)
    (tmp_path / "proc").mkdir()
    swaps = tmp_path / "proc/swaps"
    swaps.write_text("Filename Type Size Used Priority\n")
    assert "no memory controller" in levels()[0][1]
    (groups / "memory").mkdir()
    assert "version 1, which" in levels()[0][1]
    swaps.write_text("Filename Type Size Used Priority\n/swapfile file 1 0 -2\n")
    assert "swapaccount=1" in levels()[0][1]
    (groups / "cgroup.controllers").write_text("memory pids")
    assert levels()[0][0] is Level.OK


def test_without_shared_memory_heartbeats_go_to_a_disk(startup, tmp_path):
    (found,) = shared_memory(startup, tmp_path / "absent")
    assert found.level is Level.WARNING
    (found,) = shared_memory(startup, tmp_path)
    assert found.level is Level.OK


def test_the_file_system_of_a_path_is_the_innermost_mount_s(tmp_path):
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "1 0 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\n"
        "2 1 0:40 / /srv rw - nfs4 server:/srv rw\n"
        "3 1 0:41 / /srv/with\\040space rw - xfs /dev/sdb rw\n"
    )
    assert file_system("/srv/data", mounts) == "nfs4"
    assert file_system("/srv/with space/x", mounts) == "xfs"
    assert file_system("/srvother", mounts) == "ext4"


def test_clocks_are_compared_beyond_what_a_question_takes():
    # Asked at 100, answered at 103; whole seconds lose up to one.
    assert clock("x", 99.1, 100, 103).level is Level.OK
    assert clock("x", 110, 100, 103).level is Level.WARNING
    assert clock("x", 93, 100, 103).level is Level.WARNING
    assert clock("x", 1100, 100, 103).level is Level.FAILURE
