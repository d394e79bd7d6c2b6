"""Reloading gunicorn (SIGHUP) while requests never stop."""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import urllib3

Serve = Callable[..., Any]
Poll = Callable[..., Any]

ECHO = "export const handler = (input) => ({ ok: true, data: input });"
NAP = """export const handler = (input) =>
  new Promise((resolve) => setTimeout(resolve, 400, { ok: true, data: input }));"""
CAP = 8
RELOADS = 3


def test_no_request_fails_while_the_processes_change(
    serve: Serve, poll: Poll, descendants: Callable[[int], set[Any]]
) -> None:
    # Given short and long handlers called all the time, over old connections and new ones
    service = serve(WORKERS="2", MAX_INSTANCES=str(CAP))
    service.deploy("echo", ECHO)
    service.deploy("nap", NAP)
    stop = threading.Event()
    starts: Counter[str] = Counter()
    wrong: list[object] = []
    gone: set[str] = set()

    def call(name: str, headers: dict[str, str]) -> None:
        # A connection of its own, as a client in another process has.
        http = urllib3.PoolManager(retries=False, timeout=60)
        n = 0
        while not stop.is_set():
            n += 1
            try:
                answer = http.request(
                    "POST",
                    f"{service.url}/functions/{name}/invoke",
                    json={"input": {"n": n}},
                    headers=headers,
                )
                result = answer.json()
            except (urllib3.exceptions.HTTPError, ValueError) as error:
                wrong.append(error)
                continue
            if answer.status != 200 or result["output"] != {"ok": True, "data": {"n": n}}:
                wrong.append(result)
            starts[result.get("start", "none")] += 1

    callers = [
        threading.Thread(target=call, args=(name, headers))
        for name in ("echo", "nap", "nap")
        for headers in ({}, {"Connection": "close"})
    ]
    for caller in callers:
        caller.start()
    try:
        for _ in range(RELOADS):
            so_far = sum(starts.values())
            poll("requests are answered", lambda so_far=so_far: sum(starts.values()) > so_far + 20)
            before = service.gunicorn_workers()
            old = {seen for worker in before for seen in descendants(worker.pid)}
            gone |= service.owners()
            # When the master is told to reload
            os.kill(service.process.pid, signal.SIGHUP)
            # Then the old processes end, with their sandboxes, and as many new ones serve
            poll("the old are gone", lambda old=old: not [s for s in old if s.lives()], 30)
            poll("there are two", lambda: len(service.gunicorn_workers()) == 2)
            assert not set(before) & set(service.gunicorn_workers())
    finally:
        stop.set()
        for caller in callers:
            caller.join()
    # And no request failed
    print(f"\n{sum(starts.values())} requests over {RELOADS} reloads: {dict(starts)}; {wrong=}")
    assert wrong == []
    # And the last processes' launchers are all there are, none of the others left anything
    gone -= service.owners()
    assert len(service.owners()) <= 2
    assert service.left_behind(gone) == []
    assert service.nodes() <= CAP
