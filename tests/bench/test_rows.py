"""Every part of the benchmark runs, for one tiny round each, and answers for the rows it announces."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping

import pytest

from bench import compare
from bench.lab import Lab
from bench.rows import Plan, Verdict, busy
from bench.servers import Server, Service

TINY = Plan(rounds=1, seconds=0.8, calls=1, paced=1, idle=2, functions=(1, 3), settle_s=0.3)


class SharedLab(Lab):
    """Starts one service for all who want equal settings; the figures of such a round mean nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.services: dict[tuple[object, ...], Service] = {}

    def service(
        self,
        name: str = "lowcode-faas",
        settings: Mapping[str, str] | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> Service:
        given = settings or {}
        key = tuple(sorted(given.items()))
        if key not in self.services:
            self.services[key] = super().service(name, settings, environ)
        called = copy.copy(self.services[key])
        called.name = name
        # The next part wants it as well; leaving the lab ends it.
        called.stop = lambda: None  # type: ignore[method-assign]
        return called

    def hosts(self) -> list[Server]:
        """Return the one that needs no registry."""
        return [self.bare()]


@pytest.fixture(scope="module")
def lab() -> Iterator[SharedLab]:
    with SharedLab() as shared:
        yield shared


@pytest.mark.parametrize("name", [name for name in compare.PARTS if name != "docker"])
def test_a_tiny_round(lab: SharedLab, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(busy, "MAY_DIFFER", math.inf)
    part = compare.PARTS[name]
    rows = {row.what: row for row in part.measure(lab, TINY).rows}
    assert rows.keys() >= {each.what for each in part.expected}
    unmeasured = [row.what for row in rows.values() if row.verdict is Verdict.NOT_MEASURED]
    # functions-framework comes from a registry, which tests do not ask.
    assert unmeasured == [each for each in unmeasured if each.endswith("functions-framework")]
