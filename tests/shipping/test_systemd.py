"""The units: valid, hardened, in step with the settings; sockets handed over as systemd does it."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
import urllib3

from lowcode_faas_core.configuration import CORE_SETTINGS, ServerSettings
from lowcode_faas_core.drain import graceful_timeout_s
from lowcode_faas_core.setting_values import parse_address
from lowcode_faas_core.settings import infos, read
from tests.services.debian import install

UNITS = Path(__file__).resolve().parents[2] / "conf" / "systemd"
ROLES = {"dispatcher": "lowcode-faas", "worker": "lowcode-faas-worker"}
COMMAND = Path(sys.executable).with_name("lowcode-faas")


@pytest.fixture(scope="session")
def analyze():
    """Return Debian's systemd-analyze, installed where it is missing and that may be done."""
    if not shutil.which("systemd-analyze"):
        install("systemd")
    found = shutil.which("systemd-analyze")
    if found is None:
        reason = "systemd-analyze is not installed"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    return found


@pytest.fixture
def installed(tmp_path):
    """Return the units with the command of this checkout, which is there to be executed."""
    folder = tmp_path / "units"
    folder.mkdir()
    for unit in UNITS.iterdir():
        text = unit.read_text().replace("/opt/lowcode-faas/bin/lowcode-faas", str(COMMAND))
        (folder / unit.name).write_text(text)
    return folder


class Unit:
    """The lines of a unit, by section and key; a key may stand there more than once."""

    def __init__(self, name):
        self.lines = {}
        section = ""
        for line in (UNITS / name).read_text().splitlines():
            if match := re.fullmatch(r"\[(\w+)\]", line):
                section = match[1]
            elif line and not line.startswith("#"):
                key, _, value = line.partition("=")
                self.lines.setdefault(f"{section}.{key}", []).append(value)

    def one(self, key):
        (value,) = self.lines[key]
        return value

    @property
    def environment(self):
        return dict(each.split("=", 1) for each in self.lines["Service.Environment"])


def test_systemd_takes_every_unit(analyze, installed):
    units = sorted(map(str, installed.iterdir()))
    assert len(units) == 4
    done = subprocess.run(
        [analyze, "verify", "--man=no", *units], capture_output=True, text=True, check=False
    )
    ours = [
        line for line in done.stderr.splitlines() if str(installed) in line or "lowcode" in line
    ]
    assert not ours, done.stderr


