from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lowcode_faas_core.configuration import LimitSettings
from lowcode_faas_core.limits import OperatorLimits
from lowcode_faas_core.model import Deployment, Invocation, LogLine
from lowcode_faas_core.sandbox.runner import PooledRunner
from lowcode_faas_core.sandbox.shelves import PoolCaps
from lowcode_faas_core.testing.samples import sample_deployment, sample_invocation
from lowcode_faas_core.testing.stub_launcher import Behaviour, Conversation, StubLauncher, echo


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

    def __init__(
        self, behaviour: Behaviour, conversation: type[Conversation] = Conversation, **caps: int
    ) -> None:
        self.launcher = StubLauncher(behaviour)
        # Before there is a runner, which may start its stock at once.
        self.launcher.conversation = conversation
        self.runner = PooledRunner(
            self.launcher, make_caps(**caps), OperatorLimits(LimitSettings())
        )
        self.lines: list[LogLine] = []

    def run(self, invocation: Invocation, source: bytes = b"export const handler = 1") -> Any:
        return self.runner.run(invocation, lambda: source, self.lines.append)


@pytest.fixture
def bench() -> Iterator[Callable[..., Bench]]:
    made: list[Bench] = []

    def make(
        behaviour: Behaviour = echo, conversation: type[Conversation] = Conversation, **caps: int
    ) -> Bench:
        made.append(Bench(behaviour, conversation, **caps))
        return made[-1]

    yield make
    for one in made:
        one.runner.close()
        assert one.launcher.living() == 0
        assert one.launcher.closed


@pytest.fixture
def deployment() -> Callable[..., Deployment]:
    return sample_deployment


@pytest.fixture
def invocation() -> Callable[..., Invocation]:
    return sample_invocation


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
