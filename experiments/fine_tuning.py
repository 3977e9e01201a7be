"""Episodes to each of which all weights are tuned: what a start is worth to whoever fine-tunes it."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch.nn import functional as F

from metavox.dataset.episodes import Episode
from metavox.recognisers.conformer import pad
from metavox.training.meta import Clips, Learner
from metavox.training.meta.task import Weights


def tuned_accuracies(
    how: Learner, weights: Weights, episodes: Sequence[Episode], clip: Callable[[int], torch.Tensor]
) -> np.ndarray:
    """`how` adapts `weights` to the support clips of each episode -> accuracy of its queries, (episodes,).

    `clip(row)` gives log-mels (frames, mel). Each episode begins from the same weights.
    """
    found = []
    for episode in episodes:
        support = _clips(episode.support, episode.support_labels, len(episode.words), clip)
        query = _clips(episode.query, episode.query_labels, len(episode.words), clip)
        adapted = {name: value.detach() for name, value in how.adapt(weights, support).items()}
        with torch.no_grad():
            found.append(float(how.problem.loss(adapted, query)[1]))
    return np.array(found)


def _clips(rows: np.ndarray, labels: np.ndarray, way: int, clip: Callable[[int], torch.Tensor]) -> Clips:
    mels, lengths = pad([clip(int(row)) for row in rows])
    return Clips(mels, lengths, F.one_hot(torch.from_numpy(labels), way))
