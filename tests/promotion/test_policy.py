"""The policy's file, and the decisions that follow from it."""

from pathlib import Path

import numpy as np
import pytest

from metavox.errors import UserError
from metavox.intervals import Interval, wilson
from metavox.promotion.compare import Difference, Scored, contradicted, difference
from metavox.promotion.decide import decide, judge_batch
from metavox.promotion.policy import BatchPolicy, Policy, PromotePolicy, load_policy

REPO = Path(__file__).parents[2]


def test_the_projects_policy_states_the_defaults() -> None:
    assert load_policy(REPO / "policy.yaml") == Policy()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("promote: {shure: 0.9}", "promote.shure: Extra inputs are not permitted; got 0.9"),
        ("promote: {sure: 1.5}", "promote.sure: Input should be less than 1; got 1.5"),
        ("learn: {held_out: 0}", "learn.held_out: Input should be greater than 0; got 0"),
    ],
)
def test_a_wrong_key_or_value_is_one_line(tmp_path: Path, text: str, line: str) -> None:
    (tmp_path / "policy.yaml").write_text(text)
    with pytest.raises(UserError, match=line):
        load_policy(tmp_path / "policy.yaml")


def scored(*wrong: int, confidence: float = 0.9, enrolled: bool = True) -> Scored:
    edits = np.array(wrong)
    return Scored(
        ("",) * len(wrong),
        np.full(len(wrong), confidence),
        edits,
        np.ones(len(wrong), int),
        np.full(len(wrong), enrolled),
    )


def test_a_difference_is_paired_and_its_sign_is_that_of_the_errors() -> None:
    worse, better, rows = scored(*[1] * 10 + [0] * 10), scored(*[0] * 20), np.arange(20)
    gain = difference(worse, better, rows)
    assert (gain.champion, gain.challenger, gain.change.mean) == (0.5, 0.0, -0.5)
    assert gain.better > 0.99
    assert difference(better, worse, rows).change.mean == 0.5
    same = difference(worse, worse, rows)
    assert (same.change.mean, same.change.low, same.change.high, same.better) == (0, 0, 0, 0.5)
    assert difference(worse, better, np.arange(10, 20)).change.mean == 0


def test_only_sure_answers_to_enrolled_words_contradict() -> None:
    wrong = scored(*[1] * 8 + [0] * 2)
    assert contradicted(wrong, 0.8).mean == 0.8
    assert contradicted(wrong, 0.95).mean == 0
    mixed = Scored(wrong.texts, wrong.confidence, wrong.edits, wrong.lengths, np.arange(10) >= 8)
    assert contradicted(mixed, 0.8).mean == 0


def test_a_batch_is_refused_only_if_its_interval_is_above_the_limit() -> None:
    policy = BatchPolicy(max_contradicted=0.3)
    assert judge_batch(wilson(5, 10), policy) is None
    decision = judge_batch(wilson(50, 60), policy)
    assert decision is not None
    assert "83.3" in decision.why


def found(champion: float, challenger: float, better: float, recordings: int = 40) -> Difference:
    change = challenger - champion
    return Difference(recordings, champion, challenger, Interval(change, 0.05), better)


@pytest.mark.parametrize(
    ("sets", "outcome", "why"),
    [
        ({"newest": found(0.5, 0.1, 0.99), "fixed": found(0.1, 0.11, 0.3)}, "promote", "50.0% to 10.0%"),
        ({"newest": found(0.1, 0.1, 0.5)}, "keep", "no clear gain"),
        ({"newest": found(0.5, 0.1, 0.99), "fixed": found(0.1, 0.15, 0.1)}, "refuse", "worse on fixed"),
        ({"newest": found(0.1, 0.2, 0.05)}, "refuse", "worse on newest"),
        (
            {"newest": found(0.5, 0.1, 0.99), "speaker a": found(0.1, 0.3, 0.0)},
            "refuse",
            "worse on speaker a",
        ),
        ({"newest": found(0.5, 0.1, 0.99), "speaker a": found(0.1, 0.3, 0.0, 3)}, "promote", "99"),
    ],
)
def test_decisions(sets: dict[str, Difference], outcome: str, why: str) -> None:
    decision = decide(sets, PromotePolicy())
    assert decision.outcome == outcome
    assert why in decision.why
