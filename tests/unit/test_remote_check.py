"""Whatever is wrong with the worker, a check through it answers in time and says that nobody looked."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import msgspec
import pytest

from lowcode_faas_core.admission import SOURCES, Admission
from lowcode_faas_core.configuration import LimitSettings
from lowcode_faas_core.limits import OperatorLimits
from lowcode_faas_core.model import Language, SourceCheck, SourceFault
from lowcode_faas_core.remote import RemoteInvoker
from lowcode_faas_core.testing.memory_storage import MemoryStorage

UNCHECKED = SourceCheck(checked=False)


@contextmanager
def worker(status: int, answer: bytes, hold: threading.Event | None = None) -> Iterator[str]:
    """Serve one answer to everything; with ``hold``, only once it is set."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            if hold is not None:
                hold.wait()
            with contextlib.suppress(BrokenPipeError):  # whoever asked has given up
                self.send_response(status)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        if hold is not None:
            hold.set()
        server.shutdown()
        server.server_close()
        thread.join()


def check(url: str, source: bytes = b"let", admission: Admission | None = None) -> SourceCheck:
    limits = OperatorLimits(LimitSettings())
    remote = RemoteInvoker(url, "", MemoryStorage(), limits, admission or Admission(4))
    try:
        return remote.check_source(source, Language.JAVASCRIPT)
    finally:
        remote.close()


def test_what_the_worker_found_is_passed_on() -> None:
    found = SourceCheck(checked=True, fault=SourceFault("no", 1, 2))
    with worker(200, msgspec.json.encode(found)) as url:
        assert check(url) == found
    with worker(200, b'{"checked":true}') as url:
        assert check(url) == SourceCheck(checked=True)


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        (200, b"<html>"),
        (200, b"\xff"),
        (200, b'{"fault":null}'),
        (401, b'{"code":"unauthenticated"}'),
        (404, b"{}"),
        (500, b""),
        (503, b'{"code":"draining"}'),
    ],
)
def test_any_other_answer_is_none(status: int, answer: bytes) -> None:
    with worker(status, answer) as url:
        assert check(url) == UNCHECKED


def test_a_worker_that_is_gone_or_silent_is_waited_for_a_little() -> None:
    with worker(200, b"") as url:
        pass
    assert check(url) == UNCHECKED
    admission = Admission(4)
    began = time.monotonic()
    with worker(200, b'{"checked":true}', threading.Event()) as url:
        assert check(url, admission=admission) == UNCHECKED
        assert 2 <= time.monotonic() - began < 5
    assert admission.occupied == 0


def test_it_takes_the_place_of_an_invocation() -> None:
    admission = Admission(3)
    seat = admission.enter(SOURCES, lambda: False)
    with worker(200, b'{"checked":true}') as url:
        assert check(url, admission=admission) == UNCHECKED
        admission.leave(seat)
        assert check(url, admission=admission) == SourceCheck(checked=True)


def test_what_is_not_utf8_cannot_be_asked_about() -> None:
    with worker(200, b'{"checked":true}') as url:
        assert check(url, b"\xff") == UNCHECKED
