"""Fine-tune all weights of an initial model on each episode, and measure the accuracy."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch.nn import functional as F

from metavox.dataset.episodes import Episode
from metavox.recognisers.conformer import pad
from metavox.training.meta import Clips, Learner
from metavox.training.meta.task import Weights


def tuned_accuracies(
    learner: Learner, weights: Weights, episodes: Sequence[Episode], clip: Callable[[int], torch.Tensor]
) -> np.ndarray:
    """Adapt `weights` to the support clips of each episode with `learner`; return the query accuracies (episodes,).

    `clip(row)` gives log-mels (frames, mel). Each episode starts from the same weights.
    """
    accuracies = []
    for episode in episodes:
        support = _clips(episode.support, episode.support_labels, len(episode.words), clip)
        query = _clips(episode.query, episode.query_labels, len(episode.words), clip)
        adapted = {name: value.detach() for name, value in learner.adapt(weights, support).items()}
        with torch.no_grad():
            accuracies.append(float(learner.problem.loss(adapted, query)[1]))
    return np.array(accuracies)


def _clips(rows: np.ndarray, labels: np.ndarray, way: int, clip: Callable[[int], torch.Tensor]) -> Clips:
    mels, lengths = pad([clip(int(row)) for row in rows])
    return Clips(mels, lengths, F.one_hot(torch.from_numpy(labels), way))
