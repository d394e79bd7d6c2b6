"""What a caller is told when the link between the roles breaks; nothing ever runs twice."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from lowcode_faas_core.wire import API_VERSION

Serve = Callable[..., Any]
Poll = Callable[..., Any]

NOTE = (
    "export const handler = async ({ ms = 0 }, { executionId, deadline }) => {"
    " console.log(`ran ${executionId}.`); await new Promise((done) => setTimeout(done, ms));"
    " return { ok: true, data: deadline - Date.now() }; };"
)


#: Plain answers the link gives instead of the worker's, by the fault's name.
MADE_UP = {
    "garbage": b"\x16\x03\x01 this is not HTTP\r\n\r\n",
    "bare 500": b"HTTP/1.1 500 Oops\r\nContent-Length: 4\r\n\r\noops",
    "bare 502": b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n",
    "bare 503": b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n",
    "balancer's 503": (
        b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/problem+json\r\n"
        b'Content-Length: 29\r\n\r\n{"code":"runner_unavailable"}'
    ),
    "bare 504": b"HTTP/1.1 504 Gateway Timeout\r\nContent-Length: 0\r\n\r\n",
    "other version": (
        b"HTTP/1.1 200 OK\r\nX-Lowcode-Faas-Api: 7\r\nContent-Type: application/json\r\n"
        b'Content-Length: 14\r\n\r\n{"done": true}'
    ),
}


class FaultyLink:
    """Forwards one HTTP request after another; ``faults`` says what to do to the next runs.

    ``reset before``, ``reset after`` and ``cut`` reset the connection before the worker has seen
    the run, after it has answered, and in the middle of its answer; ``silence`` answers nothing;
    ``skewed`` passes the run on as one of version 7; the names in ``MADE_UP`` answer that, and the
    worker never sees the run.
    """

    def __init__(self, worker_port: int) -> None:
        self.worker_port = worker_port
        self.faults: deque[str] = deque()
        #: How often a run came in on the link, whatever became of it.
        self.runs = 0
        self.connections = 0
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Refuse connections from now on, and end those that are open; may be repeated."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for client in self._open:
            with contextlib.suppress(OSError):  # a close alone would leave the thread in its read
                client.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(client)
            threading.Thread(target=self._relay, args=(client,), daemon=True).start()

    def _relay(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while request := _message(client):
                is_run = request.startswith(b"POST /v1/run ")
                self.runs += is_run
                fault = self.faults.popleft() if is_run and self.faults else ""
                if not self._answer(client, request, fault):
                    return
        _reset(client)

    def _answer(self, client: socket.socket, request: bytes, fault: str) -> bool:
        """Return whether the connection goes on."""
        if fault == "silence":
            return False  # the descriptor stays open in ``_open``
        if fault in MADE_UP:
            client.sendall(MADE_UP[fault])
            return fault != "garbage"
        if fault == "reset before":
            _reset(client)
            return False
        if fault == "skewed":
            request = re.sub(rb"(X-Lowcode-Faas-Api:) \d+", rb"\1 7", request)
        with socket.create_connection(("127.0.0.1", self.worker_port)) as worker:
            worker.sendall(request)
            answer = _message(worker)
        if fault == "reset after" or not answer:
            _reset(client)
            return False
        if fault == "cut":
            client.sendall(answer[:-10])
            client.shutdown(socket.SHUT_RDWR)
            return False
        client.sendall(answer)
        return True


def _message(peer: Any) -> bytes:
    """Return one whole HTTP message with a Content-Length; nothing at the end of the stream."""
    seen = b""
    while b"\r\n\r\n" not in seen:
        if not (more := peer.recv(65536)):
            return b""
        seen += more
    head, _, body = seen.partition(b"\r\n\r\n")
    length = 0
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    while len(body) < length:
        if not (more := peer.recv(65536)):
            return b""
        body += more
    return head + b"\r\n\r\n" + body


def _reset(peer: socket.socket) -> None:
    with contextlib.suppress(OSError):
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()


class Roles:
    """A dispatcher that reaches its worker over a link that breaks."""

    def __init__(self, serve: Serve) -> None:
        self.worker = serve("worker", WORKERS="1")
        self.link = FaultyLink(urlsplit(self.worker.url).port or 0)
        self.dispatcher = serve(WORKERS="1", RUNNER="not-installed", WORKER_URL=self.link.url)
        self.dispatcher.deploy("note", NOTE)
        self.count = 0

    def run(self, *faults: str, **members: object) -> tuple[int, Any, int, str]:
        """Return status, answer, how often the run was sent, and its execution id."""
        self.count += 1
        execution_id = f"execution-{self.count}"
        self.link.faults.extend(faults)
        before = self.link.runs
        status, answer = self.dispatcher.invoke("note", execution_id=execution_id, **members)
        return status, answer, self.link.runs - before, execution_id

    def starts(self, execution_id: str) -> int:
        """Return how often the handler began with it."""
        return int(self.worker.text().count(f"ran {execution_id}."))


@pytest.fixture
def roles(serve: Serve) -> Iterator[Roles]:
    both = Roles(serve)
    yield both
    both.link.close()


@pytest.mark.fault(103)
def test_what_was_lost_after_sending_is_unknown_and_never_sent_again(
    roles: Roles, poll: Poll
) -> None:
    for fault, ran in (
        ("reset before", 0),
        ("reset after", 1),
        ("cut", 1),
        ("garbage", 0),
        ("bare 500", 0),
        ("bare 502", 0),
        ("other version", 0),
    ):
        status, answer, sent, execution_id = roles.run(fault)
        assert (status, answer["code"]) == (502, "worker_lost"), fault
        assert answer["outcome"] == "unknown", fault
        assert execution_id in answer["detail"], fault
        assert sent == 1, fault
        if ran:
            poll("its line is printed", lambda run=execution_id: roles.starts(run))
        assert roles.starts(execution_id) == ran, fault
        if fault == "other version":
            assert "version 7" in answer["detail"]
            assert "run the same release on both" in answer["detail"]
    # And the next one is served as if nothing had been
    assert roles.run()[0] == 200


@pytest.mark.fault(104)
def test_a_worker_of_another_release_refuses_and_the_caller_is_told_why(roles: Roles) -> None:
    status, answer, sent, execution_id = roles.run("skewed")
    assert (status, answer["code"], answer["outcome"]) == (502, "worker_skew", "not_executed")
    said = f"the caller speaks version 7 of the internal API, this worker {API_VERSION}"
    assert said in answer["detail"]
    assert sent == 1
    assert roles.starts(execution_id) == 0


@pytest.mark.fault(103)
def test_a_503_is_offered_again_twice_and_runs_once(roles: Roles, poll: Poll) -> None:
    status, answer, sent, execution_id = roles.run(*["balancer's 503"] * 2, timeout_ms=5000)
    assert (status, sent) == (200, 3), answer
    # The pauses before it was offered again are the invocation's own time.
    assert 3000 < answer["output"]["data"] <= 4700
    poll("its line is printed", lambda: roles.starts(execution_id))
    assert roles.starts(execution_id) == 1
    status, answer, sent, execution_id = roles.run(*["balancer's 503"] * 3)
    assert (status, answer["code"], answer["outcome"]) == (
        503,
        "runner_unavailable",
        "not_executed",
    )
    assert sent == 3
    assert roles.starts(execution_id) == 0


@pytest.mark.fault(103)
def test_a_503_of_nobody_is_offered_once(roles: Roles) -> None:
    """Envoy gives it where a worker that was sent a run has reset the connection."""
    status, answer, sent, execution_id = roles.run("bare 503")
    assert (status, answer["code"], answer["outcome"]) == (502, "worker_lost", "unknown")
    assert execution_id in answer["detail"]
    assert sent == 1


@pytest.mark.fault(103)
def test_a_worker_that_says_nothing_is_a_504(roles: Roles) -> None:
    began = time.monotonic()
    status, answer, sent, execution_id = roles.run("silence", timeout_ms=500)
    took = time.monotonic() - began
    assert (status, answer["code"], answer["outcome"]) == (504, "worker_timeout", "unknown")
    assert answer["phase"] == "worker"
    assert execution_id in answer["detail"]
    assert sent == 1
    assert 10 < took < 15  # the deadline, and the grace of 10 s
    status, answer, sent, _ = roles.run("bare 504")
    assert (status, answer["code"], answer["outcome"], sent) == (
        504,
        "worker_timeout",
        "unknown",
        1,
    )


@pytest.mark.fault(103)
def test_a_refused_connection_is_not_executed(roles: Roles) -> None:
    assert roles.run()[0] == 200
    roles.link.close()
    status, answer, sent, _ = roles.run()
    assert (status, answer["code"], answer["outcome"], sent) == (
        503,
        "runner_unavailable",
        "not_executed",
        0,
    )
    status, answer = roles.dispatcher.call("GET", "/readyz")
    assert status == 503
    assert "does not answer" in answer["detail"]


@pytest.mark.fault(98)
@pytest.mark.fault(103)
def test_a_killed_worker_is_unknown_to_the_caller_and_is_replaced(roles: Roles, poll: Poll) -> None:
    (serving,) = roles.worker.gunicorn_workers()
    answers = roles.dispatcher.in_background("note", {"ms": 20_000}, execution_id="execution-k")
    poll("it runs", lambda: roles.starts("execution-k"))
    os.kill(serving.pid, signal.SIGKILL)
    status, answer = poll("its caller is told", lambda: answers, 10)[0]
    assert (status, answer["code"], answer["outcome"]) == (502, "worker_lost", "unknown")
    assert "execution-k" in answer["detail"]
    poll("there is a new one", lambda: roles.worker.gunicorn_workers() not in ([], [serving]))
    poll("it serves", roles.dispatcher.ready)
    assert roles.run()[0] == 200
    assert roles.starts("execution-k") == 1


def test_connections_are_kept(roles: Roles) -> None:
    roles.run()
    before = roles.link.connections
    for _ in range(20):
        assert roles.run()[0] == 200
    assert roles.link.connections == before
