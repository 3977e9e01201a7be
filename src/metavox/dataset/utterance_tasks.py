"""Meta-learning tasks of whole utterances from one condition: a speaker, a language, an environment, or several."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from metavox.dataset.episodes import conditions
from metavox.errors import UserError


@dataclass(frozen=True)
class UtteranceTask:
    """`support` and `query` are row positions, all from the named conditions."""

    conditions: tuple[str, ...]
    support: np.ndarray
    query: np.ndarray


@dataclass(frozen=True)
class UtteranceShape:
    """`support` + `queries` utterances of one condition, which is one combination of values of the columns `by`.

    With several `conditions_per_task`, the conditions get equal shares of the clips. With the pairing cross-speaker, all
    queries of a condition are by one speaker, who is not in its support.
    """

    support: int
    queries: int
    by: tuple[str, ...] = ("speaker",)
    conditions_per_task: int = 1
    pairing: Literal["any", "cross-speaker"] = "any"


_Pools = tuple[np.ndarray, np.ndarray]  # rows that may be support, rows that may be queries


class UtteranceSampler:
    """Samples tasks of whole utterances.

    Raises UserError when too few conditions can fill a task, or when cross-speaker tasks are by speaker.
    """

    def __init__(self, rows: pd.DataFrame, shape: UtteranceShape) -> None:
        count = shape.conditions_per_task
        if shape.pairing == "cross-speaker" and "speaker" in shape.by:
            raise UserError(
                f"tasks by {'+'.join(shape.by)} cannot be cross-speaker: a condition has one speaker; drop speaker or use any"
            )
        if count > min(shape.support, shape.queries):
            raise UserError(f"{count} conditions cannot share {shape.support}+{shape.queries} clips")
        self.shape = shape
        support, queries = -(-shape.support // count), -(-shape.queries // count)
        frame = pd.DataFrame({"speaker": rows["speaker"].to_numpy(str), "row": np.arange(len(rows))})
        frame["condition"] = conditions(rows, shape.by)
        self._pools: dict[str, list[_Pools]] = {}
        for name, condition_rows in frame.groupby("condition", sort=True):
            pools = [
                (support_rows, query_rows)
                for support_rows, query_rows in _pools(condition_rows, shape.pairing)
                if len(query_rows) >= queries
                and len(support_rows) >= support + (queries if support_rows is query_rows else 0)
            ]
            if all(str(name).split("|")) and pools:  # an empty value means that the condition is unknown
                self._pools[str(name)] = pools
        if len(self._pools) < count:
            raise UserError(
                f"{shape.support}+{shape.queries} utterances of {count} {'+'.join(shape.by)} ({shape.pairing}) cannot be "
                f"drawn from {len(rows)} clips by {rows['speaker'].nunique()} speakers: {len(self._pools)} conditions "
                "have enough; ask for fewer"
            )

    def __call__(self, random: np.random.Generator) -> UtteranceTask:
        names, count = list(self._pools), self.shape.conditions_per_task
        drawn = [names[i] for i in random.choice(len(names), count, replace=False)]
        support, query = [], []
        for i, name in enumerate(drawn):
            pools = self._pools[name]
            support_rows, query_rows = pools[random.integers(len(pools))]
            shots, queries = _share(self.shape.support, count, i), _share(self.shape.queries, count, i)
            if support_rows is query_rows:
                both = random.choice(support_rows, shots + queries, replace=False)
                support.append(both[:shots])
                query.append(both[shots:])
            else:
                support.append(random.choice(support_rows, shots, replace=False))
                query.append(random.choice(query_rows, queries, replace=False))
        return UtteranceTask(tuple(drawn), np.concatenate(support), np.concatenate(query))


def _share(total: int, shares: int, index: int) -> int:
    return total // shares + (index < total % shares)


def _pools(rows: pd.DataFrame, pairing: str) -> list[_Pools]:
    """The rows for support and for queries; one pair for each query speaker if the pairing is cross-speaker."""
    all_rows = rows["row"].to_numpy()
    if pairing == "any":
        return [(all_rows, all_rows)]
    speakers = rows["speaker"].to_numpy(str)
    return [(all_rows[speakers != speaker], all_rows[speakers == speaker]) for speaker in np.unique(speakers)]
