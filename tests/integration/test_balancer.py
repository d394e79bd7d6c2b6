"""Workers behind the shipped HAProxy configuration: restarted one by one, nobody notices."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import urllib3

from tests.services.fixtures import haproxy

__all__ = ["haproxy"]

ROOT = Path(__file__).resolve().parents[2]
CALLERS = 24
#: Requests to serve before it ends; ``make rolling`` asks for more than the suite has time for.
REQUESTS = int(os.environ.get("ROLLING_REQUESTS", "0"))
Serve = Callable[..., Any]
Poll = Callable[..., Any]

REPORT = (
    "export const handler = async (input, { executionId }) => { console.log(`ran ${executionId}.`);"
    " await new Promise((done) => setTimeout(done, 100)); return { ok: true, data: null }; };"
)


@pytest.fixture
def balance(haproxy: str, free_port: Callable[[], int]) -> Iterator[Callable[..., str]]:
    """Start the balancer before two addresses, and return its own."""
    started: list[subprocess.Popen[bytes]] = []

    def run(first: str, second: str) -> str:
        listen = f"127.0.0.1:{free_port()}"
        environ = {
            **os.environ,
            "LOWCODE_FAAS_BALANCER_LISTEN": listen,
            "LOWCODE_FAAS_WORKER1": first,
            "LOWCODE_FAAS_WORKER2": second,
        }
        config = str(ROOT / "conf" / "haproxy" / "haproxy.cfg")
        started.append(subprocess.Popen([haproxy, "-db", "-f", config], env=environ))
        return f"http://{listen}"

    yield run
    for process in started:
        process.kill()
        process.wait(10)


class Fake:
    """A worker that answers every run alike, and is as slow to say that it is ready as told."""

    def __init__(self, status: int, ready_after_s: float = 0.0) -> None:
        fake = self
        self.runs = 0
        self.checks = 0

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                fake.checks += 1
                time.sleep(ready_after_s)
                self.answer(200)

            def do_POST(self) -> None:
                fake.runs += self.path == "/v1/run"
                self.rfile.read(int(self.headers["Content-Length"]))
                self.answer(status)

            def answer(self, status: int) -> None:
                content = b'{"code":"runner_unavailable"}' if status == 503 else b""
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                # Else who was closed would go on with connections it has.
                self.send_header("Connection", "close")
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.netloc = f"127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def fakes() -> Iterator[Callable[..., Fake]]:
    made: list[Fake] = []

    def make(status: int, ready_after_s: float = 0.0) -> Fake:
        made.append(Fake(status, ready_after_s))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.mark.fault(103)
def test_the_tries_of_dispatcher_and_balancer_do_not_multiply(
    serve: Serve, poll: Poll, balance: Any, fakes: Callable[..., Fake]
) -> None:
    # Given workers that refuse whatever they are offered
    workers = [fakes(503), fakes(503)]
    url = balance(*(worker.netloc for worker in workers))
    poll("both were checked", lambda: all(worker.checks > 2 for worker in workers))
    service = serve(WORKERS="1", WORKER_URL=url)
    service.deploy("report", REPORT)
    # When something is invoked
    status, answer = service.invoke("report")
    # Then it was offered three times at once, then once more after each pause; both were asked
    assert (status, answer["outcome"]) == (503, "not_executed")
    assert sum(worker.runs for worker in workers) == 5
    assert all(worker.runs for worker in workers)


@pytest.mark.fault(103)
def test_a_balancer_without_workers_says_that_nothing_ran(
    serve: Serve, poll: Poll, balance: Any, fakes: Callable[..., Fake]
) -> None:
    workers = [fakes(200), fakes(200)]
    url = balance(*(worker.netloc for worker in workers))
    poll("both were checked", lambda: all(worker.checks > 2 for worker in workers))
    service = serve(WORKERS="1", WORKER_URL=url)
    service.deploy("report", REPORT)
    for worker in workers:
        worker.close()
    status, answer = service.invoke("report")
    assert (status, answer["code"], answer["outcome"]) == (
        503,
        "runner_unavailable",
        "not_executed",
    )
    assert answer["detail"] == "no worker is ready"


def test_a_worker_that_is_slow_to_say_it_is_ready_keeps_its_place(
    poll: Poll, balance: Any, fakes: Callable[..., Fake]
) -> None:
    workers = [fakes(200, ready_after_s=1.0), fakes(200, ready_after_s=1.0)]
    url = balance(*(worker.netloc for worker in workers))
    poll("both were checked", lambda: all(worker.checks >= 4 for worker in workers), 30)
    with urllib3.PoolManager(retries=False) as http:
        for _ in range(10):
            assert http.request("POST", f"{url}/v1/run", json={}).status == 200


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_rolling_restart_fails_no_request(serve: Serve, poll: Poll, balance: Any) -> None:
    workers = [serve("worker", WORKERS="1", THREADS="40", DRAIN_NOTICE_S="2") for _ in range(2)]
    url = balance(*(urlsplit(worker.url).netloc for worker in workers))
    service = serve(WORKERS="1", THREADS="40", WORKER_URL=url)
    for number in range(4):
        service.deploy(f"report{number}", REPORT)
    wrong: list[object] = []
    done: list[str] = []
    in_flight = 0
    lock = threading.Lock()
    stop = threading.Event()

    def ask(number: int) -> None:
        nonlocal in_flight
        with urllib3.PoolManager(retries=False, timeout=60) as http:
            while not stop.is_set():
                with lock:
                    in_flight += 1
                target = f"{service.url}/functions/report{number % 4}/invoke"
                try:
                    answer = http.request("POST", target, json={"input": {}})
                except urllib3.exceptions.HTTPError as error:
                    wrong.append(error)
                    continue
                finally:
                    with lock:
                        in_flight -= 1
                if answer.status == 200 and answer.json()["status"] == "succeeded":
                    done.append(answer.json()["execution_id"])
                else:
                    wrong.append(answer.data)

    threads = [threading.Thread(target=ask, args=(n,), daemon=True) for n in range(CALLERS)]
    for thread in threads:
        thread.start()
    ended = []
    try:
        poll("all are warm", lambda: len(done) > 100, 30)
        for index, worker in enumerate(workers):
            poll("enough is in flight", lambda: in_flight > 16)
            everyone = worker.family()
            worker.process.send_signal(signal.SIGTERM)
            assert worker.process.wait(30) == 0
            poll("all are gone", lambda them=everyone: not [s for s in them if s.lives()], 5)
            ended.append(worker)
            listen = urlsplit(worker.url).netloc
            workers[index] = serve("worker", WORKERS="1", THREADS="40", WORKER_LISTEN=listen)
            time.sleep(2)  # the balancer sees it
            half = REQUESTS * (index + 1) // 2
            poll("enough were served", lambda half=half: len(done) >= half, 300)
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)
    assert wrong == []
    texts = "".join(worker.text() for worker in (*ended, *workers))
    ran = Counter(re.findall(r"ran ([\w-]+)\.", texts))
    print(f"{len(done)} requests, {len(ran)} executions")
    assert max(ran.values()) == 1
    assert set(done) == set(ran)
