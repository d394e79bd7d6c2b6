"""Both roles on one machine, with a Unix socket between them."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lowcode_faas_core.startup import ProcessRole, Startup

Serve = Callable[..., Any]
Poll = Callable[..., Any]

COMMAND = Path(sys.executable).with_name("lowcode-faas")
ECHO = "export const handler = (input) => ({ ok: true, data: input });"
SLOW = (
    "export const handler = async ({ ms }) => {"
    " await new Promise((done) => setTimeout(done, ms)); return { ok: true }; };"
)
STUCK = "export const handler = () => new Promise((done) => setTimeout(done, 60000));"


def cpu_s(pid: int) -> float:
    """Return the CPU time of a process in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.fixture
def path() -> Iterator[Path]:
    """Return where a socket may be: a test's own folder may be deeper than sockets can."""
    folder = Path(tempfile.mkdtemp(prefix="lcf"))
    yield folder / "worker.sock"
    shutil.rmtree(folder)


@pytest.fixture
def worker(serve: Serve, path: Path) -> Any:
    return serve("worker", WORKERS="1", WORKER_SOCKET=str(path))


@pytest.fixture
def dispatcher(serve: Serve, worker: Any, path: Path) -> Any:
    del worker
    service = serve(WORKERS="1", RUNNER="not-installed", WORKER_URL=f"unix:{path}")
    service.deploy("echo", ECHO)
    return service


def test_a_dispatcher_reaches_its_worker(dispatcher: Any, worker: Any, path: Path) -> None:
    # Given a worker that says where it is
    assert f"and unix:{path}" in worker.text()
    # When one connection invokes again and again, so that its head repeats at both
    answers = [dispatcher.invoke("echo", {"n": n}) for n in range(5)]
    # Then each is answered, with a body of its own
    assert [status for status, _ in answers] == [200] * 5
    assert [answer["output"]["data"] for _, answer in answers] == [{"n": n} for n in range(5)]
    assert "echo" in worker.call("GET", "/readyz")[1]["sandboxes"]["functions"]
    # And a source is checked there, a large input goes through
    status, answer = dispatcher.call(
        "POST", "/functions", {"name": "no", "source_code": "export {"}
    )
    assert (status, answer["code"]) == (422, "source_invalid")
    large = {"text": "x" * 500_000}
    assert dispatcher.invoke("echo", large)[1]["output"]["data"] == large


def test_only_owner_and_group_may_connect(worker: Any, path: Path) -> None:
    mode = path.stat().st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) & 0o007 == 0
    # And it is gone with its worker
    worker.process.send_signal(signal.SIGTERM)
    worker.process.wait(30)
    assert not path.exists()


def connect(path: Path, name: str | bytes = b"") -> socket.socket:
    """Return a connection, of a client that calls itself something."""
    peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    peer.settimeout(30)
    if name:
        peer.bind(name)
    peer.connect(str(path))
    return peer


def get(path: Path, target: str, *lines: str, name: str | bytes = b"") -> bytes:
    """Return the answer to a connection of its own."""
    with connect(path, name) as peer:
        head = "\r\n".join((f"GET {target} HTTP/1.1", "Host: localhost", *lines))
        peer.sendall(f"{head}\r\nConnection: close\r\n\r\n".encode())
        return b"".join(iter(lambda: peer.recv(65536), b""))


def test_a_worker_that_ends_takes_connections_until_it_is_done(
    serve: Serve, path: Path, poll: Poll
) -> None:
    # Given a worker with time for others to notice, and a run
    worker = serve("worker", WORKERS="1", WORKER_SOCKET=str(path), DRAIN_NOTICE_S="1.5")
    service = serve(WORKERS="1", RUNNER="not-installed", WORKER_URL=f"unix:{path}")
    service.deploy("slow", SLOW)
    running = service.in_background("slow", {"ms": 3000})
    poll("it runs", lambda: worker.sandboxes()["in_flight"])
    # When it is told to end
    worker.process.send_signal(signal.SIGTERM)
    poll("it knows", lambda: b"HTTP/1.1 503" in get(path, "/readyz"))
    # Then who comes meanwhile is served, and the run is answered
    assert service.invoke("slow", {"ms": 0})[0] == 200
    assert poll("it is answered", lambda: running)[0][0] == 200
    assert worker.process.wait(30) == 0
    assert not path.exists()


@pytest.mark.parametrize("another", [False, True])
def test_a_worker_whose_socket_was_taken_away_ends_like_any_other(
    dispatcher: Any, worker: Any, path: Path, poll: Poll, another: bool
) -> None:
    # Given a run, and a socket that somebody removed, or has put theirs in the place of
    dispatcher.deploy("slow", SLOW)
    running = dispatcher.in_background("slow", {"ms": 1500})
    poll("it runs", lambda: worker.sandboxes()["in_flight"])
    path.unlink()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        if another:
            listener.bind(str(path))
        # When the worker is told to end
        worker.process.send_signal(signal.SIGTERM)
        # Then the run is answered, and what is not the worker's stays
        assert poll("it is answered", lambda: running)[0][0] == 200
        assert worker.process.wait(30) == 0
        assert "Traceback" not in worker.text()
        assert path.exists() == another


def test_a_reload_keeps_the_socket(dispatcher: Any, worker: Any, path: Path, poll: Poll) -> None:
    before, old = path.stat().st_ino, worker.gunicorn_workers()
    worker.process.send_signal(signal.SIGHUP)
    poll("others serve", lambda: not [seen for seen in old if seen.lives()], 30)
    assert path.stat().st_ino == before
    assert dispatcher.invoke("echo", {"n": 1})[0] == 200


