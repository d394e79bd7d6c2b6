"""A deadline that passes before a sandbox was sent anything: nothing was executed."""

from __future__ import annotations

import time

import pytest

from lowcode_faas_core.errors import CapacityError, RunnerUnavailable
from lowcode_faas_core.model import Phase, Reuse, Status


def test_while_the_source_was_read_is_unavailable(bench, invocation, until):
    b = bench()
    late = invocation(timeout_ms=50)

    def slow():
        time.sleep((late.deadline_ns - time.monotonic_ns()) / 1e9 + 0.01)
        return b"export const handler = 1"

    with pytest.raises(RunnerUnavailable, match="deadline passed") as raised:
        b.runner.run(late, slow, b.lines.append)
    assert raised.value.outcome == "not_executed"
    until(lambda: b.launcher.living() == 0)


def test_before_a_warm_sandbox_was_given_the_input_is_no_capacity(bench, deployment, invocation):
    b = bench()
    target = deployment(reuse=Reuse.WARM)
    b.run(invocation(target))
    with pytest.raises(CapacityError, match="deadline passed") as raised:
        b.run(invocation(target, timeout_ms=-1))
    assert raised.value.outcome == "not_executed"


def test_after_the_module_was_evaluated_for_it_is_a_timeout(bench, invocation):
    b = bench()
    late = invocation(timeout_ms=150)
    run_on = b.runner._run_on

    def dawdle(instance, *rest):
        run = instance.run

        def late_run(*given):
            time.sleep((late.deadline_ns - time.monotonic_ns()) / 1e9 + 0.01)
            return run(*given)

        instance.run = late_run
        return run_on(instance, *rest)

    b.runner._run_on = dawdle
    execution = b.run(late)
    assert execution.status is Status.TIMEOUT
    assert execution.error.phase is Phase.RUN
