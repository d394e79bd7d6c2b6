"""What is told of an invocation, and that telling can break nothing."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from lowcode_faas_core.errors import CapacityError, WorkerLost
from lowcode_faas_core.meter import Meter
from lowcode_faas_core.model import FunctionRef, StartKind, Status
from lowcode_faas_core.testing.memory_metrics import MemoryMetrics

GREET = FunctionRef("org", "greet")
RESULT: Any = SimpleNamespace(status=Status.TIMEOUT, start=StartKind.WARM)


def failing(error: BaseException) -> Any:
    def run() -> Any:
        raise error

    return run


def test_an_invocation_is_told_by_its_verdict() -> None:
    metrics = MemoryMetrics()
    assert Meter(metrics).invocation(GREET, lambda: RESULT) is RESULT
    assert metrics.events == [("began",), ("ended", "org/greet", "timeout", StartKind.WARM)]


@pytest.mark.parametrize(
    ("error", "status", "rejected"),
    [
        (CapacityError("full"), "no_capacity", True),
        (WorkerLost(), "worker_lost", False),
        (ValueError("a bug"), "internal_error", False),
        (SystemExit(1), "internal_error", False),
    ],
)
def test_one_that_came_to_none_by_its_problem(
    error: BaseException, status: str, rejected: bool
) -> None:
    metrics = MemoryMetrics()
    with pytest.raises(type(error)):
        Meter(metrics).invocation(GREET, failing(error))
    assert metrics.events[0] == ("began",)
    assert metrics.events[-1] == ("ended", "org/greet", status, None)
    assert (("rejected",) in metrics.events) is rejected


def test_deployments_are_told_by_outcome() -> None:
    metrics = MemoryMetrics()
    meter = Meter(metrics)
    assert meter.deployment(lambda: 5, lambda done: f"made {done}") == 5
    with pytest.raises(CapacityError):
        meter.deployment(failing(CapacityError("full")), str)
    with pytest.raises(ValueError, match="a bug"):
        meter.deployment(failing(ValueError("a bug")), str)
    assert [event[1] for event in metrics.events] == ["made 5", "no_capacity", "internal_error"]


@pytest.mark.fault(107)
def test_a_plugin_that_raises_fails_nothing_and_is_reported_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    metrics = MemoryMetrics()
    metrics.failure = RuntimeError("out of cells")
    meter = Meter(metrics)
    assert meter.invocation(GREET, lambda: RESULT) is RESULT
    with pytest.raises(CapacityError):
        meter.invocation(GREET, failing(CapacityError("full")))
    meter.operation("start", "ok", 1)
    meter.log_events("stdout", 1)
    meter.log_events_dropped("stdout", "queue_full", 1)
    meter.orphans_reaped(1)
    meter.pool(failing(ValueError("no counts")))
    assert meter.deployment(lambda: 5, str) == 5
    assert caplog.text.count("the metrics plugin failed") == 1
    assert "out of cells" in caplog.text


def test_without_a_plugin_nothing_is_asked() -> None:
    meter = Meter()
    assert meter.invocation(GREET, lambda: RESULT) is RESULT
    meter.pool(failing(AssertionError("asked")))
    meter.orphans_reaped(1)
    assert meter.show("") is None
    meter.close()
