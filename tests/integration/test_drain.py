"""SIGTERM: balancers are given notice, what runs is finished, the rest is cancelled and answered."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import urllib3

Serve = Callable[..., Any]
Poll = Callable[..., Any]

NAP = (
    "export const handler = async ({ ms = 0 }) => { console.log('nap begins');"
    " await new Promise((done) => setTimeout(done, ms)); console.log('nap ends');"
    " return { ok: true, data: null }; };"
)


def invoke(url: str) -> Any:
    """Return the answer to an invocation over a connection of its own."""
    with urllib3.PoolManager(retries=False) as fresh:
        return fresh.request("POST", f"{url}/functions/nap/invoke", json={"input": {}})


@pytest.mark.fault(99)
@pytest.mark.parametrize("remote", [False, True])
def test_notice_then_refuse_then_cancel(serve: Serve, poll: Poll, remote: bool) -> None:
    # Given a service that drains, by itself or behind a dispatcher, and two runs
    drain = {"WORKERS": "1", "DRAIN_NOTICE_S": "2", "DRAIN_TIMEOUT_S": "4"}
    if remote:
        ending = serve("worker", **drain)
        service = serve(WORKERS="1", WORKER_URL=ending.url)
    else:
        ending = service = serve(**drain)
    service.deploy("nap", NAP)
    short = service.in_background("nap", {"ms": 4000})
    long = service.in_background("nap", {"ms": 60_000})
    poll("both run", lambda: ending.text().count("nap begins") == 2)
    names, everyone = ending.owners(), ending.family()
    # When it is told to end
    began = time.monotonic()
    ending.process.send_signal(signal.SIGTERM)
    # Then it is not ready, says why once, and still takes what comes in over new connections
    poll("it is red", lambda: ending.call("GET", "/readyz")[0] == 503, 1)
    assert ending.call("GET", "/readyz")[1]["reasons"].count("the service is shutting down") == 1
    answer = invoke(service.url)
    assert (answer.status, answer.json()["status"]) == (200, "succeeded")
    if not remote:
        assert answer.headers["Connection"] == "close"
    # And after the notice refuses what is new, to whoever comes, and says that it did not run
    time.sleep(max(0.0, began + 2.4 - time.monotonic()))
    begun = ending.text().count("nap begins")
    for _ in range(3):
        answer = invoke(service.url)
        assert (answer.status, answer.json()["code"]) == (503, "draining"), answer.data
        assert answer.json()["outcome"] == "not_executed"
        if not remote:
            assert answer.headers["Connection"] == "close"
    assert ending.call("GET", "/healthz")[0] == 200
    assert not short
    # And the run that fits is finished, the other one cancelled and answered
    assert poll("the short one is answered", lambda: short, 10)[0][1]["status"] == "succeeded"
    status, told = poll("the long one is answered", lambda: long, 10)[0]
    assert 5.5 < time.monotonic() - began < 9
    assert (status, told["status"], told["error"]["code"]) == (200, "cancelled", "cancelled")
    assert told["outcome"] == "executed"
    assert ending.text().count("nap begins") == begun
    # And nothing is left
    assert ending.process.wait(10) == 0
    poll("all are gone", lambda: not [seen for seen in everyone if seen.lives()], 5)
    assert ending.left_behind(names) == []
    assert "Traceback" not in ending.text()


@pytest.mark.fault(99)
def test_a_dispatcher_that_ends_gives_up_what_a_worker_runs_and_says_so(
    serve: Serve, poll: Poll
) -> None:
    # Given a dispatcher whose worker runs something longer than its drain
    worker = serve("worker", WORKERS="1")
    drain = {"DRAIN_NOTICE_S": "0", "DRAIN_TIMEOUT_S": "1"}
    dispatcher = serve(WORKERS="1", WORKER_URL=worker.url, **drain)
    dispatcher.deploy("nap", NAP)
    answers = dispatcher.in_background("nap", {"ms": 4000}, execution_id="execution-1")
    poll("it runs", lambda: "nap begins" in worker.text())
    # When it is told to end
    dispatcher.process.send_signal(signal.SIGTERM)
    # Then the caller is told that nobody here knows the end, and the worker finishes it
    status, told = poll("its caller is told", lambda: answers, 5)[0]
    assert (status, told["code"], told["outcome"]) == (502, "worker_lost", "unknown")
    assert "execution-1" in told["detail"]
    assert dispatcher.process.wait(10) == 0
    poll("it is finished", lambda: "nap ends" in worker.text())
    assert worker.text().count("nap begins") == 1


def pollers(pid: int) -> int:
    """Return how many pollers a process has: gunicorn's and the lanes' once it serves."""
    links = [os.readlink(each) for each in Path(f"/proc/{pid}/fd").iterdir()]
    return links.count("anon_inode:[eventpoll]")


def test_a_reload_waits_for_those_who_come(serve: Serve, poll: Poll) -> None:
    # Given new processes that take their time until they serve
    service = serve(WORKERS="2")
    old = set(service.gunicorn_workers())
    # One that is told to end before it has an application has nothing to wait with.
    poll("both serve", lambda: all(pollers(seen.pid) == 2 for seen in old))
    service.deploy("nap", NAP)
    service.process.send_signal(signal.SIGHUP)
    poll("new ones are there", lambda: len(set(service.gunicorn_workers()) - old) == 2)
    new = set(service.gunicorn_workers()) - old
    for seen in new:
        os.kill(seen.pid, signal.SIGSTOP)
    # Then the old ones go on accepting meanwhile
    end = time.monotonic() + 2
    while time.monotonic() < end:
        assert invoke(service.url).status == 200
        assert service.ready()
        assert all(seen.lives() for seen in old)
    # And go when the new ones serve
    for seen in new:
        os.kill(seen.pid, signal.SIGCONT)
    poll("the old ones are gone", lambda: not [seen for seen in old if seen.lives()], 20)
    assert invoke(service.url).status == 200
    assert set(service.gunicorn_workers()) == new


def test_a_reload_is_never_red_and_loses_no_request(serve: Serve, poll: Poll) -> None:
    service = serve(WORKERS="2", DRAIN_NOTICE_S="2")
    service.deploy("nap", NAP)
    wrong: list[object] = []
    done = 0
    stop = threading.Event()

    def ask() -> None:
        nonlocal done
        with urllib3.PoolManager(retries=False) as http:
            while not stop.is_set():
                for method, path in (("POST", "/functions/nap/invoke"), ("GET", "/readyz")):
                    try:
                        # A connection each: one that is kept may be closed by either side.
                        answer = http.request(
                            method, service.url + path, json={}, headers={"Connection": "close"}
                        )
                        if answer.status != 200:
                            wrong.append(answer.data)
                    except urllib3.exceptions.HTTPError as error:
                        wrong.append(error)
                done += 1

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(2):
            old = set(service.gunicorn_workers())
            service.process.send_signal(signal.SIGHUP)
            poll("the old ones are gone", lambda old=old: not [s for s in old if s.lives()], 20)
            poll("there are new ones", lambda: len(service.gunicorn_workers()) == 2)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert done > 20
    assert wrong == []


@pytest.mark.fault(99)
def test_who_connects_while_the_last_clients_leave_is_told_that_nothing_ran(
    serve: Serve, poll: Poll
) -> None:
    """The worker waits for a connection of another client, with no run left and its port still open."""
    worker = serve("worker", WORKERS="1", DRAIN_NOTICE_S="0.5")
    service = serve(WORKERS="1", WORKER_URL=worker.url)
    service.deploy("nap", NAP)
    assert invoke(service.url).status == 200
    host, port = worker.url.removeprefix("http://").split(":")
    answers: Counter[tuple[int, str]] = Counter()
    over = threading.Event()

    def call() -> None:
        # Each over a connection of its own, to the very end.
        while not over.is_set():
            answer = invoke(service.url)
            answers[answer.status, answer.json()["outcome"]] += 1

    callers = [threading.Thread(target=call) for _ in range(8)]
    with socket.create_connection((host, int(port))) as idle:
        # What has begun is waited for.
        idle.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: ")
        for caller in callers:
            caller.start()
        worker.process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        # And whoever goes on calling does not keep it.
        assert worker.process.wait(30) == 0
        took = time.monotonic() - began
    over.set()
    for caller in callers:
        caller.join()
    assert took < 10
    assert {outcome for status, outcome in answers if status != 200} == {"not_executed"}, answers
    assert answers[503, "not_executed"] > 1, answers
