"""The pool and the stub launcher together hold the contract of a runner, without Node."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from lowcode_faas_core.configuration import LimitSettings
from lowcode_faas_core.interfaces.launcher import End
from lowcode_faas_core.limits import OperatorLimits
from lowcode_faas_core.sandbox.protocol import Kind
from lowcode_faas_core.sandbox.runner import PooledRunner
from lowcode_faas_core.sandbox.shelves import PoolCaps
from lowcode_faas_core.testing.runner_contract import FUNCTIONS, RunnerContract
from lowcode_faas_core.testing.stub_launcher import Conversation, StubLauncher


def play(talk: Conversation, context: Mapping[str, Any], value: Any) -> Any:
    """Do what the contract's function of that name does; its source is its name."""
    env = talk.loaded["env"]
    match talk.loaded["source"]:
        case "echo":
            return {"ok": True, "data": value}
        case "env":
            return {"ok": True, "data": env.get("NAME")}
        case "refuse":
            return {"ok": False, "error": "no", "code": "E_NO"}
        case "throw":
            talk.send(Kind.ERROR, {"code": "handler_error", "message": "thrown on purpose"})
        case "list":
            return [1]
        case "sleep":
            time.sleep(value["ms"] / 1000)
            return {"ok": True}
        case "exit":
            talk.crash(End(exit_code=3))
        case "print":
            for line in value["lines"]:
                talk.log(line, context["executionId"])
            return {"ok": True}
        case "count":
            talk.loaded["n"] = talk.loaded.get("n", 0) + 1
            return {"ok": True, "data": talk.loaded["n"]}
    return None


class TestPooledRunnerOverStubs(RunnerContract):
    spin_ms = 200

    @pytest.fixture
    def functions(self) -> Mapping[str, str]:
        return {name: name for name in FUNCTIONS}

    @pytest.fixture
    def spinning(self) -> set[str]:
        """The executions whose handler runs at this moment."""
        return set()

    @pytest.fixture
    def launcher(self, spinning: set[str]) -> StubLauncher:
        def behave(talk: Conversation, context: dict[str, Any], value: Any) -> Any:
            if talk.loaded["source"] != "spin":
                return play(talk, context, value)
            spinning.add(context["executionId"])
            try:
                talk.receive()  # nothing comes until it is killed
            finally:
                time.sleep(0.03)  # user code takes a moment to die
                spinning.discard(context["executionId"])

        return StubLauncher(behave)

    @pytest.fixture
    def runner(self, launcher: StubLauncher) -> Iterator[PooledRunner]:
        caps = PoolCaps(
            instances=8,
            per_function=8,
            stock=1,
            queue=64,
            queue_timeout_ns=20_000_000_000,
            idle_ttl_ns=600_000_000_000,
        )
        runner = PooledRunner(launcher, caps, OperatorLimits(LimitSettings()))
        yield runner
        runner.close()
        assert launcher.living() == 0
        assert launcher.closed

    @pytest.fixture
    def running(self, spinning: set[str]) -> Callable[[], int]:
        return lambda: len(spinning)
