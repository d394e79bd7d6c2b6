from __future__ import annotations

import time

import pytest

from lowcode_faas_core.trace_context import traceparent

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
LEGAL = f"00-{TRACE}-{PARENT}-01"


@pytest.mark.parametrize("flags", ["00", "01", "03", "ff"])
def test_version_00_goes_through_as_it_is(flags: str) -> None:
    given = f"00-{TRACE}-{PARENT}-{flags}"
    assert traceparent(given) == given


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (f"01-{TRACE}-{PARENT}-01", LEGAL),
        (f"fe-{TRACE}-{PARENT}-03-what-the-future-says", LEGAL),
        (f"cc-{TRACE}-{PARENT}-02-", f"00-{TRACE}-{PARENT}-00"),
    ],
)
def test_later_versions_go_on_as_the_one_we_know(given: str, expected: str) -> None:
    assert traceparent(given) == expected


@pytest.mark.parametrize(
    "given",
    [
        None,
        "",
        "nonsense",
        LEGAL.upper(),
        f"ff-{TRACE}-{PARENT}-01",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"01-{'0' * 32}-{PARENT}-01",
        LEGAL[:-1],
        f"{LEGAL}-",
        f"{LEGAL}-more",
        f"01-{TRACE}-{PARENT}-01more",
        f"{LEGAL}\n",
        f"01-{TRACE}-{PARENT}-01\n",
        f" {LEGAL}",
        f"{LEGAL},{LEGAL}",
        f"0-{TRACE}-{PARENT}-01",
        f"00-{TRACE[:-1]}g-{PARENT}-01",
        f"00_{TRACE}_{PARENT}_01",
        LEGAL.replace("4", "٤"),
    ],
)
def test_an_illegal_one_is_as_none(given: str | None) -> None:
    assert traceparent(given) is None


@pytest.mark.fault(71)
def test_judging_takes_time_in_proportion() -> None:
    began = time.thread_time()
    for text in ("0" * 1_000_000, f"01-{TRACE}-{PARENT}-01+" + "-" * 1_000_000):
        assert traceparent(text) is None
    assert traceparent(f"01-{TRACE}-{PARENT}-01-" + "-" * 1_000_000) == LEGAL
    assert time.thread_time() - began < 0.05
