"""What a part of the training is worth: arms of one budget, the same seeds, held-out voices, clean and adverse.

A word is taught by one clean clip and asked for in a condition that no training has seen, as when somebody
enrols at a desk and works in a hall.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from metavox.audio.perturb import Perturb, Perturbation
from metavox.corpus.episodes import Episode
from metavox.evaluate.metrics import Interval, classification
from metavox.learn.gan import Environment, Environments
from metavox.learn.words import learn_words

SPEC_AUGMENT = Perturbation(
    stretch=0.0, warp=0.0, tilt_db=0.0, noise_chance=0.0, reverberation_chance=0.0, bandlimit_chance=0.0
)
MULTI_STYLE = Perturbation(stretch=0.0, warp=0.0, tilt_db=0.0, bandlimit_chance=0.0, mask_chance=0.0)
ENVIRONMENT_SHARE = 0.5


@dataclass(frozen=True)
class Unchanged:
    """The perturbation that is none."""

    def scaled(self, strength: float) -> "Unchanged":
        return self

    def __call__(
        self, mels: torch.Tensor, lengths: torch.Tensor, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return mels, lengths


def arms(generator: Environment) -> dict[str, Perturb]:
    """What each arm does to its training clips; all else is the same."""
    return {
        "none": Unchanged(),
        "specaugment": SPEC_AUGMENT,
        "noise-reverberation": MULTI_STYLE,
        "classical": Perturbation(),
        "gan": Environments(generator, ENVIRONMENT_SHARE, Unchanged()),
        "gan-classical": Environments(generator, ENVIRONMENT_SHARE, Perturbation()),
    }


def accuracies(
    episodes: Sequence[Episode], support: torch.Tensor, asked: Mapping[str, torch.Tensor]
) -> dict[str, np.ndarray]:
    """Accuracy of each episode (episodes,) by condition.

    `support` (clips, views, embedding) of the clean clips, `asked` (clips, embedding) of the same clips in a condition.
    """
    found: dict[str, list[float]] = {name: [] for name in asked}
    for episode in episodes:
        labels = torch.from_numpy(episode.support_labels)
        head = learn_words(support[episode.support], labels, len(episode.words))
        for name, embeddings in asked.items():
            guess = head.logits(embeddings[episode.query]).argmax(dim=1).numpy()
            found[name].append(classification(episode.query_labels, guess, len(episode.words)).accuracy)
    return {name: np.array(values) for name, values in found.items()}


def over_seeds(values: Sequence[np.ndarray], seed: int = 0, draws: int = 2000) -> Interval:
    """`values`: (episodes,) a training seed -> mean and 95% interval, seeds and episodes both drawn again (bootstrap)."""
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


def table(
    runs: pd.DataFrame,
    baseline: str,
    by: str = "arm",
    measure: Callable[[float], float] = lambda accuracy: 1 - accuracy,
) -> pd.DataFrame:
    """`runs`: a row a training (`by`, seed, condition, accuracies as an array) -> a row an arm, a column a condition.

    The last column is the error on the adverse conditions relative to the baseline's, in parts of it.
    """
    rows: list[dict[str, object]] = []
    conditions = list(dict.fromkeys(runs["condition"]))
    adverse = [name for name in conditions if name != "clean"]

    def error(arm: str) -> float:
        chosen = runs[(runs[by] == arm) & runs["condition"].isin(adverse)]
        return float(np.mean([measure(float(np.mean(v))) for v in chosen["accuracies"]]))

    for arm in dict.fromkeys(runs[by]):
        row: dict[str, object] = {by: arm}
        for condition in conditions:
            chosen = runs[(runs[by] == arm) & (runs["condition"] == condition)]
            row[condition] = str(over_seeds([np.asarray(v) for v in chosen["accuracies"]]))
        row["adverse error, relative"] = round(error(arm) / error(baseline), 3)
        rows.append(row)
    return pd.DataFrame(rows)
