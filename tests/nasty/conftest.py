"""One real service for each kind of user, in a pid namespace of the tests' own, and what it holds.

Hostile code signals whatever it can reach, so the service has namespaces in which there is nothing
but itself. Each case runs on the same service; after each, everything it used must be back.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import urllib3

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
COMMAND = Path(sys.executable).with_name("lowcode-faas")
#: The user that owns nothing, by tradition.
NOBODY = 65534
#: Kinds of user the service can run as here. Continuous integration is root and has both.
USERS = ["root", "nobody"] if os.geteuid() == 0 else ["ordinary"]
#: In the service's own environment, and never to be seen by a function.
CANARY = "canary-" + secrets.token_hex(8)
THREADS = 6
STOCK = 2
HONEST = """
export async function handler({ nonce, ms = 0 }) {
  if (ms) await new Promise((resolve) => setTimeout(resolve, ms));
  console.log(`honest ${nonce}`);
  const polluted = Object.keys(Object.getPrototypeOf({}));
  return { ok: true, data: { nonce, env: { ...process.env }, polluted } };
}
"""


@dataclass(frozen=True)
class Census:
    """What a service holds at one moment: processes of its family and things of the serving one."""

    processes: int
    nodes: int
    descriptors: int
    threads: int

    def plus(self, other: Census, times: int) -> Census:
        return Census(
            *(mine + times * theirs for mine, theirs in zip(self.row, other.row, strict=True))
        )

    @property
    def row(self) -> tuple[int, int, int, int]:
        return self.processes, self.nodes, self.descriptors, self.threads


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Any
    body: Any


@dataclass(frozen=True)
class Line:
    """One line of the ``stdout`` sink."""

    level: str
    function: str
    execution: str
    late: bool
    message: str


_LINE = re.compile(
    r"\S+ (?P<level>DEBUG|INFO|WARN|ERROR) +(?P<function>\S+) v\d+ (?P<execution>\S+)"
    r"(?P<marks>(?: late| cut)*) \| (?P<message>.*)"
)


def parse(text: str) -> list[Line]:
    """Return what functions printed, as the service's own output shows it."""
    found = map(_LINE.fullmatch, text.splitlines())
    return [
        Line(m["level"].lower(), m["function"], m["execution"], "late" in m["marks"], m["message"])
        for m in found
        if m is not None
    ]


def _relations() -> dict[int, list[tuple[int, str]]]:
    """Return, for each process, its children and their state letters."""
    children: dict[int, list[tuple[int, str]]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):
                # The command may hold spaces and brackets; the fields follow its last bracket.
                fields = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()
                children.setdefault(int(fields[1]), []).append((int(name), fields[0]))
    return children


def _below(pid: int) -> dict[int, str]:
    """Return every process below ``pid`` and its state letter; zombies included."""
    children, found, waiting = _relations(), {}, [pid]
    while waiting:
        for child, state in children.get(waiting.pop(), ()):
            found[child] = state
            waiting.append(child)
    return found


def _descriptors(pid: int) -> int:
    """Count what is open, but for the store of executions: it opens its files when it first writes."""
    count = 0
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            count += "/executions/" not in os.readlink(link)
    return count


def _is_node(pid: int) -> bool:
    try:
        return Path(os.readlink(f"/proc/{pid}/exe")).name.split()[0] == "node"
    except OSError:
        return False