def test_a_client_is_what_its_socket_says_and_not_what_it_calls_itself(
    worker: Any, path: Path
) -> None:
    del worker
    for name in (b"", b"\0\xff\xfe", str(path.with_name("10.1.2.3"))):
        assert b" 200 " in get(path, "/v1/info", name=name)[:20], name
    # And what only a proxy may say means nothing from it
    proxied = ("SCRIPT_NAME: /v1", "X-Forwarded-Proto: https", "X-Forwarded-Ssl: off")
    assert b" 200 " in get(path, "/healthz", *proxied)[:20]


def test_halves_of_requests_cost_no_thread_and_no_cpu(serve: Serve, path: Path, poll: Poll) -> None:
    worker = serve("worker", WORKERS="1", THREADS="6", WORKER_SOCKET=str(path))
    service = serve(WORKERS="1", RUNNER="not-installed", WORKER_URL=f"unix:{path}")
    service.deploy("echo", ECHO)
    poll("it is warm", lambda: service.invoke("echo")[1]["start"] == "warm")
    # Given clients that stop in the middle of a head, and of a body
    head = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"
    body = b"POST /v1/run HTTP/1.1\r\nHost: localhost\r\nContent-Length: 40000\r\n\r\n"
    peers = [connect(path) for _ in range(16)]
    for number, peer in enumerate(peers):
        peer.sendall(body + b"x" * 20_000 if number % 2 else head)
    time.sleep(0.3)
    # When nothing comes of them, then no time is spent on them
    (serving,) = worker.gunicorn_workers()
    before = cpu_s(serving.pid)
    time.sleep(1)
    assert cpu_s(serving.pid) - before < 0.3
    # And a body that a thread must read waits for none of theirs
    began = time.monotonic()
    assert service.invoke("echo", {"text": "x" * 300_000})[0] == 200
    assert time.monotonic() - began < 3
    # And what comes late in pieces is a request like any other
    for piece in (b"Connection: cl", b"ose\r\n", b"\r\n"):
        peers[0].sendall(piece)
        time.sleep(0.05)
    assert b" 200 " in peers[0].recv(65536)[:20]
    for peer in peers:
        peer.close()


def test_what_was_lost_and_what_never_ran_are_told_apart(
    dispatcher: Any, worker: Any, serve: Serve, path: Path, poll: Poll
) -> None:
    # Given a run that has begun
    dispatcher.deploy("stuck", STUCK)
    lost = dispatcher.in_background("stuck", timeout_ms=60_000)
    poll("the handler runs", lambda: "stuck" in str(worker.call("GET", "/readyz")[1]))
    time.sleep(0.5)
    # When the worker is killed
    for each in worker.family():
        with contextlib.suppress(ProcessLookupError):  # the kernel kills some of them with others
            os.kill(each.pid, signal.SIGKILL)
    # Then that run may have happened, and the next one has not
    poll("it is answered", lambda: lost)
    assert (lost[0][0], lost[0][1]["outcome"]) == (502, "unknown"), lost
    status, answer = dispatcher.invoke("echo")
    assert (status, answer["outcome"]) == (503, "not_executed")
    assert dispatcher.call("GET", "/readyz")[0] == 503
    # And a worker that is started in its place takes over its socket
    assert path.exists()
    serve("worker", WORKERS="1", WORKER_SOCKET=str(path))
    assert dispatcher.invoke("echo", {"n": 1})[0] == 200


@pytest.fixture
def refused(start: Serve, free_port: Callable[[], int], tmp_path: Path) -> Callable[[str], Any]:
    """Start a worker with a socket it cannot have, and return it when it has ended."""

    def run(value: str) -> Any:
        port = free_port()
        worker = start(
            COMMAND,
            "worker",
            port=port,
            RUNNER="process",
            DATA_DIR=str(tmp_path / "data"),
            WORKER_LISTEN=f"127.0.0.1:{port}",
            WORKER_SOCKET=value,
        )
        assert worker.process.wait(30) == 2
        return worker

    return run


def test_a_second_worker_does_not_take_the_socket_of_the_first(
    dispatcher: Any, refused: Callable[[str], Any], path: Path
) -> None:
    second = refused(str(path))
    said = "LOWCODE_FAAS_WORKER_SOCKET is {}, which cannot be used: a worker listens there"
    assert said.format(path) in second.text()
    assert dispatcher.invoke("echo")[0] == 200


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("run/worker.sock", "must be an absolute path"),
        ("/" + "x" * 107, "must have at most 107 bytes"),
        ("/no/such/folder/worker.sock", "its folder does not exist"),
        ("/etc/hostname", "something else is there, which is no socket"),
    ],
)
def test_what_can_be_no_socket_is_refused_by_name(
    refused: Callable[[str], Any], value: str, reason: str
) -> None:
    service = refused(value)
    assert "LOWCODE_FAAS_WORKER_SOCKET" in service.text()
    assert reason in service.text()


@pytest.mark.parametrize("role", ProcessRole)
@pytest.mark.parametrize("url", ["", "unix:/run/worker.sock"])
def test_a_dispatcher_that_has_the_workers_socket_and_no_url_is_told(
    role: ProcessRole, url: str
) -> None:
    environ = {
        "LOWCODE_FAAS_WORKER_SOCKET": "/run/worker.sock",
        **({"LOWCODE_FAAS_WORKER_URL": url} if url else {}),
    }
    warnings = Startup.read(environ, role).warnings()
    if role is ProcessRole.DISPATCHER and not url:
        assert [w for w in warnings if "LOWCODE_FAAS_WORKER_URL=unix:/run/worker.sock" in w]
    else:
        assert warnings == []
