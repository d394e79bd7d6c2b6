"""Whole processes: started as a user would, watched through /proc, and gone at the end."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import urllib3

ROOT = Path(__file__).resolve().parents[2]
COMMAND = Path(sys.executable).with_name("lowcode-faas")
SPIN = "export const handler = () => { for (;;); };"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _stat(pid: int) -> tuple[str, int, int] | None:
    """Return state letter, parent and start time of a process, ``None`` when there is none."""
    try:
        # The command may hold spaces and brackets; the fields follow its last bracket.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return fields[0], int(fields[1]), int(fields[19])


@dataclass(frozen=True)
class Seen:
    """One process, told from a later one with its number by the start time."""

    pid: int
    started: int

    def lives(self) -> bool:
        """Tell from the state letter: a zombie answers signal 0, too."""
        stat = _stat(self.pid)
        return stat is not None and stat[2] == self.started and stat[0] not in "ZX"


def family(pid: int) -> set[Seen]:
    """Return a process and all its descendants, whatever session they are in."""
    parents: dict[int, list[tuple[int, int]]] = {}
    own: set[Seen] = set()
    for name in os.listdir("/proc"):
        if name.isdigit() and (stat := _stat(int(name))) is not None:
            parents.setdefault(stat[1], []).append((int(name), stat[2]))
            if int(name) == pid:
                own.add(Seen(pid, stat[2]))
    waiting = [pid]
    while waiting:
        for child, started in parents.get(waiting.pop(), ()):
            own.add(Seen(child, started))
            waiting.append(child)
    return own


def until(what: str, condition: Callable[[], Any], seconds: float = 15.0) -> Any:
    """Poll until ``condition`` is true and return its value; fail naming ``what``."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what}: not within {seconds:g} s"
        time.sleep(0.02)
    return value


