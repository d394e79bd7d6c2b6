"""SIGTERM: balancers are given notice, what runs is finished, the rest is cancelled and answered."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import urllib3

Serve = Callable[..., Any]
Poll = Callable[..., Any]

NAP = (
    "export const handler = async ({ ms = 0 }) => { console.log('nap begins');"
    " await new Promise((done) => setTimeout(done, ms)); return { ok: true, data: null }; };"
)


@pytest.mark.fault(99)
@pytest.mark.parametrize("remote", [False, True])
def test_notice_then_finish_then_cancel(serve: Serve, poll: Poll, remote: bool) -> None:
    # Given a service that drains, by itself or behind a dispatcher, and two runs
    drain = {"WORKERS": "1", "DRAIN_NOTICE_S": "2", "DRAIN_TIMEOUT_S": "4"}
    if remote:
        ending = serve("worker", **drain)
        service = serve(WORKERS="1", WORKER_URL=ending.url)
    else:
        ending = service = serve(**drain)
    service.deploy("nap", NAP)
    short = service.in_background("nap", {"ms": 3500})
    long = service.in_background("nap", {"ms": 60_000})
    poll("both run", lambda: ending.text().count("nap begins") == 2)
    names, everyone = ending.owners(), ending.family()
    # When it is told to end
    began = time.monotonic()
    ending.process.send_signal(signal.SIGTERM)
    # Then it is not ready, says why, and still takes what comes in over new connections
    poll("it is red", lambda: ending.call("GET", "/readyz")[0] == 503, 1)
    assert "shutting down" in ending.call("GET", "/readyz")[1]["detail"]
    with urllib3.PoolManager(retries=False) as fresh:
        answer = fresh.request("POST", f"{service.url}/functions/nap/invoke", json={"input": {}})
    assert answer.status == 200
    assert answer.json()["status"] == "succeeded"
    # And the run that fits is finished, the other one cancelled and answered
    assert poll("the short one is answered", lambda: short, 10)[0][1]["status"] == "succeeded"
    status, told = poll("the long one is answered", lambda: long, 10)[0]
    assert 5.5 < time.monotonic() - began < 9
    assert (status, told["status"], told["error"]["code"]) == (200, "cancelled", "cancelled")
    # And nothing is left
    assert ending.process.wait(10) == 0
    poll("all are gone", lambda: not [seen for seen in everyone if seen.lives()], 5)
    assert ending.left_behind(names) == []
    assert "Traceback" not in ending.text()


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
