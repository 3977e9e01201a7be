"""Compare arms on an equal budget: the same seeds, held-out speakers, clean and adverse conditions.

One clean clip enrols each word; the queries are in conditions that no training uses, as when someone enrols at a desk and
works in a hall.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from metavox.audio.perturb import Perturb, Perturbation
from metavox.dataset.episodes import Episode
from metavox.enrolment.prototypes import learn_words
from metavox.metrics.paired import relative_error_reduction
from metavox.metrics.rates import Interval, classification
from metavox.training.gan import Environment, Environments

SPEC_AUGMENT = Perturbation(
    stretch=0.0, warp=0.0, tilt_db=0.0, noise_chance=0.0, reverberation_chance=0.0, bandlimit_chance=0.0
)
MULTI_STYLE = Perturbation(stretch=0.0, warp=0.0, tilt_db=0.0, bandlimit_chance=0.0, mask_chance=0.0)
ENVIRONMENT_SHARE = 0.5
CLEAN = "clean"


@dataclass(frozen=True)
class Unchanged:
    """The identity perturbation."""

    def scaled(self, strength: float) -> "Unchanged":
        return self

    def __call__(
        self, mels: torch.Tensor, lengths: torch.Tensor, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return mels, lengths


def arms(generator: Environment) -> dict[str, Perturb]:
    """The perturbation of training clips in each arm; arms differ in nothing else."""
    return {
        "none": Unchanged(),
        "specaugment": SPEC_AUGMENT,
        "noise-reverberation": MULTI_STYLE,
        "classical": Perturbation(),
        "gan": Environments(generator, ENVIRONMENT_SHARE, Unchanged()),
        "gan-classical": Environments(generator, ENVIRONMENT_SHARE, Perturbation()),
    }


def accuracies(
    episodes: Sequence[Episode], support: torch.Tensor, queries: Mapping[str, torch.Tensor]
) -> dict[str, np.ndarray]:
    """Accuracy of each episode (episodes,) by condition.

    `support` holds embeddings of the clean clips (clips, views, embedding); `queries` those of the same clips by
    condition, (clips, embedding) each.
    """
    results: dict[str, list[float]] = {name: [] for name in queries}
    for episode in episodes:
        labels = torch.from_numpy(episode.support_labels)
        head = learn_words(support[episode.support], labels, len(episode.words))
        for name, embeddings in queries.items():
            guess = head.logits(embeddings[episode.query]).argmax(dim=1).numpy()
            results[name].append(classification(episode.query_labels, guess, len(episode.words)).accuracy)
    return {name: np.array(values) for name, values in results.items()}


def over_seeds(values: Sequence[np.ndarray], seed: int = 0, draws: int = 2000) -> Interval:
    """Mean and 95% bootstrap interval over both seeds and episodes; `values` are (episodes,) for each training seed."""
    random = np.random.default_rng(seed)
    means = [
        np.mean(
            [
                random.choice(values[i], len(values[i])).mean()
                for i in random.integers(len(values), size=len(values))
            ]
        )
        for _ in range(draws)
    ]
    low, high = np.percentile(means, (2.5, 97.5))
    return Interval(float(np.mean([v.mean() for v in values])), float(high - low) / 2)


def table(runs: pd.DataFrame, *baselines: str, by: str = "arm") -> pd.DataFrame:
    """Tabulate `runs` (columns `by`, seed, condition, accuracies as an array): a row per arm, a column per condition.

    Further columns give the relative error reduction against each baseline, clean and over the adverse conditions, on
    the same episodes of the seeds that both have. All values are in % with 95% intervals.
    """
    conditions = list(dict.fromkeys(runs["condition"]))
    adverse = [name for name in conditions if name != CLEAN]
    rows: list[dict[str, object]] = []
    for arm in dict.fromkeys(runs[by]):
        row: dict[str, object] = {by: arm}
        for condition in conditions:
            row[condition] = str(over_seeds(list(_by_seed(runs, by, arm, [condition]).values())))
        for baseline in baselines:
            for name, group in ((CLEAN, [CLEAN]), ("adverse", adverse)):
                row[f"less error than {baseline}, {name}"] = _gain(runs, by, arm, baseline, group)
        rows.append(row)
    return pd.DataFrame(rows)


def _gain(runs: pd.DataFrame, by: str, arm: object, baseline: str, conditions: list[str]) -> str:
    own, reference = (_by_seed(runs, by, name, conditions) for name in (arm, baseline))
    seeds = [seed for seed in own if seed in reference]
    if arm == baseline or not seeds:
        return ""
    return str(relative_error_reduction([own[seed] for seed in seeds], [reference[seed] for seed in seeds]))


def _by_seed(runs: pd.DataFrame, by: str, arm: object, conditions: list[str]) -> dict[object, np.ndarray]:
    """Mean accuracy over the conditions, (episodes,) for each seed."""
    selected = runs[(runs[by] == arm) & runs["condition"].isin(conditions)]
    return {
        seed: np.mean(np.stack(rows["accuracies"].to_list()), axis=0)
        for seed, rows in selected.groupby("seed")
    }
