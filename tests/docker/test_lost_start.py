"""A real engine behind a proxy that loses answers to a start: what ran is never called not executed."""

from __future__ import annotations

import contextlib
import os
import socket
import threading

import pytest
from lowcode_faas_docker_runner import DockerSettings, FilesRunner
from lowcode_faas_docker_runner.engine import Unreachable
from lowcode_faas_docker_runner.host import DockerHost

from lowcode_faas_core.configuration import LimitSettings, PoolSettings
from lowcode_faas_core.errors import UnconfirmedEnd
from lowcode_faas_core.limits import OperatorLimits
from lowcode_faas_core.model import Status
from lowcode_faas_core.testing.samples import sample_invocation

QUICK = b"export const handler = () => { console.log('ran'); return { ok: true }; };"
SPIN = b"export const handler = () => { console.log('ran'); for (;;); };"


class Proxy:
    """Passes everything on but what a test wants lost; a connection carries one request."""

    def __init__(self, path, target):
        self.address = f"unix://{path}"
        self.starts = 0
        #: ``answer`` loses the answer to a start, ``question`` the start itself, ``late`` keeps the
        #: connection and never answers.
        self.loses = "answer"
        #: Looks after the start that find no engine.
        self.blind_looks = 0
        self._target = target
        self._held = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for each in self._held:
            each.close()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        with contextlib.suppress(OSError), contextlib.ExitStack() as open_:
            first = client.recv(65536)
            line = first.split(b"\r\n", 1)[0]
            is_start, is_look = b"/start " in line, line.startswith(b"GET") and b"/json " in line
            if is_start:
                self.starts += 1
            if is_start and self.loses == "late":
                self._held.append(client)
            else:
                open_.callback(client.close)
            if is_start and self.loses == "question":
                return
            if is_look and b"/containers/" in line and self.starts and self.blind_looks:
                self.blind_looks -= 1
                return
            engine = open_.enter_context(socket.socket(socket.AF_UNIX))
            engine.connect(self._target)
            engine.sendall(first)
            if is_start:
                engine.recv(65536)
                return
            back = threading.Thread(target=_pump, args=(client, engine), daemon=True)
            back.start()
            _pump(engine, client)


def _pump(source, sink):
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


@pytest.fixture
def proxy(engine, tmp_path):
    address = os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
    if not address.startswith("unix://"):
        pytest.skip("the proxy speaks to an engine behind a socket")
    proxy = Proxy(tmp_path / "proxy.sock", address.removeprefix("unix://"))
    yield proxy
    proxy.close()


@pytest.fixture
def run(proxy, instance, image_of):
    host = DockerHost(
        DockerSettings(image=image_of(), instance=instance, network="none", prewarm_image=False),
        {"DOCKER_HOST": proxy.address},
    )
    runner = FilesRunner(host, PoolSettings(), OperatorLimits(LimitSettings()))
    lines = []

    def run(source, timeout_ms=20_000):
        invocation = sample_invocation(timeout_ms=timeout_ms)
        return runner.run(invocation, lambda: source, lines.append)

    run.lines = lines
    yield run
    runner.close()


def left(engine, instance):
    label = {"label": f"io.lowcode-faas.instance={instance}"}
    return engine.containers.list(all=True, filters=label, ignore_removed=True)


@pytest.mark.fault(91)
def test_the_verdict_of_what_ran_is_found(run, proxy, engine, instance, poll):
    assert run(QUICK).status is Status.SUCCEEDED
    assert proxy.starts == 1
    assert [line.message for line in run.lines] == ["ran"]
    poll("nothing is left", lambda: not left(engine, instance))


@pytest.mark.fault(91)
def test_what_never_started_may_be_tried_again(run, proxy, engine, instance):
    proxy.loses = "question"
    with pytest.raises(Unreachable):
        run(QUICK)
    assert left(engine, instance) == []
    proxy.loses = "answer"
    assert run(QUICK).status is Status.SUCCEEDED


@pytest.mark.fault(91)
def test_what_was_killed_for_want_of_an_answer_is_unknown(run, proxy, engine, instance, poll):
    proxy.blind_looks = 1
    with pytest.raises(UnconfirmedEnd, match="may have run"):
        run(SPIN)
    poll("nothing is left", lambda: not left(engine, instance))


@pytest.mark.fault(91)
def test_what_runs_into_its_deadline_is_a_timeout(run, proxy, engine, instance, poll):
    proxy.loses = "late"
    assert run(SPIN, 3000).status is Status.TIMEOUT
    poll("nothing is left", lambda: not left(engine, instance))
