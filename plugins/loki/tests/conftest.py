"""The checker of `tests/services`, or a real Loki, and sinks that push there."""

from __future__ import annotations

import dataclasses
import functools
import os
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
import requests
from lowcode_faas_loki.settings import LokiSettings
from lowcode_faas_loki.sink import LokiSink, Patience

from lowcode_faas_core.settings import read
from tests.services.fixtures import checker
from tests.services.loki import Checker, Scripted, serving

__all__ = ["checker"]

#: Set: what can be asked of a real Loki is asked of the one at this URL.
REAL_URL = os.environ.get("LOWCODE_FAAS_TEST_LOKI_URL", "")


@pytest.fixture
def scripted() -> Callable[..., Scripted]:
    return Scripted


@pytest.fixture
def serve() -> Callable[..., Any]:
    return serving


@pytest.fixture
def new_checker() -> Callable[[], Checker]:
    return Checker


@pytest.fixture
def black_hole() -> Iterator[str]:
    """Return the URL of something that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def dead_url() -> str:
    """Return a URL where nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    return f"http://127.0.0.1:{port}"


class Timely(LokiSink):
    """Gives events the present time, each its own: those of the kit are old, as Loki sees them."""

    def emit(self, batch: Any) -> None:
        stamp = time.time_ns()
        super().emit(
            [
                msgspec.structs.replace(event, ts=rfc3339(stamp + number))
                for number, event in enumerate(batch)
            ]
        )


def rfc3339(stamp: int) -> str:
    seconds, nanoseconds = divmod(stamp, 10**9)
    return f"{_second(seconds)}.{nanoseconds:09d}Z"


@functools.lru_cache(maxsize=64)
def _second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


#: Fast enough for tests, with the shape of the real one.
QUICK = Patience(attempts=4, first_s=0.02, most_s=0.1, connect_s=1.0, answer_s=0.5)


@pytest.fixture
def make_sink() -> Iterator[Callable[..., LokiSink]]:
    made: list[LokiSink] = []

    def make(
        url: str, labels: dict[str, str] | None = None, patience: Patience = QUICK, **settings: Any
    ) -> LokiSink:
        environ = {"LOWCODE_FAAS_LOG_LOKI_URL": url}
        parsed = dataclasses.replace(read(environ, LokiSettings), **settings)
        made.append(Timely(parsed, labels or {"job": "lowcode-faas"}, patience))
        return made[-1]

    yield make
    for sink in made:
        sink.close()


class Target:
    """Where a test pushes, and what arrived there: the checker, or a real Loki."""

    def __init__(self, checker: Checker) -> None:
        self._checker = checker
        self.url = REAL_URL or checker.url
        self.labels = {"job": "lowcode-faas", "test": uuid.uuid4().hex}

    def lines(self, count: int) -> list[str]:
        """Return the lines, oldest first; a real Loki shows them some seconds later."""
        if not REAL_URL:
            return self._checker.lines()
        deadline = time.monotonic() + 15
        while True:
            answer = requests.get(
                f"{REAL_URL}/loki/api/v1/query_range",
                params={
                    "query": f'{{test="{self.labels["test"]}"}}',
                    "start": str(time.time_ns() - 600 * 10**9),
                    "limit": "5000",
                    "direction": "forward",
                },
                timeout=10,
            )
            answer.raise_for_status()
            values = [row for s in answer.json()["data"]["result"] for row in s["values"]]
            if len(values) >= count or time.monotonic() > deadline:
                return [row[1] for row in sorted(values, key=lambda row: int(row[0]))]
            time.sleep(0.2)


@pytest.fixture
def target(checker: Checker) -> Target:
    return Target(checker)
