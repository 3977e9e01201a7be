"""New words as they are enrolled in use: examples and letters together, by the code that the service runs."""

from collections.abc import Callable, Sequence

import numpy as np
import torch

from metavox.adaptation.estimate import assign_folds
from metavox.dataset.episodes import Episode
from metavox.enrolment.enrol import EnrolConfig, Support, fit_vocabulary
from metavox.metrics.spelling import letter_scores
from metavox.metrics.trials import Trials, collect
from metavox.recognisers.conformer import LOGIT_SCALE, Network, normalised_scores


def judge_enrolled(
    model: Network,
    episodes: Sequence[Episode],
    embeddings: Callable[[np.ndarray], torch.Tensor],
    mels: Callable[[int], torch.Tensor],
) -> Trials:
    """Enrol each episode's words, with the defaults of enrolment, and ask its queries.

    `embeddings(rows)` gives (rows, views, embedding), `mels(row)` (frames, mel).
    """
    taught = letter_scores(model, episodes, [e.support for e in episodes], mels)
    asked = letter_scores(model, episodes, [e.query for e in episodes], mels)
    supports = taught.split([len(e.support) for e in episodes])
    queries = asked.split([len(e.query) for e in episodes])
    config, logits = EnrolConfig(), []
    for episode, letters, heard in zip(episodes, supports, queries, strict=True):
        labels = torch.from_numpy(episode.support_labels)
        support = Support(embeddings(episode.support)[:, :1], labels, letters, len(episode.words))
        contents = [str(row).encode() for row in episode.support]
        folds = assign_folds(contents, config.folds, [episode.words[i] for i in episode.support_labels])
        vocabulary, _ = fit_vocabulary(model.cohort, support, folds, config, "", tuple(episode.words))
        scores = normalised_scores(model.cohort, embeddings(episode.query)[:, 0], vocabulary.prototypes)
        logits.append(LOGIT_SCALE * (scores + vocabulary.ctc_weight * heard))
    return collect(episodes, torch.cat(logits))
