"""Decisions by the policy: whether a batch is accepted, and whether the challenger becomes the champion."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from metavox.intervals import Interval
from metavox.promotion.compare import Difference
from metavox.promotion.policy import BatchPolicy, PromotePolicy

FIXED, NEWEST = "fixed", "newest"
Outcome = Literal["promote", "keep", "refuse"]


@dataclass(frozen=True)
class Decision:
    """`promote`: the challenger becomes the champion. `keep`: the batch is accepted, and the champion stays.
    `refuse`: the batch is not learned from. `why` is a sentence with the figures that decided."""

    outcome: Outcome
    why: str


def judge_batch(share: Interval, policy: BatchPolicy) -> Decision | None:
    """Refuse a batch whose labels the champion contradicts; None if it may be learned from."""
    if share.low <= policy.max_contradicted:
        return None
    return Decision(
        "refuse",
        f"the champion is sure of another text than the label in {share.percent()} of the recordings; "
        f"at most {policy.max_contradicted:.0%} are accepted: check the labels",
    )


def decide(sets: Mapping[str, Difference], policy: PromotePolicy) -> Decision:
    """Decide by the differences on FIXED, NEWEST and slices (any other name)."""
    for name, found in sets.items():
        limit = policy.max_worse if name in (FIXED, NEWEST) else policy.max_slice_worse
        enough = name in (FIXED, NEWEST) or found.recordings >= policy.min_slice
        if enough and found.recordings and found.change.mean > limit:
            return Decision(
                "refuse",
                f"worse on {name}: {found.champion:.1%} to {found.challenger:.1%} errors of {found.recordings} recordings; "
                f"at most {limit:.0%} more are accepted",
            )
    newest = sets[NEWEST]
    figures = (
        f"{newest.champion:.1%} to {newest.challenger:.1%} errors of the {newest.recordings} newest recordings "
        f"(better with probability {newest.better:.2f})"
    )
    if newest.better >= policy.sure:
        return Decision("promote", figures)
    return Decision("keep", f"no clear gain: {figures}; at least {policy.sure:.2f} promotes")
