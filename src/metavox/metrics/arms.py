"""Every arm of the training on the same episodes of words that nobody trained on: before, after, and by shots."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import get_args

import numpy as np
import pandas as pd
import torch

from metavox.dataset.episodes import Episode, EpisodeSampler, EpisodeShape, Pairing
from metavox.dataset.store import Store
from metavox.enrolment.prototypes import Method, embed_mels
from metavox.errors import UserError
from metavox.metrics.enrolled import judge_enrolled
from metavox.metrics.episodes import MEASURES, FewShot, figures
from metavox.metrics.spelling import judge_by_spelling
from metavox.metrics.trials import Trials, run_trials
from metavox.progress import track
from metavox.recognisers.conformer import Network
from metavox.threads import side_by_side

VIEWS = 4
BEFORE = "before: spelling only"
SHIPPED = "after: as it ships"
AT = {"at_1": 0.01, "at_5": 0.05}


@dataclass(frozen=True)
class Asked:
    """What the arms are asked; `unknown` is the most that an episode holds of words that it does not teach."""

    way: int
    shots: tuple[int, ...]
    queries: int
    unknown: int
    episodes: int
    seed: int


@dataclass(frozen=True)
class ArmResult:
    """Queries of one arm with `shots` recordings a word, and what they were trials with."""

    task: str
    shots: int
    arm: str
    episodes: list[Episode]
    trials: Trials
    figures: FewShot


@dataclass(frozen=True)
class Arms:
    """`models` by name with the embeddings (clips, 1 + views, embedding) of `test`; `speller` knows spelling alone."""

    models: Mapping[str, Network]
    embedded: Mapping[str, torch.Tensor]
    speller: Network
    test: Store


def embedded_arms(models: Mapping[str, Network], speller: Network, test: Store) -> Arms:
    """Each test clip passes through each arm once, whatever is asked later."""
    clips = [test[i] for i in range(len(test))]
    heard = side_by_side(lambda model: embed_mels(model, clips, VIEWS), models.values())
    embedded = track(heard, "evaluate: words heard", len(models), "networks")
    return Arms(models, dict(zip(models, embedded, strict=True)), speller, test)


def run_arms(arms: Arms, asked: Asked) -> tuple[list[ArmResult], list[str]]:
    """Every arm and method on the same episodes; and in words what the recordings are too few for.

    Raises UserError when they are too few for any episode.
    """
    found: list[ArmResult] = []
    notes = []
    pairings: tuple[Pairing, ...] = ("cross-speaker", "same-speaker")
    for pairing, shots in track(list(product(pairings, asked.shots)), "evaluate: words asked", unit="tasks"):
        episodes, task = draw(arms.test.rows, asked, pairing, shots), f"{asked.way} words, {pairing}"
        if episodes:
            if not any(one.task == task for one in found):
                found.append(_before(arms, episodes, task, asked.seed))
            found += _after(arms, episodes, task, shots, asked.seed)
        else:
            notes.append(
                f"no test speakers have {shots}+1 recordings each of {asked.way} words for {pairing}; {shots}-shot is "
                "not measured"
            )
    if not found:
        raise UserError(
            f"evaluate: no episode of {asked.way} words can be drawn from {len(arms.test)} test clips of "
            f"{arms.test.rows['speaker'].nunique()} speakers; expected words that two test speakers say, or a smaller evaluate.way"
        )
    return found, notes


def draw(rows: pd.DataFrame, asked: Asked, pairing: Pairing, shots: int) -> list[Episode]:
    """As many queries a word as there are, then as many unknown words as every speaker has that can be asked about."""
    for queries in range(asked.queries, 0, -1):
        shape = EpisodeShape(asked.way, shots, queries, pairing)
        try:
            sampler = EpisodeSampler(rows, shape)
        except UserError:
            continue
        for unknown in range(asked.unknown, 0, -1):
            try:
                more = EpisodeSampler(rows, replace(shape, unknown=unknown))
            except UserError:
                continue
            if more.query_speakers == sampler.query_speakers:
                sampler = more
                break
        random = np.random.default_rng(asked.seed)
        return [sampler(random) for _ in range(asked.episodes)]
    return []


def _before(arms: Arms, episodes: list[Episode], task: str, seed: int) -> ArmResult:
    """What spelling alone gives, once a task: on the episodes of its fewest shots."""
    trials = judge_by_spelling(arms.speller, episodes, arms.test.__getitem__)
    return ArmResult(task, 0, BEFORE, episodes, trials, figures(trials, seed))


def run_shipped(
    arms: Arms, name: str, found: Sequence[ArmResult], episodes: int, seed: int
) -> list[ArmResult]:
    """What the arm `name` makes of the first `episodes` of each task and number of recordings as words are enrolled in use."""
    tasks = {(one.task, one.shots): one.episodes[:episodes] for one in found if one.shots}
    out = []
    for (task, shots), some in track(list(tasks.items()), "evaluate: words enrolled", unit="tasks"):
        trials = judge_enrolled(
            arms.models[name], some, arms.embedded[name].__getitem__, arms.test.__getitem__
        )
        out.append(ArmResult(task, shots, SHIPPED, some, trials, figures(trials, seed)))
    return out


def _after(arms: Arms, episodes: list[Episode], task: str, shots: int, seed: int) -> Iterator[ArmResult]:
    for name, embedded in arms.embedded.items():
        for method in get_args(Method):
            trials = run_trials(episodes, embedded.__getitem__, method, cohort=arms.models[name].cohort)
            yield ArmResult(task, shots, f"after: {name}, {method}", episodes, trials, figures(trials, seed))


def table(found: list[ArmResult]) -> pd.DataFrame:
    """A row a task, number of recordings and arm."""
    rows = []
    for one in found:
        row: dict[str, object] = {
            "task": one.task,
            "shots": one.shots,
            "arm": one.arm,
            "episodes": one.figures.episodes,
        }
        for measure in MEASURES:
            interval = getattr(one.figures, measure)
            row |= {measure: interval.mean, f"{measure}_ci95": interval.ci95}
        accuracy, opened = one.figures.accuracy, one.figures.open_set
        row |= {"low": accuracy.low, "high": accuracy.high}
        row |= {"ece": one.figures.calibration_error.mean, "ece_ci95": one.figures.calibration_error.ci95}
        for name, rate in AT.items():
            row |= {
                name: opened.accuracy[rate].mean if opened else float("nan"),
                f"{name}_ci95": opened.accuracy[rate].ci95 if opened else float("nan"),
            }
        row |= {
            "equal_error": opened.equal_error.mean if opened else float("nan"),
            "equal_error_ci95": opened.equal_error.ci95 if opened else float("nan"),
        }
        rows.append(row)
    return pd.DataFrame(rows)
