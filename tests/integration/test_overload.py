"""Slow clients, ten times the load and a full queue, three times over: who is taken in notices little."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

LOAD = Path(__file__).with_name("load.py")
NAP = (
    "export const handler = async (input) => {"
    " await new Promise((done) => setTimeout(done, input.ms)); return { ok: true }; };"
)
#: Cycles in a row that must hold, and so many more where the machine itself was too busy.
CYCLES, SPARE = 3, 2
WORKERS, THREADS = 2, 12
#: Seconds of each phase of a cycle.
WARM_S, QUIET_S, STORM_S = 1.5, 3.0, 5.0
#: Seconds in which the service is as it was before.
RECOVERY_S = 10.0
#: How long one invocation naps, in ms. Between them, so that sandboxes come free one by one.
CROWD_MS, STEADY_MS = (500, 800), (200, 400)
#: Sandboxes that the crowd's function may have.
INSTANCES = 10
#: So many clients, each of them back after PAUSE_S where it was refused, offer ten times what
#: INSTANCES can do in 650 ms each: 15 a second.
CLIENTS, PAUSE_S = 90, 0.5

Serve = Callable[..., Any]
Poll = Callable[..., Any]


@dataclasses.dataclass(frozen=True)
class Held:
    """What the serving processes hold."""

    threads: int
    descriptors: int
    sandboxes: int

    @classmethod
    def by(cls, service: Any) -> Held:
        folders = [Path(f"/proc/{worker.pid}") for worker in service.gunicorn_workers()]
        return cls(
            sum(len(list((folder / "task").iterdir())) for folder in folders),
            sum(len(list((folder / "fd").iterdir())) for folder in folders),
            service.nodes(),
        )

    def within(self, base: Held) -> bool:
        return (
            self.threads <= base.threads
            and self.descriptors <= base.descriptors
            and self.sandboxes <= base.sandboxes
        )


def load(service: Any, seconds: float, *, crowd: int, slow: int = 0) -> dict[str, Any]:
    """Have clients call for a while; return their answers by kind."""
    host, port = service.url.removeprefix("http://").split(":")
    plan = {
        "host": host,
        "port": int(port),
        "seconds": seconds,
        "slow": slow,
        "groups": {
            "crowd": {"function": "crowd", "clients": crowd, "ms": CROWD_MS, "pause_s": PAUSE_S},
            "steady": {"function": "steady", "clients": 1, "ms": STEADY_MS, "pause_s": PAUSE_S},
        },
    }
    done = subprocess.run(
        [sys.executable, LOAD],
        input=json.dumps(plan),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    said = json.loads(done.stdout)
    assert said["failures"] == []
    answers: dict[str, Any] = said["answers"]
    return answers


def times(answers: dict[str, Any], kind: str, *statuses: int) -> list[float]:
    return sorted(ms for status, ms, _ in answers[kind] if status in statuses)


def p99(sorted_times: list[float]) -> float:
    return sorted_times[min(len(sorted_times) - 1, len(sorted_times) * 99 // 100)]


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.fault(21, 102)
def test_a_storm_costs_those_taken_in_little_and_leaves_nothing(serve: Serve, poll: Poll) -> None:
    # Given two gunicorn workers with 20 places, 14 sandboxes, and room for two to wait
    service = serve(
        WORKERS=str(WORKERS),
        THREADS=str(THREADS),
        MAX_INSTANCES="14",
        MAX_INSTANCES_PER_FUNCTION=str(INSTANCES),
        QUEUE="2",
        STOCK="0",
        IDLE_TTL_S="4",
        FUNCTION_LOGS="false",
    )
    service.deploy("crowd", NAP)
    service.deploy("steady", NAP)
    # Whose pools of threads are filled as they are needed, and not emptied: all may be there
    load(service, WARM_S, crowd=1)
    threads = Held.by(service).threads + WORKERS * (THREADS - 1)
    load(service, WARM_S, crowd=CLIENTS, slow=20)
    poll("idle sandboxes end", lambda: service.nodes() == 0, RECOVERY_S)
    base = dataclasses.replace(Held.by(service), threads=threads)
    held_in_a_row = 0
    for cycle in range(CYCLES + SPARE):
        load(service, WARM_S, crowd=CLIENTS)
        quiet = load(service, QUIET_S, crowd=5)
        # When 200 slow clients hang on, and ten times as many come as can be served
        storm = load(service, STORM_S, crowd=CLIENTS, slow=200)
        ended = time.monotonic()
        while not (held := Held.by(service)).within(base):
            assert time.monotonic() < ended + RECOVERY_S, f"{held}; before {base}"
            time.sleep(0.1)
        recovered_s = time.monotonic() - ended
        ratios = {
            kind: p99(times(storm, kind, 200)) / p99(times(quiet, kind, 200))
            for kind in ("crowd", "steady")
        }
        accepted = times(storm, "crowd", 200)
        refused = times(storm, "crowd", 429, 503)
        reasons = Counter(
            said.rstrip("0123456789 ").split(";")[0] for status, _, said in storm["crowd"] if said
        )
        slowest = times(storm, "health", 200)[-1]
        print(
            f"\ncycle {cycle + 1}: crowd {len(accepted)} accepted, p99 {p99(accepted):.0f} ms = "
            f"{ratios['crowd']:.2f} x quiet; steady {len(times(storm, 'steady', 200))}, "
            f"p99 {p99(times(storm, 'steady', 200)):.0f} ms = {ratios['steady']:.2f} x quiet; "
            f"{len(refused)} refused, p99 {p99(refused):.0f} ms; /healthz at most {slowest:.0f} ms; "
            f"as before after {recovered_s:.1f} s: {held}, at most {base}; {dict(reasons)}"
        )
        # Then those taken in take at most twice as long, the rest is told so quickly
        assert {status for status, _, _ in storm["crowd"]} == {200, 429}
        assert {status for status, _, _ in storm["steady"]} == {200}
        assert len(accepted) >= STORM_S * INSTANCES / 0.65 / 2
        assert len(refused) >= 5 * len(accepted)
        assert p99(refused) < 1000
        assert slowest < 1000
        assert any("waiting already" in reason for reason in reasons)
        held_in_a_row = held_in_a_row + 1 if max(ratios.values()) <= 2 else 0
        if held_in_a_row == CYCLES:
            break
    assert held_in_a_row == CYCLES
