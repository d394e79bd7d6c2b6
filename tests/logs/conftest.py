"""Real functions with their events in a list, and events in numbers."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from lowcode_faas_process_runner import ProcessLauncher, ProcessSettings

from lowcode_faas_core.admission import Admission
from lowcode_faas_core.configuration import LimitSettings
from lowcode_faas_core.delivery import LogRouter
from lowcode_faas_core.ids import new_id
from lowcode_faas_core.invoker import LocalInvoker
from lowcode_faas_core.limits import OperatorLimits
from lowcode_faas_core.model import (
    Draft,
    FunctionRef,
    InvokeRequest,
    Language,
    LogEvent,
    Reuse,
    RunResult,
)
from lowcode_faas_core.sandbox.runner import PooledRunner
from lowcode_faas_core.sandbox.shelves import PoolCaps
from lowcode_faas_core.testing.memory_log_sink import MemoryLogSink
from lowcode_faas_core.testing.memory_storage import MemoryStorage


class Bench:
    """An invoker over Node processes whose sink is a list."""

    def __init__(self, **limits: int) -> None:
        bounds = OperatorLimits(LimitSettings(**limits))
        self.sink = MemoryLogSink()
        self.router = LogRouter({"memory": self.sink})
        self.storage = MemoryStorage()
        launcher = ProcessLauncher(ProcessSettings(), os.environ)
        caps = PoolCaps(
            instances=4,
            per_function=4,
            stock=0,
            queue=64,
            queue_timeout_ns=10_000_000_000,
            idle_ttl_ns=600_000_000_000,
        )
        runner = PooledRunner(launcher, caps, bounds)
        self.invoker = LocalInvoker(self.storage, runner, bounds, Admission(16), self.router)

    def deploy(self, body: str, name: str = "greet") -> FunctionRef:
        ref = FunctionRef("", name)
        source = f"import fs from 'node:fs';\nexport async function handler(input) {{ {body} }}\n"
        draft = Draft(source=source.encode(), language=Language.JAVASCRIPT, reuse=Reuse.WARM)
        self.storage.deploy(ref, draft)
        return ref

    def run(self, body: str, *, timeout_ms: int = 10_000, **request: Any) -> RunResult:
        return self.again(self.deploy(body), timeout_ms=timeout_ms, **request)

    def again(self, ref: FunctionRef, **request: Any) -> RunResult:
        return self.invoker.invoke(
            InvokeRequest(ref=ref, request_id=new_id(), input=msgspec.Raw(b"{}"), **request)
        )

    def events(self, result: RunResult) -> list[LogEvent]:
        """Return the events of one execution, once all that was captured is delivered."""
        deadline = time.monotonic() + 10
        while self.router.backlog():
            assert time.monotonic() < deadline
            time.sleep(0.005)
        return [e for e in self.sink.events if e.execution_id == result.execution_id]


@pytest.fixture
def bench() -> Iterator[Callable[..., Bench]]:
    made: list[Bench] = []

    def make(**limits: int) -> Bench:
        made.append(Bench(**limits))
        return made[-1]

    yield make
    for one in made:
        one.invoker.close()
        one.router.close()


@pytest.fixture
def functions(bench: Callable[..., Bench]) -> Bench:
    return bench()
