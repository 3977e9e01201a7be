"""All training arms measured on the same episodes of held-out words, before and after learning, by number of shots."""

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
from metavox.metrics.enrolment import run_enrolment_trials
from metavox.metrics.episodes import MEASURES, FewShot, figures
from metavox.metrics.spelling import run_spelling_trials
from metavox.metrics.trials import Trials, run_trials
from metavox.progress import track
from metavox.recognisers.conformer import Network
from metavox.threads import side_by_side

VIEWS = 4
BEFORE = "before: spelling only"
SHIPPED = "after: as it ships"
FALSE_ACCEPT_COLUMNS = {"at_1": 0.01, "at_5": 0.05}


@dataclass(frozen=True)
class ArmProtocol:
    """The episodes that every arm is measured on.

    `unknown` is the maximum number of untaught words that an episode asks about.
    """

    way: int
    shots: tuple[int, ...]
    queries: int
    unknown: int
    episodes: int
    seed: int


@dataclass(frozen=True)
class ArmResult:
    """The episodes, trials and figures of one arm on one task, with `shots` recordings per word."""

    task: str
    shots: int
    arm: str
    episodes: list[Episode]
    trials: Trials
    figures: FewShot


@dataclass(frozen=True)
class Arms:
    """The networks under comparison and their embeddings (clips, 1 + views, embedding) of the store `test`.

    `speller` gives the baseline, which knows only how words are spelled.
    """

    models: Mapping[str, Network]
    embedded: Mapping[str, torch.Tensor]
    speller: Network
    test: Store


def embedded_arms(models: Mapping[str, Network], speller: Network, test: Store) -> Arms:
    """Embed every test clip once with every network."""
    margin = next(iter(models.values())).config.word_margin
    clips = [test.word(i, (margin, margin)) for i in range(len(test))]
    embeddings = side_by_side(lambda model: embed_mels(model, clips, VIEWS), models.values())
    embedded = track(embeddings, "evaluate: embedding test words", len(models), "networks")
    return Arms(models, dict(zip(models, embedded, strict=True)), speller, test)


def run_arms(arms: Arms, protocol: ArmProtocol) -> tuple[list[ArmResult], list[str]]:
    """Measure every arm and method on the same episodes; also returns a sentence for each task that cannot be drawn.

    Raises UserError when no episode at all can be drawn.
    """
    results: list[ArmResult] = []
    notes = []
    pairings: tuple[Pairing, ...] = ("cross-speaker", "same-speaker")
    for pairing, shots in track(
        list(product(pairings, protocol.shots)), "evaluate: few-shot tasks", unit="tasks"
    ):
        episodes, task = (
            draw_episodes(arms.test.rows, protocol, pairing, shots),
            f"{protocol.way} words, {pairing}",
        )
        if episodes:
            if not any(result.task == task for result in results):
                results.append(_before(arms, episodes, task, protocol.seed))
            results += _after(arms, episodes, task, shots, protocol.seed)
        else:
            notes.append(
                f"{shots}-shot is not measured for {pairing}: no test speakers have {shots}+1 recordings each of "
                f"{protocol.way} words"
            )
    if not results:
        raise UserError(
            f"evaluate: no episode of {protocol.way} words can be drawn from {len(arms.test)} test clips of "
            f"{arms.test.rows['speaker'].nunique()} speakers; add words that two test speakers both say, or lower evaluate.way"
        )
    return results, notes


def draw_episodes(rows: pd.DataFrame, protocol: ArmProtocol, pairing: Pairing, shots: int) -> list[Episode]:
    """Draw episodes with as many queries per word, then as many unknown words, as the rows allow; empty if none can be.

    Unknown words never exclude a speaker who could be asked about without them.
    """
    for queries in range(protocol.queries, 0, -1):
        shape = EpisodeShape(protocol.way, shots, queries, pairing)
        try:
            sampler = EpisodeSampler(rows, shape)
        except UserError:
            continue
        for unknown in range(protocol.unknown, 0, -1):
            try:
                with_unknown = EpisodeSampler(rows, replace(shape, unknown=unknown))
            except UserError:
                continue
            if with_unknown.query_speakers == sampler.query_speakers:
                sampler = with_unknown
                break
        random = np.random.default_rng(protocol.seed)
        return [sampler(random) for _ in range(protocol.episodes)]
    return []


def _before(arms: Arms, episodes: list[Episode], task: str, seed: int) -> ArmResult:
    """The spelling baseline of a task, on the episodes with the fewest shots."""
    trials = run_spelling_trials(arms.speller, episodes, arms.test.__getitem__)
    return ArmResult(task, 0, BEFORE, episodes, trials, figures(trials, seed))


def run_shipped(
    arms: Arms, name: str, results: Sequence[ArmResult], episodes: int, seed: int
) -> list[ArmResult]:
    """Measure the arm `name` with words enrolled exactly as the service enrols them.

    This is slow, so only the first `episodes` of each task and number of shots are used.
    """
    tasks = {(result.task, result.shots): result.episodes[:episodes] for result in results if result.shots}
    shipped = []
    for (task, shots), subset in track(list(tasks.items()), "evaluate: enrolling words", unit="tasks"):
        trials = run_enrolment_trials(
            arms.models[name], subset, arms.embedded[name].__getitem__, arms.test.__getitem__
        )
        shipped.append(ArmResult(task, shots, SHIPPED, subset, trials, figures(trials, seed)))
    return shipped


def _after(arms: Arms, episodes: list[Episode], task: str, shots: int, seed: int) -> Iterator[ArmResult]:
    for name, embedded in arms.embedded.items():
        for method in get_args(Method):
            trials = run_trials(episodes, embedded.__getitem__, method, cohort=arms.models[name].cohort)
            yield ArmResult(task, shots, f"after: {name}, {method}", episodes, trials, figures(trials, seed))


def table(results: list[ArmResult]) -> pd.DataFrame:
    """One row per task, number of recordings per word and arm."""
    rows = []
    for result in results:
        row: dict[str, object] = {
            "task": result.task,
            "shots": result.shots,
            "arm": result.arm,
            "episodes": result.figures.episodes,
        }
        for measure in MEASURES:
            interval = getattr(result.figures, measure)
            row |= {measure: interval.mean, f"{measure}_ci95": interval.ci95}
        accuracy, open_set = result.figures.accuracy, result.figures.open_set
        row |= {"low": accuracy.low, "high": accuracy.high}
        row |= {
            "ece": result.figures.calibration_error.mean,
            "ece_ci95": result.figures.calibration_error.ci95,
        }
        for name, rate in FALSE_ACCEPT_COLUMNS.items():
            row |= {
                name: open_set.accuracy[rate].mean if open_set else float("nan"),
                f"{name}_ci95": open_set.accuracy[rate].ci95 if open_set else float("nan"),
            }
        row |= {
            "equal_error": open_set.equal_error.mean if open_set else float("nan"),
            "equal_error_ci95": open_set.equal_error.ci95 if open_set else float("nan"),
        }
        rows.append(row)
    return pd.DataFrame(rows)
