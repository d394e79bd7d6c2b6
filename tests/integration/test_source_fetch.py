"""Servers that are slow to give a source hold up nobody who does not want one."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

Serve = Callable[..., Any]

ECHO = "export const handler = (input) => ({ ok: true, data: input });"


@pytest.fixture
def silent() -> Iterator[str]:
    """Listen, take connections, and never say anything; return host and port."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    yield f"127.0.0.1:{listener.getsockname()[1]}"
    listener.close()


@pytest.mark.fault(36)
def test_slow_servers_leave_threads_for_others(serve: Serve, silent: str) -> None:
    service = serve(
        WORKERS="1",
        THREADS="6",
        SOURCE_ALLOW_HTTP="true",
        SOURCE_ALLOW_HOSTS=silent,
        SOURCE_TIMEOUT_S="3",
    )
    service.deploy("echo", ECHO)
    codes: list[tuple[int, str]] = []

    def pull() -> None:
        body = {"source_url": f"http://{silent}/greet.mjs"}
        status, answer = service.call("POST", "/functions/echo/pull", body)
        codes.append((status, answer["code"]))

    threads = [threading.Thread(target=pull) for _ in range(20)]
    for thread in threads:
        thread.start()
    # While they wait, health is told, and others' functions run.
    time.sleep(0.5)
    for _ in range(5):
        began = time.monotonic()
        assert service.call("GET", "/healthz")[0] == 200
        assert service.invoke("echo", {"n": 1})[1]["output"]["data"] == {"n": 1}
        assert time.monotonic() - began < 1
    for thread in threads:
        thread.join()
    assert set(codes) == {(502, "source_unavailable"), (429, "no_capacity")}
    assert service.sandboxes()["in_flight"] == 0
    # The source is as it was, and its function still is there.
    assert service.invoke("echo", {"n": 2})[1]["deployment_version"] == 1


def test_a_service_that_fetches_ends_when_it_is_told(serve: Serve, silent: str) -> None:
    service = serve(
        WORKERS="1",
        SOURCE_ALLOW_HTTP="true",
        SOURCE_ALLOW_HOSTS=silent,
        SOURCE_TIMEOUT_S="60",
        DRAIN_NOTICE_S="0",
        DRAIN_TIMEOUT_S="1",
    )
    service.deploy("echo", ECHO)

    def pull() -> None:
        body = {"source_url": f"http://{silent}/greet.mjs"}
        try:
            service.call("POST", "/functions/echo/pull", body)
        except Exception:
            return

    waiting = threading.Thread(target=pull)
    waiting.start()
    time.sleep(0.5)
    began = time.monotonic()
    service.process.terminate()
    service.process.wait(30)
    assert time.monotonic() - began < 20
    waiting.join(10)
    assert not waiting.is_alive()
    assert not [seen for seen in service.family() if seen.lives()]
