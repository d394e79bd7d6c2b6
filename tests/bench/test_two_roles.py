"""Both ways run, and what a request costs is told by role and kind of process."""

from __future__ import annotations

from bench import two_roles
from bench.lab import Lab
from bench.load import load


def test_the_cpu_of_both_roles_counts() -> None:
    with Lab() as lab:
        alone, *ways = (load(each, 1, 1.0) for each in two_roles.ways(lab))
    assert alone.failed == 0
    assert {name.split()[0] for name in alone.cpu_of_us} == {"alone"}
    assert len(ways) == 2
    for both in ways:
        assert both.failed == 0
        assert {name.split()[0] for name in both.cpu_of_us} == {"dispatcher", "worker"}
        assert both.cpu_of_us["worker node"] > 0
        assert both.cpu_us == sum(both.cpu_of_us.values())
