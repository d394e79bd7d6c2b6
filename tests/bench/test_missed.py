"""What the results say of missed rows."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import compare, missed
from bench.rounds import Ratio
from bench.rows import Expectation, Row

EXPECTED = [each for part in compare.PARTS.values() for each in part.expected]
LEAST = Expectation("warm / echo", 1.0, least=True)
OTHER = Expectation("cold / echo", 1.0, least=True)


def row(expected: Expectation, median: float) -> Row:
    return expected.judge(Ratio(median, median, median, 7))


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    written = tmp_path / "missed.md"
    monkeypatch.setattr(missed, "PAGE", written)
    written.write_text(f"# Missed\n\nHow.\n\n## {LEAST.what}\n\nIt waits.\n\n- For a core.\n")
    return written


def test_a_missed_row_is_explained_by_its_section(page: Path) -> None:
    lines = missed.explained([row(LEAST, 0.5), row(OTHER, 2.0)])
    assert "\n".join(lines) == (
        f"## Missed rows\n\n### {LEAST.what}\n\nIt waits.\n\n- For a core.\n"
    )


def test_rows_that_held_or_were_not_measured_are_not(page: Path) -> None:
    assert missed.explained([row(LEAST, 1.0), OTHER.unmeasured("no engine")]) == []


def test_a_missed_row_without_a_section_says_so(page: Path) -> None:
    (said,) = (line for line in missed.explained([row(OTHER, 0.5)]) if line.startswith("Nothing"))
    assert said == "Nothing is written about it in `bench/missed.md`."


def test_the_results_have_it_below_the_rows(page: Path) -> None:
    said = compare.report(compare.QUICK, [row(LEAST, 0.5)], ["| a table |", ""], [])
    places = [said.index(each) for each in ("1 missed", "It waits.", "| a table |")]
    assert places == sorted(places)


def test_every_section_is_a_rows() -> None:
    names = {each.what for each in EXPECTED}
    assert set(missed.sections()) <= names


@pytest.mark.parametrize(
    "what", [each.what for each in EXPECTED if each.by_design], ids=lambda what: what[:30]
)
def test_what_the_design_decides_has_its_section(what: str) -> None:
    assert missed.sections()[what]