@pytest.mark.parametrize(("role", "threshold"), [("dispatcher", 15), ("worker", 20)])
def test_what_a_unit_may_do_stays_small(analyze, installed, role, threshold):
    """Exposure in tenths, as systemd counts: 100 is a service without any of it."""
    unit = installed / f"{ROLES[role]}.service"
    command = [analyze, "security", "--offline=true", f"--threshold={threshold}", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("role", ROLES)
def test_a_stop_leaves_time_for_the_drain(role):
    unit = Unit(f"{ROLES[role]}.service")
    # Defaults of the settings: that is what the comment in the unit counts with.
    assert int(unit.one("Service.TimeoutStopSec")) > graceful_timeout_s(read({}, ServerSettings))
    assert unit.one("Service.KillMode") == "mixed"
    assert unit.one("Service.RestartPreventExitStatus") == "2"
    assert unit.one("Service.Type") == "notify"


@pytest.mark.parametrize("role", ROLES)
def test_variables_exist_and_the_address_is_the_sockets(role):
    unit = Unit(f"{ROLES[role]}.service")
    known = {info.variable for info in infos(CORE_SETTINGS)}
    known |= {f"{info.variable}_FILE" for info in infos(CORE_SETTINGS) if info.secret}
    assert set(unit.environment) <= known | {"LOWCODE_FAAS_FILES_KEEP_VERSIONS"}
    listen = "LOWCODE_FAAS_LISTEN" if role == "dispatcher" else "LOWCODE_FAAS_WORKER_LISTEN"
    stream, *paths = Unit(f"{ROLES[role]}.socket").lines["Socket.ListenStream"]
    assert parse_address(stream) == parse_address(unit.environment[listen])
    path = unit.environment.get("LOWCODE_FAAS_WORKER_SOCKET")
    assert paths == ([] if path is None else [path])


def test_the_dispatcher_asks_where_the_worker_listens_and_nobody_else_may():
    listener = Unit("lowcode-faas-worker.socket")
    url = Unit("lowcode-faas.service").environment["LOWCODE_FAAS_WORKER_URL"]
    assert url.removeprefix("unix:") in listener.lines["Socket.ListenStream"]
    # Left out, everybody might connect.
    assert listener.one("Socket.SocketMode") == "0660"
    users = {Unit(f"{name}.service").one("Service.User") for name in ROLES.values()}
    assert users == {listener.one("Socket.SocketUser")}


def test_both_keep_the_same_data_the_same_way():
    shared = ("LOWCODE_FAAS_DATA_DIR", "LOWCODE_FAAS_FILES_KEEP_VERSIONS")
    ours, theirs = (Unit(f"{name}.service").environment for name in ROLES.values())
    assert [ours[name] for name in shared] == [theirs[name] for name in shared]


def test_the_dispatcher_cannot_reach_the_engine_and_the_worker_can():
    assert "Service.SupplementaryGroups" not in Unit("lowcode-faas.service").lines
    assert Unit("lowcode-faas-worker.service").one("Service.SupplementaryGroups") == "docker"


class Activated:
    """Listening sockets of ours, and services that get them one after the other."""

    def __init__(self, folder):
        self.listeners = [socket.create_server(("127.0.0.1", 0), backlog=128)]
        self.port = self.listeners[0].getsockname()[1]
        self.folder = folder
        self.notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notices.bind(str(folder / "notify"))
        self.notices.settimeout(60)
        self.processes = []

    def listen(self, path):
        """Hand over a Unix socket, too."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(path))
        listener.listen(128)
        self.listeners.append(listener)

    def run(self, role="dispatcher", **variables):
        """Start a role, whether it will serve or not."""
        given = {
            "LISTEN" if role == "dispatcher" else "WORKER_LISTEN": f"127.0.0.1:{self.port}",
            "DATA_DIR": str(self.folder / "data"),
            "RUNNER": "process",
            "WORKERS": "1",
            "DRAIN_NOTICE_S": "0.2",
            "DRAIN_TIMEOUT_S": "5",
            **variables,
        }
        environ = {k: v for k, v in os.environ.items() if not k.startswith("LOWCODE_FAAS_")}
        process = subprocess.Popen(
            [
                sys.executable,
                Path(__file__).with_name("activate.py"),
                ",".join(str(each.fileno()) for each in self.listeners),
                COMMAND,
                role,
            ],
            pass_fds=[each.fileno() for each in self.listeners],
            env={
                **environ,
                "NOTIFY_SOCKET": str(self.folder / "notify"),
                **{
                    k if k.startswith("ACTIVATE") else f"LOWCODE_FAAS_{k}": v
                    for k, v in given.items()
                },
            },
            stdout=(self.folder / "output").open("a"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self.processes.append(process)
        return process

    def start(self, role="dispatcher", **variables):
        """Start a role, and wait until it says that it is ready."""
        process = self.run(role, **variables)
        assert b"READY=1" in self.notices.recv(4096)
        return process

    def call(self, method, path, **more):
        http = urllib3.PoolManager(retries=False, timeout=60)
        return http.request(method, f"http://127.0.0.1:{self.port}{path}", **more)

    def close(self):
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)
        for listener in self.listeners:
            listener.close()
        self.notices.close()


@pytest.fixture
def activated(tmp_path):
    one = Activated(tmp_path)
    yield one
    one.close()


def test_a_socket_that_is_handed_over_outlives_the_service(activated):
    source = "export const handler = () => ({ok: true, data: process.pid});"
    # Given a service on a socket of ours: it says when it is ready, and runs functions
    first = activated.start()
    deployed = activated.call("POST", "/functions", json={"name": "pid", "source_code": source})
    assert deployed.status == 201, deployed.data
    assert activated.call("POST", "/functions/pid/invoke", json={}).status == 200
    # When it ends
    first.send_signal(signal.SIGTERM)
    assert first.wait(60) == 0
    # Then whoever calls now waits in the socket's queue
    with socket.create_connection(("127.0.0.1", activated.port), timeout=60) as waiting:
        waiting.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        # Until the next one serves it
        second = activated.start()
        assert waiting.recv(4096).startswith(b"HTTP/1.1 200")
    second.send_signal(signal.SIGTERM)
    assert second.wait(60) == 0


def test_a_workers_unix_socket_is_handed_over_beside_its_port(activated, tmp_path):
    # A test's own folder may be deeper than sockets can
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "worker.sock"
        # Given a worker that is told of a path which is not handed over, then it says where to name it
        refused = activated.run("worker", WORKER_SOCKET=str(path))
        assert refused.wait(60) == 2
        said = (tmp_path / "output").read_text()
        assert (
            f"LOWCODE_FAAS_WORKER_SOCKET is {path}, which cannot be used: it is not handed" in said
        )
        # And one that gets it serves there, and leaves it to whoever made it
        activated.listen(path)
        for _ in range(2):
            process = activated.start("worker", WORKER_SOCKET=str(path))
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
                peer.settimeout(60)
                peer.connect(str(path))
                peer.sendall(
                    b"GET /v1/info HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
                )
                assert peer.recv(4096).startswith(b"HTTP/1.1 200")
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
            assert path.exists()


def test_the_dispatcher_needs_no_memory_that_is_written_and_executed(activated):
    """``MemoryDenyWriteExecute``, as in the unit: with a worker elsewhere it starts no Node."""
    process = activated.start(ACTIVATE_MDWE="1", WORKER_URL="http://127.0.0.1:1")
    deadline = time.monotonic() + 60
    while (answer := activated.call("GET", "/readyz")).status != 503:
        assert time.monotonic() < deadline
    assert b"the worker at" in answer.data
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
