"""Trials of words enrolled as the service enrols them, from examples and spelling, with the same code."""

from collections.abc import Callable, Sequence

import numpy as np
import torch

from metavox.adaptation.estimate import assign_folds
from metavox.dataset.episodes import Episode
from metavox.enrolment.enrol import EnrolConfig, Support, fit_vocabulary
from metavox.metrics.spelling import spelling_scores
from metavox.metrics.trials import Trials, collect
from metavox.recognisers.conformer import LOGIT_SCALE, Network, normalised_scores


def run_enrolment_trials(
    model: Network,
    episodes: Sequence[Episode],
    embeddings: Callable[[np.ndarray], torch.Tensor],
    mels: Callable[[int], torch.Tensor],
) -> Trials:
    """Enrol the words of each episode with the default configuration, and score its queries.

    `embeddings(rows)` gives (rows, views, embedding) and `mels(row)` gives (frames, mel).
    """
    support_scores = spelling_scores(model, episodes, [e.support for e in episodes], mels)
    query_scores = spelling_scores(model, episodes, [e.query for e in episodes], mels)
    supports = support_scores.split([len(e.support) for e in episodes])
    queries = query_scores.split([len(e.query) for e in episodes])
    config, logits = EnrolConfig(), []
    for episode, support_ctc, query_ctc in zip(episodes, supports, queries, strict=True):
        labels = torch.from_numpy(episode.support_labels)
        support = Support(embeddings(episode.support)[:, :1], labels, support_ctc, len(episode.words))
        contents = [str(row).encode() for row in episode.support]
        folds = assign_folds(contents, config.folds, [episode.words[i] for i in episode.support_labels])
        vocabulary, _ = fit_vocabulary(model.cohort, support, folds, config, "", tuple(episode.words))
        scores = normalised_scores(model.cohort, embeddings(episode.query)[:, 0], vocabulary.prototypes)
        logits.append(LOGIT_SCALE * (scores + vocabulary.ctc_weight * query_ctc))
    return collect(episodes, torch.cat(logits))
