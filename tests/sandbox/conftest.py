from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from lowcode_faas_core.configuration import LimitSettings
from lowcode_faas_core.ids import new_id
from lowcode_faas_core.limits import OperatorLimits
from lowcode_faas_core.model import Deployment, Invocation, Language, Limits, LogLine, Reuse
from lowcode_faas_core.sandbox.runner import PooledRunner
from lowcode_faas_core.sandbox.shelves import PoolCaps
from lowcode_faas_core.testing.stub_launcher import Behaviour, StubLauncher, echo


def make_deployment(name: str = "greet", **changes: Any) -> Deployment:
    values: dict[str, Any] = {
        "deployment_id": new_id(),
        "function_name": name,
        "collection_path": "",
        "version": 1,
        "language": Language.JAVASCRIPT,
        "sha256": hashlib.sha256(b"").hexdigest(),
        "size": 0,
        "source_url": None,
        "reuse": Reuse.WARM,
        "limits": Limits(),
        "created_at": "2026-01-01T00:00:00.000000Z",
        "current": True,
        "checked": False,
        "restored_from": None,
    }
    return Deployment(**{**values, **changes})


def make_invocation(
    deployment: Deployment | None = None,
    value: Any = None,
    *,
    timeout_ms: int = 5_000,
    env: dict[str, str] | None = None,
    request_env: bool = False,
) -> Invocation:
    now_ns = time.monotonic_ns()
    execution_id = new_id()
    return Invocation(
        execution_id=execution_id,
        run_id=execution_id,
        request_id=new_id(),
        deployment=deployment or make_deployment(),
        env=env or {},
        request_env=request_env,
        input=msgspec.Raw(msgspec.json.encode({} if value is None else value)),
        accepted_ns=now_ns,
        deadline_ns=now_ns + timeout_ms * 1_000_000,
    )


def make_caps(**changes: int) -> PoolCaps:
    values: dict[str, Any] = {
        "instances": 4,
        "per_function": 4,
        "stock": 0,
        "queue": 64,
        "queue_timeout_ns": 10_000_000_000,
        "idle_ttl_ns": 600_000_000_000,
    }
    return PoolCaps(**{**values, **changes})


class Bench:
    """A runner over stub sandboxes, and the lines it captured."""

    def __init__(self, behaviour: Behaviour, **caps: int) -> None:
        self.launcher = StubLauncher(behaviour)
        self.runner = PooledRunner(
            self.launcher, make_caps(**caps), OperatorLimits(LimitSettings())
        )
        self.lines: list[LogLine] = []

    def run(self, invocation: Invocation, source: bytes = b"export const handler = 1") -> Any:
        return self.runner.run(invocation, lambda: source, self.lines.append)


@pytest.fixture
def bench() -> Iterator[Callable[..., Bench]]:
    made: list[Bench] = []

    def make(behaviour: Behaviour = echo, **caps: int) -> Bench:
        made.append(Bench(behaviour, **caps))
        return made[-1]

    yield make
    for one in made:
        one.runner.close()
        assert one.launcher.living() == 0
        assert one.launcher.closed


@pytest.fixture
def deployment() -> Callable[..., Deployment]:
    return make_deployment


@pytest.fixture
def invocation() -> Callable[..., Invocation]:
    return make_invocation


@pytest.fixture
def caps() -> Callable[..., PoolCaps]:
    return make_caps


def wait_until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    last = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < last, "the condition did not come true in time"
        time.sleep(0.002)


@pytest.fixture
def until() -> Callable[..., None]:
    return wait_until
