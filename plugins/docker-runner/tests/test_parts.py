"""The parts that need no engine: the stream's framing, the threads, the counters, the settings."""

from __future__ import annotations

import os
import socket
import struct
import threading
import time

import pytest
from lowcode_faas_docker_runner import (
    DockerLauncher,
    FilesRunner,
    lowcode_faas_launcher,
    lowcode_faas_runner,
    lowcode_faas_settings,
)
from lowcode_faas_docker_runner.arguments import container
from lowcode_faas_docker_runner.ending import end_of
from lowcode_faas_docker_runner.ends import Ends
from lowcode_faas_docker_runner.meeting import Meetings
from lowcode_faas_docker_runner.settings import DockerSettings
from lowcode_faas_docker_runner.stream import AttachStream
from lowcode_faas_docker_runner.usage import Usage

from lowcode_faas_core.errors import ConfigurationError
from lowcode_faas_core.interfaces.launcher import End, Stream
from lowcode_faas_core.model import SandboxLimits

LIMITS = SandboxLimits(memory_mb=256, cpus=0.5, pids=64, tmp_mb=16)


def piece(number, data):
    return struct.pack(">BxxxL", number, len(data)) + data


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    stream = AttachStream(ours, ours.close)
    stream.timeout(0)
    yield stream, theirs
    ours.close()
    theirs.close()


def everything(stream):
    found = []
    while True:
        try:
            kind, data = stream.read(65536)
        except BlockingIOError:
            return found
        if not data:
            return [*found, None]
        found.append((kind, data))


@pytest.mark.fault(82)
@pytest.mark.parametrize("step", [1, 3, 7, 8, 9, 1000])
def test_pieces_torn_anywhere_come_out_whole(pair, step):
    stream, theirs = pair
    sent = piece(1, b"one") + piece(2, b"error") + piece(1, b"") + piece(1, "zwölf".encode())
    got = []
    for at in range(0, len(sent), step):
        theirs.sendall(sent[at : at + step])
        got += everything(stream)
    theirs.close()
    got += everything(stream)
    assert got[-1] is None
    channel = b"".join(data for kind, data in got[:-1] if kind is Stream.CHANNEL)
    assert channel == "onezwölf".encode()
    assert b"".join(data for kind, data in got[:-1] if kind is Stream.STDERR) == b"error"


def test_nothing_is_held_back_from_a_poll(pair):
    stream, theirs = pair
    theirs.sendall(piece(1, b"a" * 10) + piece(2, b"b" * 10))
    assert stream.read(4) == (Stream.CHANNEL, b"aaaa")
    assert theirs.getblocking()
    # What was not asked for is still the kernel's.
    assert stream._connection.recv(100, socket.MSG_PEEK).startswith(b"aaaaaa\x02")


def test_the_end_is_seen_without_reading_and_stops_writing(pair):
    stream, theirs = pair
    theirs.sendall(piece(1, b"last"))
    assert not stream.over(0)
    theirs.shutdown(socket.SHUT_WR)
    assert stream.over(0)
    with pytest.raises(ConnectionError):
        stream.write(b"x")
    assert everything(stream) == [(Stream.CHANNEL, b"last"), None]


def test_reads_and_writes_wait_as_long_as_told(pair):
    stream, _ = pair
    stream.timeout(0.02)
    with pytest.raises(BlockingIOError):
        stream.read(1)
    with pytest.raises(BlockingIOError):  # noqa: PT012  # the first ones fit the buffer
        for _ in range(1000):
            stream.write(b"x" * 65536)


@pytest.mark.fault(91)
def test_a_removal_that_hangs_holds_up_no_kill():
    ends, gate, killed = Ends(), threading.Event(), threading.Event()
    for _ in range(20):
        ends.remove(lambda: gate.wait(20))
    ends.settle(lambda: killed.set() or True)
    assert killed.wait(5)
    gate.set()
    ends.close(5)


def test_what_is_not_over_is_tried_again_and_at_once_when_hurried():
    ends, tries, done = Ends(), [], threading.Event()

    def settle():
        tries.append(time.monotonic())
        if len(tries) == 12:
            done.set()
        return len(tries) == 12

    ends.settle(settle)
    deadline = time.monotonic() + 20
    while not done.wait(0.01):
        ends.hurry()
        assert time.monotonic() < deadline
    assert tries[-1] - tries[0] < 5
    ends.close(5)


def test_a_thread_that_cannot_be_had_is_tried_for_again(monkeypatch):
    ends, first, second = Ends(), threading.Event(), threading.Event()

    def fails(_thread):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", fails)
        ends.settle(lambda: first.set() or True)
    ends.settle(lambda: second.set() or True)
    assert first.wait(5)
    assert second.wait(5)
    ends.close(5)


def test_an_error_in_one_does_not_end_the_threads():
    ends, done = Ends(), threading.Event()
    failed = []

    def fail():
        failed.append(1)
        if len(failed) < 3:
            raise RuntimeError("once more")
        return True

    ends.settle(fail)
    ends.settle(lambda: done.set() or True)
    assert done.wait(5)
    ends.close(5)
    assert len(failed) == 3


@pytest.mark.parametrize(
    ("state", "end"),
    [
        ({"ExitCode": 0}, End(exit_code=0)),
        ({"ExitCode": 255}, End(exit_code=255)),
        ({"ExitCode": 137}, End(signal=9)),
        ({"ExitCode": 137, "OOMKilled": True}, End(signal=9, out_of_memory=True)),
        ({"ExitCode": 134}, End(signal=6)),
    ],
)
def test_out_of_memory_is_the_flag_and_never_a_code(state, end):
    assert end_of(state) == end


