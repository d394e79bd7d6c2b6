"""Deploys, invocations and looks at logs, all the time; what was promised is remembered."""

from __future__ import annotations

import json
import random
import threading
import time
from collections import Counter
from typing import Any

import urllib3

from tests.chaos.supervised import Supervised

__all__ = ["Load"]

STABLE = (
    "export const handler = async ({ n, ms, lines }, { executionId }) => {"
    " console.log(`ran ${executionId}.`);"
    " for (let i = 0; i < lines; i++) console.log(`line ${i} of ${executionId}`);"
    " await new Promise((done) => setTimeout(done, ms)); return { ok: true, data: n }; };"
)
MOVING = 4
#: How long after a kill there may be too many at once, in seconds.
PRESSED_S = 10.0


def moving(marker: str) -> str:
    """Return a source that answers with its marker."""
    return f"export const handler = () => ({{ ok: true, data: '{marker}' }}); // {marker}"


class Load:
    """Many callers of one dispatcher; judges each answer when it comes."""

    def __init__(self, dispatcher: Supervised, worker: Supervised, seed: int) -> None:
        self.dispatcher = dispatcher
        self.worker = worker
        self.seed = seed
        self.stop = threading.Event()
        self.wrong: list[str] = []
        self.counts: Counter[str] = Counter()
        #: Deploys that were acknowledged: function, version, marker.
        self.acknowledged: list[tuple[str, int, str]] = []
        #: Executions that certainly did not run, as callers were told.
        self.not_executed: list[str] = []
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(target=self._repeat, args=(what, number), daemon=True)
            for number, what in enumerate(
                [self._invoke] * 8 + [self._deploy] * 2 + [self._look] * 2
            )
        ]

    def begin(self) -> None:
        """Deploy what is invoked, and start the callers."""
        with urllib3.PoolManager(retries=False, timeout=30) as http:
            status, answer = self.request(
                http, "POST", "/functions", {"name": "stable", "source_code": STABLE}
            )
            assert status == 201, answer
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Stop the callers."""
        self.stop.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive()

    def request(
        self, http: urllib3.PoolManager, method: str, path: str, body: object = None
    ) -> tuple[int, Any]:
        """Return status and parsed body."""
        answer = http.request(
            method,
            self.dispatcher.url + path,
            body=None if body is None else json.dumps(body),
            headers={"Content-Type": "application/json"},
        )
        return answer.status, json.loads(answer.data)

    def complain(self, what: str) -> None:
        """Note something that must not be."""
        self.wrong.append(what)

    def _repeat(self, what: Any, number: int) -> None:
        source = random.Random(f"{self.seed} {number}")
        count = 0
        with urllib3.PoolManager(retries=False, timeout=30) as http:
            while not self.stop.is_set():
                count += 1
                began = time.monotonic()
                try:
                    what(http, source, f"{number}-{count}", began)
                except urllib3.exceptions.HTTPError as error:
                    self._count("connection lost")
                    if not self.dispatcher.was_hurt(began, time.monotonic()):
                        self.complain(f"{what.__name__} failed though nobody was hurt: {error!r}")
                    time.sleep(0.05)
                except Exception as error:  # a caller that dies would look like success
                    self.complain(f"{what.__name__}: {error!r}")

    def _count(self, what: str) -> None:
        with self._lock:
            self.counts[what] += 1

    def _invoke(
        self, http: urllib3.PoolManager, source: random.Random, nonce: str, began: float
    ) -> None:
        execution_id = f"chaos-{nonce}"
        given = {"n": nonce, "ms": source.choice((0, 0, 20, 200)), "lines": source.choice((0, 5))}
        body = {"input": given, "execution_id": execution_id, "timeout_ms": 20_000}
        status, answer = self.request(http, "POST", "/functions/stable/invoke", body)
        ended = time.monotonic()
        hurt = self.worker.was_hurt(began, ended)
        # What a killed dispatcher had sent still runs, and has the places of what comes next.
        pressed = any(
            each.was_hurt(began - PRESSED_S, ended) for each in (self.worker, self.dispatcher)
        )
        if status == 200 and answer["status"] == "succeeded":
            self._count("succeeded")
            if answer["output"]["data"] != nonce or answer["execution_id"] != execution_id:
                self.complain(f"{execution_id} got another's answer: {answer}")
            return
        said = answer["error"]["code"] if status == 200 else answer["code"]
        self._count(f"{status} {said}")
        if status != 200 and answer["outcome"] == "not_executed":
            self.not_executed.append(execution_id)
        expected = {
            (200, "killed"),
            (200, "sandbox_lost"),
            (502, "worker_lost"),
            (503, "runner_unavailable"),
        }
        full = (status, said) == (429, "no_capacity")
        if not (full and pressed) and not (hurt and (status, said) in expected):
            self.complain(f"{execution_id}: {status} {said}, hurt: {hurt}: {answer}")

    def _deploy(
        self, http: urllib3.PoolManager, source: random.Random, nonce: str, began: float
    ) -> None:
        time.sleep(source.uniform(0.0, 0.1))
        name, marker = f"moving-{source.randrange(MOVING)}", f"marker-{nonce}"
        body = {"name": name, "source_code": moving(marker)}
        status, answer = self.request(http, "POST", "/functions", body)
        self._count(f"deploy {status}")
        if status == 201:
            self.acknowledged.append((name, answer["version"], marker))
        elif not self.dispatcher.was_hurt(began, time.monotonic()):
            self.complain(f"deploy of {marker}: {status} {answer}")

    def _look(
        self, http: urllib3.PoolManager, source: random.Random, nonce: str, began: float
    ) -> None:
        time.sleep(source.uniform(0.02, 0.2))
        del nonce, began
        path = source.choice(("/functions", "/function-logs/query?function=stable", "/healthz"))
        status, answer = self.request(http, "GET", path)
        self._count(f"look {status}")
        if status != 200:
            self.complain(f"{path}: {status} {answer}")