def until(what: str, condition: Callable[[], Any], seconds: float = 15.0) -> Any:
    """Poll until ``condition`` is true and return its value; fail saying what it last was."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what}: not within {seconds:g} s"
        time.sleep(0.01)
    return value


@dataclass
class Service:
    """A running service, how it is spoken to, and what it should hold when nothing runs."""

    process: subprocess.Popen[bytes]
    url: str
    output: Path
    user: str
    features: frozenset[str] = frozenset()
    #: The process of gunicorn's that serves, as this side counts pids.
    serving: int = 0
    master: int = 0
    #: Cases that held, for the summary.
    held: set[str] = field(default_factory=set)
    _base: Census | None = None
    _base_sandboxes: int = 0
    _each: Census = Census(0, 0, 0, 0)

    def call(self, method: str, path: str, body: object = None) -> Answer:
        """Send one request over a connection of its own, so that none stays behind."""
        with urllib3.PoolManager(retries=False, timeout=40) as http:
            answer = http.request(
                method,
                self.url + path,
                body=None if body is None else json.dumps(body).encode(),
                headers={"Content-Type": "application/json", "Connection": "close"},
            )
            parsed = json.loads(answer.data) if answer.data else None
            return Answer(answer.status, answer.headers, parsed)

    def deploy(self, name: str, source: str, **more: object) -> None:
        answer = self.call("POST", "/functions", {"name": name, "source_code": source, **more})
        assert answer.status in (200, 201), answer

    def invoke(self, name: str, **body: object) -> Answer:
        return self.call("POST", f"/functions/{name}/invoke", body)

    def lines(self) -> list[Line]:
        """Return what functions printed so far; the sink shows the last characters of ids only."""
        return parse(self.output.read_text("utf-8", "replace"))

    def sandboxes(self) -> dict[str, Any]:
        answer = self.call("GET", "/readyz")
        assert answer.status == 200, answer
        found: dict[str, Any] = answer.body["sandboxes"]
        return found

    def census(self) -> Census:
        # This side of the namespace's init, which stays: the service and its sandboxes.
        family = _below(self.process.pid)
        nodes = [pid for pid, state in family.items() if state not in "ZX" and _is_node(pid)]
        # Zombies count as processes: nobody else will ever reap them.
        threads = re.search(
            r"^Threads:\s*(\d+)", Path(f"/proc/{self.serving}/status").read_text(), re.M
        )
        assert threads is not None
        return Census(
            len(family),
            len(nodes),
            _descriptors(self.serving),
            int(threads.group(1)),
        )

    def quiet(self) -> tuple[int, Census]:
        """Wait until nothing runs, starts or ends; return how many sandboxes are left and all else.

        The same twice in a row, because a request's own connection closes after its answer.
        """
        before: tuple[int, Census] | None = None
        deadline = time.monotonic() + 15
        while True:
            counts = self.sandboxes()
            census = self.census()
            left = counts["idle"] + counts["stock"]
            now = (left, census)
            settled = not (counts["leased"] or counts["starting"] or counts["ending"])
            # Ready ones are sized by demand, and the last place is kept for whoever has none.
            full = counts["stock"] or left >= counts["cap"] - 1
            if settled and full and now == before and census.nodes == left:
                return now
            before = now
            assert time.monotonic() < deadline, f"never quiet: {counts} {census}"
            time.sleep(0.01)

    def settle(self) -> None:
        """Learn what the service holds when nothing runs, and what one more idle sandbox adds."""
        # With the first end of a sandbox comes a thread of the runner's.
        self.deploy("ends", "export const handler = () => process.exit(0);")
        assert self.invoke("ends").body["status"] == "crashed"
        few, before = self.quiet()
        # The server's threads come as requests overlap.
        address = ("127.0.0.1", int(self.url.rpartition(":")[2]))
        with contextlib.ExitStack() as slow, ThreadPoolExecutor(THREADS) as pool:
            for _ in range(2):  # no invocation gets the last two; a slow body does
                upload = slow.enter_context(socket.create_connection(address))
                upload.sendall(b"POST /collections HTTP/1.1\r\nContent-Length: 9\r\n\r\n")
            naps = [
                pool.submit(self.invoke, "honest", input={"nonce": f"w{n}", "ms": 300})
                for n in range(THREADS - 2)
            ]
            for future in naps:
                assert future.result().status == 200
        self._base_sandboxes, self._base = self.quiet()
        more = self._base_sandboxes - few
        assert more > 0
        self._each = Census(
            *((now - was) // more for now, was in zip(self._base.row, before.row, strict=True))
        )
        self._each = dataclasses.replace(self._each, threads=0)
        expected = dataclasses.replace(before.plus(self._each, more), threads=self._base.threads)
        assert self._base == expected
        assert self._each.nodes == 1

    def back_at_base(self) -> None:
        """Assert that nothing is held that was not at the start, idle sandboxes apart."""
        assert self._base is not None
        deadline = time.monotonic() + 10
        while True:
            sandboxes, census = self.quiet()
            expected = self._base.plus(self._each, sandboxes - self._base_sandboxes)
            if census == expected:
                return
            assert time.monotonic() < deadline, f"{census}, not {expected}; {sandboxes} sandboxes"

    def honest(self) -> None:
        """Assert that the next function runs as if nothing had happened."""
        nonce = secrets.token_hex(4)
        answer = self.invoke("honest", input={"nonce": nonce}, timeout_ms=10_000)
        assert answer.status == 200, answer.body
        assert answer.body["status"] == "succeeded", answer.body
        data = answer.body["output"]["data"]
        assert (data["nonce"], data["env"], data["polluted"]) == (nonce, {}, [])
        assert answer.body["logs"] == {"lines": 1, "truncated": False}


def _needed() -> list[Path]:
    """Return the folders the service is made of, each once, none below another."""
    wanted = sorted({ROOT, Path(sys.prefix), Path(sys.base_prefix)})
    return [p for p in wanted if not any(p != q and p.is_relative_to(q) for q in wanted)]


def _pairs() -> str:
    """Return, a line each, what is closed to other users and the folder needed below it."""
    lines = []
    for folder in _needed():
        closed = [p for p in (*reversed(folder.parents), folder) if not p.stat().st_mode & 0o001]
        if closed:
            assert closed[0] != folder, f"{folder} must be readable by other users"
            lines.append(f"{closed[0]}\t{folder}")
    return "\n".join(lines)


def _namespaces(user: str) -> list[str]:
    unshare = [
        "setpriv",
        "--pdeathsig",
        "KILL",
        "unshare",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
    ]
    if user == "ordinary":
        unshare += ["--user", "--map-current-user"]
    uid = NOBODY if user == "nobody" else 0
    return [*unshare, "sh", str(HERE / "namespace.sh"), str(uid), _pairs() if uid else ""]


def _start(user: str, folder: Path) -> Service:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    variables = {
        "STORAGE": "files",
        "DATA_DIR": str(folder / "data"),
        "RUNNER": "process",
        "LISTEN": f"127.0.0.1:{port}",
        "WORKERS": "1",
        "THREADS": str(THREADS),
        "STOCK": str(STOCK),
        "MAX_INSTANCES": "12",
        "MAX_INSTANCES_PER_FUNCTION": "4",
        "WORKER_TOKEN": CANARY,
    }
    (folder / "data").mkdir()
    if user == "nobody":
        os.chown(folder, NOBODY, NOBODY)
        os.chown(folder / "data", NOBODY, NOBODY)
    environ = {k: v for k, v in os.environ.items() if not k.startswith("LOWCODE_FAAS_")}
    environ.pop("TMPDIR", None)
    output = folder / "output.txt"
    with output.open("wb") as file:
        process = subprocess.Popen(
            [*_namespaces(user), str(COMMAND), "dispatcher"],
            cwd="/",
            env={
                **environ,
                **{f"LOWCODE_FAAS_{key}": value for key, value in variables.items()},
                "NASTY_SECRET": CANARY,
            },
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return Service(process, f"http://127.0.0.1:{port}", output, user)


def _await(service: Service) -> None:
    def ready() -> bool:
        assert service.process.poll() is None, service.output.read_text()
        try:
            return service.call("GET", "/readyz").status == 200
        except urllib3.exceptions.HTTPError:
            return False

    until("the service is ready", ready, 40)
    said = re.search(r"local processes with ([^;\n]*)", service.output.read_text())
    assert said is not None, service.output.read_text()
    service.features = frozenset(said.group(1).split(", "))
    # unshare, the namespace's init, gunicorn's master, the one process that serves.
    children = _relations()
    (init,) = (pid for pid, _ in children[service.process.pid])
    (service.master,) = (pid for pid, _ in children[init])
    (service.serving,) = (pid for pid, _ in children[service.master])


_services: list[Service] = []


@pytest.fixture(scope="session")
def services() -> Iterator[list[Service]]:
    """Return a service for each kind of user; each must end by itself and take everything along."""
    with contextlib.ExitStack() as running:
        for user in USERS:
            _services.append(running.enter_context(_serving(user)))
        yield list(_services)


@contextlib.contextmanager
def _serving(user: str) -> Iterator[Service]:
    # Not below pytest's own folder, which is closed to others.
    folder = Path(tempfile.mkdtemp(prefix="lowcode-faas-nasty-"))
    folder.chmod(0o755)
    started = _start(user, folder)
    try:
        _await(started)
        started.deploy("honest", HONEST)
        started.settle()
        yield started
        os.kill(started.master, signal.SIGTERM)
        assert started.process.wait(20) == 0, started.output.read_text()[-4000:]
        assert "Traceback" not in started.output.read_text("utf-8", "replace")
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(started.process.pid, signal.SIGKILL)
        started.process.wait(10)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def canary() -> str:
    return CANARY


@pytest.fixture(scope="session")
def poll() -> Callable[..., Any]:
    return until


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    counts = ", ".join(f"{len(s.held)} as {s.user}" for s in _services)
    if counts:
        terminalreporter.section("nasty")
        terminalreporter.line(f"nasty: cases held: {counts}")
        for each in _services:
            terminalreporter.line(f"  as {each.user}: {', '.join(sorted(each.features))}")