def _ticks(pid: int) -> int:
    """Return the CPU time of a process in ticks of 10 ms, 0 when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return int(fields[11]) + int(fields[12])


def _executable(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/exe")
    except OSError:
        return ""


@dataclass
class Service:
    """A running service and what it printed."""

    process: subprocess.Popen[str]
    url: str
    output: Path
    #: Its TMPDIR.
    scratch: Path
    http: urllib3.PoolManager = field(
        default_factory=lambda: urllib3.PoolManager(retries=False, timeout=60, maxsize=64)
    )

    def call(
        self, method: str, path: str, body: object = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any]:
        """Return status and parsed body."""
        answer = self.http.request(
            method,
            self.url + path,
            body=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json", **(headers or {})},
        )
        return answer.status, json.loads(answer.data) if answer.data else None

    def ready(self) -> bool:
        """Tell whether ``/readyz`` is green."""
        assert self.process.poll() is None, self.text()
        try:
            return self.call("GET", "/readyz")[0] == 200
        except urllib3.exceptions.HTTPError:
            return False

    def text(self) -> str:
        """Return what was printed so far."""
        return self.output.read_text()

    def family(self) -> set[Seen]:
        """Return every process of the service."""
        return family(self.process.pid)

    def gunicorn_workers(self) -> list[Seen]:
        """Return the serving processes: the master's children."""
        stats = {seen: _stat(seen.pid) for seen in self.family()}
        return [
            seen
            for seen, stat in stats.items()
            if stat and stat[1] == self.process.pid and seen.lives()
        ]

    def node_processes(self) -> set[Seen]:
        """Return the sandboxes as the machine sees them: Node processes that live and are ours."""
        return {s for s in self.family() if s.lives() and "node" in _executable(s.pid)}

    def nodes(self) -> int:
        """Count them."""
        return len(self.node_processes())

    def owners(self) -> set[str]:
        """Return what its launchers call themselves in all they leave on disk."""
        return {path.stem for path in self.scratch.glob("lowcode-faas-process-*/*.lease")}

    def left_behind(self, owners: set[str]) -> list[str]:
        """Return the leases, private folders and control groups of these launchers."""
        found = [str(path) for path in self.scratch.glob("lowcode-faas-process-*/*")]
        for folder, below, _ in os.walk("/sys/fs/cgroup"):
            found += [f"{folder}/{name}" for name in below if name.startswith("lowcode-faas-")]
        return [path for path in found if any(name in path for name in owners)]

    def sandboxes(self) -> dict[str, Any]:
        """Return the block of ``/readyz``: of one serving process, whichever answers."""
        block: dict[str, Any] = self.call("GET", "/readyz")[1]["sandboxes"]
        return block

    def deploy(self, name: str, source: str, **members: object) -> None:
        """Deploy a new function."""
        body = {"name": name, "source_code": source, **members}
        status, answer = self.call("POST", "/functions", body)
        assert status == 201, answer

    def invoke(self, name: str, data: object = None, **members: object) -> tuple[int, Any]:
        """Invoke a function and return status and parsed body."""
        body = {"input": {} if data is None else data, **members}
        return self.call("POST", f"/functions/{name}/invoke", body)

    def in_background(
        self, name: str, data: object = None, count: int = 1, **members: object
    ) -> list[Any]:
        """Invoke ``count`` times at once; return where the answers, or the errors, will be."""
        answers: list[Any] = []

        def call() -> None:
            try:
                answers.append(self.invoke(name, data, **members))
            except urllib3.exceptions.HTTPError as error:
                answers.append(error)

        for _ in range(count):
            threading.Thread(target=call, daemon=True).start()
        return answers

    def spin(self, count: int) -> list[Any]:
        """Have ``count`` handlers spin; return once all of them do, with where answers will be."""
        self.deploy("spin", SPIN)
        answers = self.in_background("spin", count=count, timeout_ms=60_000)
        until("all of them spin", lambda: len(self.busy()) >= count, 30)
        return answers

    def busy(self) -> set[Seen]:
        """Return the Node processes that used CPU over a moment."""
        nodes = self.node_processes()
        before = {seen: _ticks(seen.pid) for seen in nodes}
        time.sleep(0.2)
        return {seen for seen in nodes if _ticks(seen.pid) - before[seen] >= 2}

    def interrupt(self) -> None:
        """Do what Ctrl-C in a terminal does: SIGINT to the whole foreground group."""
        os.killpg(self.process.pid, signal.SIGINT)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Service]]:
    """Start a command in a session of its own; nothing of it is left after the test."""
    started: list[Service] = []
    scratch = tmp_path / "tmp"
    scratch.mkdir()

    def run(*command: str | Path, cwd: Path = tmp_path, port: int, **variables: str) -> Service:
        output = tmp_path / f"output-{len(started)}.txt"
        environ = {k: v for k, v in os.environ.items() if not k.startswith("LOWCODE_FAAS_")}
        for name in ("VIRTUAL_ENV", "MAKEFLAGS", "MAKELEVEL", "MFLAGS", "PYTHONPATH"):
            environ.pop(name, None)
        with output.open("w") as file:
            process = subprocess.Popen(
                [str(part) for part in command],
                cwd=cwd,
                env={
                    **environ,
                    # What sandboxes leave on disk is this test's own to look at.
                    "TMPDIR": str(scratch),
                    **{f"LOWCODE_FAAS_{k}": v for k, v in variables.items()},
                },
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
        service = Service(process, f"http://127.0.0.1:{port}", output, scratch)
        started.append(service)
        return service

    yield run
    for service in started:
        for seen in service.family():
            with contextlib.suppress(ProcessLookupError):
                os.kill(seen.pid, signal.SIGKILL)
        service.process.wait(10)


@pytest.fixture
def serve(start: Callable[..., Service], tmp_path: Path) -> Callable[..., Service]:
    """Start a role on loopback with ``files`` and ``process``, and wait until it is ready."""

    def run(role: str = "dispatcher", **variables: str) -> Service:
        listen = "WORKER_LISTEN" if role == "worker" else "LISTEN"
        given = variables.get(listen)
        port = int(given.rpartition(":")[2]) if given else _free_port()
        service = start(
            COMMAND,
            role,
            port=port,
            **{
                "STORAGE": "files",
                "DATA_DIR": str(tmp_path / "data"),
                "RUNNER": "process",
                listen: f"127.0.0.1:{port}",
                **variables,
            },
        )
        until("the service is ready", service.ready, 30)
        return service

    return run


@pytest.fixture
def free_port() -> Callable[[], int]:
    return _free_port


@pytest.fixture
def descendants() -> Callable[[int], set[Seen]]:
    return family


@pytest.fixture
def poll() -> Callable[..., Any]:
    return until
