"""Hosts that compute are compared for equal CPU of a request, and not for what they compile."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from bench.load import Taken, Target
from bench.rounds import Rounds
from bench.rows import Verdict, busy


class Host:
    """Takes so much CPU for a loop, and some for the request."""

    name = "host"
    process = SimpleNamespace(pid=1)

    def __init__(self, loop_s: float, status: int = 200) -> None:
        self.loop_s = loop_s
        self.status = status
        self.used_s = 0.0

    def call(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        self.used_s += 0.0003 + body["input"]["loops"] * self.loop_s
        return self.status, {"status": self.status}


def calibrated(host: Any, monkeypatch: pytest.MonkeyPatch) -> Target:
    monkeypatch.setattr(busy, "cpu_s", lambda pid: host.used_s)
    return busy.calibrated(Target(host, "/echo", None))


@pytest.mark.parametrize(("loop_s", "loops"), [(0.5e-6, 40_000), (2e-6, 10_000)])
def test_each_host_does_as_many_loops_as_it_has_cpu_for(
    loop_s: float, loops: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = calibrated(Host(loop_s), monkeypatch)
    assert target.body["input"]["loops"] == pytest.approx(loops, rel=0.001)


def test_a_host_that_refuses_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(busy.Unmeasurable, match="host does not compute"):
        calibrated(Host(1e-6, status=422), monkeypatch)


def rounds(**cpu_ms: float) -> Rounds[Taken]:
    return Rounds(
        {name: [Taken(1000 / took, took * 1000, 1.0, 2.0, 0)] for name, took in cpu_ms.items()}
    )


def test_equal_work_is_compared_with_the_best() -> None:
    row, said = busy.compared(rounds(ours=20.4, node=22.9, deno=17.1), "ours")
    assert row.verdict is not Verdict.NOT_MEASURED
    assert row.measured.startswith("0.84 ")
    assert said == "the best single process is deno"


def test_unequal_work_is_left_out_and_said() -> None:
    row, said = busy.compared(rounds(ours=20.4, node=20.1, deno=4.2), "ours")
    assert row.measured.startswith("0.99 ")
    assert said == (
        "the best single process is node, those left out that took other than 20 ms: deno 4.2 ms"
    )


@pytest.mark.parametrize("took", [{"ours": 20.4, "deno": 4.2}, {"ours": 50.0, "deno": 20.0}])
def test_where_nobody_fits_nothing_is_measured(took: dict[str, float]) -> None:
    row, _ = busy.compared(rounds(**took), "ours")
    assert row.verdict is Verdict.NOT_MEASURED
    assert row.measured.startswith("CPU of a request instead of 20 ms: ")
