"""What the rows make of samples: ratios pair by pair, verdicts, and what was not measured."""

from __future__ import annotations

import pytest

from bench import compare
from bench.load import Taken
from bench.rounds import Ratio, Rounds, alternate
from bench.rows import Expectation, Findings, Plan, Verdict, tally
from bench.rows.warm import throughput
from bench.servers import Unmeasurable

MOST = Expectation("p99 / echo", 1.5)
LEAST = Expectation("throughput / echo", 0.8, least=True)
PLAN = Plan(rounds=1, seconds=0.1, calls=1, paced=1, idle=1, functions=(1, 2))


def test_a_ratio_is_taken_pair_by_pair() -> None:
    # The second pair was taken on a machine half as fast: as a pair it says the same.
    ratio = Ratio.of([10.0, 20.0, 33.0], [5.0, 10.0, 11.0])
    assert (ratio.median, ratio.low, ratio.high, ratio.rounds) == (2.0, 2.0, 2.5, 3)
    assert str(ratio) == "2.00 (2.00 to 2.50)"


def test_one_pair_has_no_spread() -> None:
    assert Ratio.of([3.0], [2.0]) == Ratio(1.5, 1.5, 1.5, 1)


@pytest.mark.parametrize(
    ("expected", "median", "says"),
    [
        (MOST, 1.5, "held"),
        (MOST, 1.0, "held"),
        (MOST, 1.8, "**missed by 20 %**"),
        (LEAST, 0.8, "held"),
        (LEAST, 2.0, "held"),
        (LEAST, 0.4, "**missed by 50 %**"),
    ],
)
def test_a_verdict_says_by_which_part_of_the_target_it_is_missed(
    expected: Expectation, median: float, says: str
) -> None:
    assert expected.judge(Ratio(median, median, median, 7)).says == says


def test_targets_read_as_they_are_compared() -> None:
    assert (MOST.target, LEAST.target) == ("≤ 1.5", "≥ 0.8")


def test_throughput_of_made_up_rounds() -> None:
    def taken(per_s: float) -> Taken:
        return Taken(per_s, 100.0, 1.0, 2.0, 0)

    rounds = Rounds(
        {
            "ours": [taken(80), taken(45), taken(240)],
            "echo": [taken(100), taken(50), taken(400)],
        }
    )
    row = throughput(rounds, "ours", "echo", LEAST)
    assert row.verdict is Verdict.HELD
    assert row.measured == "0.80 (0.70 to 0.85)"


def test_every_other_round_is_in_reverse_order() -> None:
    order: list[str] = []
    alternate({name: lambda name=name: order.append(name) for name in "ab"}, 3, pause_s=0)
    assert "".join(order) == "abbaab"


def test_what_was_not_measured_is_never_held(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(lab: object, plan: Plan) -> Findings:
        raise Unmeasurable("no engine |\n answers")

    monkeypatch.setitem(compare.PARTS, "docker", compare.Part((MOST, LEAST), absent))
    rows = compare.take("docker", PLAN).rows
    assert [row.verdict for row in rows] == [Verdict.NOT_MEASURED] * 2
    assert rows[0].measured == "no engine / answers"
    assert tally(rows) == "0 of 2 rows held, 2 not measured"


def test_the_tally_names_the_worst() -> None:
    rows = [MOST.judge(Ratio(each, each, each, 7)) for each in (1.0, 1.8, 3.0)]
    assert tally(rows) == "1 of 3 rows held, 2 missed, the worst by 100 %"
