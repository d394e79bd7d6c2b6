"""What every runner holds, whatever it is made of: subclass :class:`RunnerContract`.

The functions are JavaScript modules, as everywhere; a runner that cannot run them in the way of a
real one (a stub) gives its own through ``functions``.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest

from lowcode_faas_core.errors import Draining
from lowcode_faas_core.interfaces.runner import Runner
from lowcode_faas_core.model import (
    Deployment,
    Execution,
    Invocation,
    LogLine,
    Reuse,
    StartKind,
    Status,
)
from lowcode_faas_core.testing.samples import sample_deployment, sample_invocation

__all__ = ["FUNCTIONS", "RunnerContract"]

#: What the checks run. Whoever overrides ``functions`` keeps the meaning of each name.
FUNCTIONS: Mapping[str, str] = {
    "echo": "export const handler = (input) => ({ ok: true, data: input });",
    "env": "export const handler = () => ({ ok: true, data: process.env.NAME ?? null });",
    "refuse": "export const handler = () => ({ ok: false, error: 'no', code: 'E_NO' });",
    "throw": "export const handler = () => { throw new Error('thrown on purpose'); };",
    "list": "export const handler = () => [1];",
    "spin": "export const handler = () => { for (;;); };",
    "exit": "export const handler = () => process.exit(3);",
    "print": (
        "export const handler = (input) => {"
        " for (const line of input.lines) console.log(line); return { ok: true }; };"
    ),
    "count": "let n = 0; export const handler = () => ({ ok: true, data: ++n });",
    "sleep": (
        "export const handler = async (input) => {"
        " await new Promise((done) => setTimeout(done, input.ms)); return { ok: true }; };"
    ),
}


class RunnerContract:
    """Give a fixture ``runner``: an open runner with room for at least four runs at a time.

    Optional: ``functions``, and ``running``, which looks past the runner.
    """

    #: Whether runs of one deployment may share an instance.
    reuses_instances = True
    #: The deadline of a handler that never ends, in milliseconds; a cold start must fit in it.
    spin_ms = 1500

    @pytest.fixture
    def runner(self) -> Runner:
        """Return an open runner; overridden by the subclass."""
        raise NotImplementedError("a subclass of RunnerContract gives the fixture `runner`")

    @pytest.fixture
    def functions(self) -> Mapping[str, str]:
        """Return the functions the checks run."""
        return FUNCTIONS

    @pytest.fixture
    def running(self) -> Callable[[], int] | None:
        """**Optional.** Return what counts, past the runner, the handlers that run right now."""
        return None

    @pytest.fixture
    def run(self, runner: Runner, functions: Mapping[str, str]) -> Callable[..., Execution]:
        """Return a function that runs one of the functions once."""

        def run_one(
            name: str,
            value: object = None,
            *,
            deployment: Deployment | None = None,
            env: dict[str, str] | None = None,
            timeout_ms: int = 20_000,
            on_log: Callable[[LogLine], None] = _ignore,
            invocation: Invocation | None = None,
        ) -> Execution:
            wanted = invocation or sample_invocation(
                deployment or sample_deployment(function_name=name),
                value,
                env=env,
                timeout_ms=timeout_ms,
            )
            return runner.run(wanted, functions[name].encode, on_log)

        return run_one

    def test_input_goes_in_and_output_comes_out(self, run: Callable[..., Execution]) -> None:
        """The handler gets the input, and its return value is the output."""
        value = {"text": "ü🙂\u2028", "list": [1, 2.5, None, True], "nested": {"a": {}}}
        execution = run("echo", value)
        assert execution.status is Status.SUCCEEDED
        assert execution.error is None
        assert execution.output is not None
        assert msgspec.json.decode(execution.output) == {"ok": True, "data": value}

    def test_the_env_is_there_before_the_module(self, run: Callable[..., Execution]) -> None:
        """``process.env`` holds exactly what the invocation brings."""
        execution = run("env", env={"NAME": "value with spaces = and ü"})
        assert execution.output is not None
        assert msgspec.json.decode(execution.output)["data"] == "value with spaces = and ü"

    def test_different_env_is_never_shared(self, run: Callable[..., Execution]) -> None:
        """Runs of one deployment with different env do not see each other's."""
        deployment = sample_deployment()
        for name in ("one", "two", "one"):
            execution = run("env", deployment=deployment, env={"NAME": name})
            assert execution.output is not None
            assert msgspec.json.decode(execution.output)["data"] == name
        execution = run("env", deployment=deployment)
        assert execution.output is not None
        assert msgspec.json.decode(execution.output)["data"] is None

    @pytest.mark.parametrize(
        ("name", "status", "code"),
        [
            ("refuse", Status.FAILED, None),
            ("throw", Status.HANDLER_ERROR, "handler_error"),
            ("list", Status.INVALID_OUTPUT, "invalid_output"),
            ("exit", Status.CRASHED, "exited"),
        ],
    )
    def test_failures_of_a_function_are_verdicts(
        self, run: Callable[..., Execution], name: str, status: Status, code: str | None
    ) -> None:
        """A function's own failure is an Execution with the right status, never an exception."""
        execution = run(name)
        assert execution.status is status
        assert (execution.error.code.value if execution.error else None) == code

    def test_a_deadline_ends_a_busy_loop(
        self, run: Callable[..., Execution], running: Callable[[], int] | None
    ) -> None:
        """At the deadline user code is killed first, then the verdict is given: a timeout."""
        began = time.monotonic()
        execution = run("spin", timeout_ms=self.spin_ms)
        still = running() if running is not None else 0
        assert execution.status is Status.TIMEOUT
        assert self.spin_ms / 1000 <= time.monotonic() - began < self.spin_ms / 1000 + 2.0
        assert still == 0, "user code ran on when the verdict was given"
        assert run("echo").status is Status.SUCCEEDED

    def test_lines_are_captured_before_the_verdict(self, run: Callable[..., Execution]) -> None:
        """What was printed before the result was handed over when ``run`` returns, in order."""
        printed = [f"line {n}" for n in range(50)] + ["ü🙂"]
        lines: list[LogLine] = []
        invocation = sample_invocation(sample_deployment(function_name="print"), {"lines": printed})
        run("print", invocation=invocation, on_log=lines.append)
        assert [line.message for line in lines] == printed
        assert {line.execution_id for line in lines} == {invocation.execution_id}
        assert {line.stream for line in lines} == {"stdout"}

    def test_runs_at_the_same_time_do_not_mix(self, run: Callable[..., Execution]) -> None:
        """Each of many concurrent callers gets its own output."""
        deployment = sample_deployment()

        def one(number: int) -> int:
            execution = run("echo", {"n": number}, deployment=deployment)
            assert execution.output is not None
            answered: int = msgspec.json.decode(execution.output)["data"]["n"]
            return answered

        with ThreadPoolExecutor(4) as threads:
            assert list(threads.map(one, range(40))) == list(range(40))

    def test_fresh_shares_nothing(self, run: Callable[..., Execution]) -> None:
        """With ``reuse=fresh`` no run sees the module state of another, and none is warm."""
        deployment = sample_deployment(reuse=Reuse.FRESH)
        for _ in range(3):
            execution = run("count", deployment=deployment)
            assert execution.start is not StartKind.WARM
            assert execution.output is not None
            assert msgspec.json.decode(execution.output)["data"] == 1

    def test_warm_runs_share_an_instance_where_the_runner_can(
        self, run: Callable[..., Execution]
    ) -> None:
        """``start`` says the truth about whether the instance was new."""
        deployment = sample_deployment()
        counts = []
        for _ in range(3):
            execution = run("count", deployment=deployment)
            assert execution.output is not None
            counts.append((execution.start, msgspec.json.decode(execution.output)["data"]))
        for start, count in counts:
            assert (start is StartKind.WARM) == (count > 1)
        if self.reuses_instances:
            assert [count for _, count in counts] == [1, 2, 3]

    def test_durations_add_up(self, run: Callable[..., Execution]) -> None:
        """Queue, start and run are what they are called, in nanoseconds."""
        execution = run("sleep", {"ms": 100})
        assert 90_000_000 <= execution.run_ns < 20_000_000_000
        assert execution.queue_ns >= 0
        assert execution.start_ns >= 0

    def test_stats_are_plain_and_check_passes(self, runner: Runner) -> None:
        """``stats`` can be written as JSON, and a working runner is ready."""
        msgspec.json.encode(dict(runner.stats()))
        runner.check()

    def test_closing_cancels_what_runs(self, runner: Runner, run: Callable[..., Execution]) -> None:
        """A run in progress ends as ``cancelled``, later ones are refused, close may be repeated."""
        started = threading.Event()
        with ThreadPoolExecutor(1) as threads:

            def spin() -> Execution:
                started.set()
                return run("spin", timeout_ms=60_000)

            future = threads.submit(spin)
            started.wait()
            time.sleep(0.5)  # the run itself must have begun: no runner says when it does
            runner.close()
            try:
                assert future.result(10).status is Status.CANCELLED
            except Draining:
                pytest.fail("the run was refused, so nothing was running to be cancelled")
        with pytest.raises(Draining):
            run("echo")
        runner.close()


def _ignore(_line: LogLine) -> None:
    """Take a line nobody asked for."""