ID = "0123456789abcdef" * 4


@pytest.mark.parametrize("version", [1, 2])
def test_usage_is_read_in_both_versions_of_cgroups(tmp_path, version):
    (tmp_path / "proc" / "7").mkdir(parents=True)
    lines = tmp_path / "proc" / "7" / "cgroup"
    root = tmp_path / "cgroup"
    if version == 1:
        lines.write_text(f"5:cpu,cpuacct:/docker/{ID}\n3:memory:/docker/{ID}\n0::/other\n")
        for folder, name, text in (
            ("cpu,cpuacct", "cpuacct.usage", "1234567\n"),
            ("memory", "memory.max_usage_in_bytes", "4096\n"),
        ):
            (root / folder / "docker" / ID).mkdir(parents=True)
            (root / folder / "docker" / ID / name).write_text(text)
    else:
        lines.write_text(f"0::/system.slice/docker-{ID}.scope\n")
        folder = root / "system.slice" / f"docker-{ID}.scope"
        folder.mkdir(parents=True)
        (folder / "cpu.stat").write_text("usage_usec 1234\nuser_usec 1000\n")
        (folder / "memory.peak").write_text("4096\n")
    usage = Usage()
    usage.find(ID, 7, root, tmp_path / "proc")
    assert usage.cpu_ns() == (1234567 if version == 1 else 1234000)
    assert usage.peak() == 4096
    usage.close()
    assert (usage.cpu_ns(), usage.peak()) == (None, None)


def test_usage_of_somebody_elses_process_is_unknown(tmp_path):
    usage = Usage()
    usage.find(ID, os.getpid())
    assert (usage.cpu_ns(), usage.peak()) == (None, None)


@pytest.mark.fault(77)
def test_the_arguments_are_made_in_one_place():
    labels = {"io.lowcode-faas.managed": "true"}
    config = container(
        DockerSettings(runtime="runsc"), LIMITS, ["-e", "0"], labels=labels, network="none"
    )
    assert config["Labels"] == labels
    assert config["Env"] == ["HOME=/tmp", "TMPDIR=/tmp"]
    assert config["HostConfig"]["Runtime"] == "runsc"
    assert config["HostConfig"]["CpuQuota"] == 50_000
    assert (config["OpenStdin"], config["StdinOnce"]) == (True, False)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("DOCKER_EXCHANGE", "pipes"),
        ("NODE_DOCKER_IMAGE", "no image"),
        ("DOCKER_NETWORK", "host"),
        ("DOCKER_NETWORK", "bridge"),
        ("DOCKER_NETWORK", "container:other"),
        ("DOCKER_UID", "0"),
        ("DOCKER_INSTANCE", "a b"),
    ],
)
def test_variables_are_checked(variable, value):
    name = f"LOWCODE_FAAS_{variable}"
    with pytest.raises(ConfigurationError, match=name):
        lowcode_faas_launcher({name: value})


@pytest.mark.fault(106)
def test_the_exchange_decides_what_is_built_and_nothing_is_opened():
    threads, descriptors = threading.active_count(), len(os.listdir("/proc/self/fd"))
    stream = lowcode_faas_launcher({})
    assert isinstance(stream, DockerLauncher)
    assert lowcode_faas_runner({}) is None
    environ = {"LOWCODE_FAAS_DOCKER_EXCHANGE": "files"}
    files = lowcode_faas_runner(environ)
    assert isinstance(files, FilesRunner)
    assert lowcode_faas_launcher(environ) is None
    assert (threading.active_count(), len(os.listdir("/proc/self/fd"))) == (threads, descriptors)
    stream.close()
    files.close()
    assert lowcode_faas_settings() == (DockerSettings,)


def test_folders_of_the_dead_are_removed_and_those_of_the_living_kept(tmp_path):
    environ = {"LOWCODE_FAAS_DATA_DIR": str(tmp_path)}
    lives, died = Meetings(environ, wanted=True), Meetings(environ, wanted=True)
    theirs = lives.arrange()
    died.arrange()
    os.close(died._held)  # as the kernel does for whoever is killed
    ours = Meetings(environ, wanted=True).arrange()
    assert {each.name for each in (tmp_path / "meetings").iterdir()} == {
        theirs.folder.parent.name,
        ours.folder.parent.name,
    }
    assert sorted(each.name for each in theirs.folder.iterdir()) == ["channel", "stderr", "stdout"]


def test_a_folder_that_cannot_be_made_is_no_reason_not_to_start(tmp_path):
    (tmp_path / "file").touch()
    meetings = Meetings({"LOWCODE_FAAS_DATA_DIR": str(tmp_path / "file")}, wanted=True)
    assert meetings.arrange() is None
    assert not meetings.possible


@pytest.mark.parametrize(
    ("address", "wanted", "possible"),
    [
        ("", True, True),
        ("unix:///run/user/1000/docker.sock", True, True),
        ("tcp://engine:2376", True, False),
        ("", False, False),
    ],
)
def test_only_an_engine_of_this_machine_is_asked_to_mount(tmp_path, address, wanted, possible):
    environ = {"DOCKER_HOST": address, "LOWCODE_FAAS_DATA_DIR": str(tmp_path)}
    assert Meetings(environ, wanted=wanted).possible is possible


def test_a_name_longer_than_a_socket_may_have_is_no_hindrance(tmp_path):
    meeting = Meetings(
        {"LOWCODE_FAAS_DATA_DIR": str(tmp_path / ("x" * 200))}, wanted=True
    ).arrange()
    assert meeting is not None
    meeting.over()
    assert not meeting.folder.exists()
