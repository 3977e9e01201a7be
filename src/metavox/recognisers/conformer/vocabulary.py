"""Scores enrolled words by their embedding, their spelling, or both."""

import copy
from collections.abc import Sequence

import torch

from metavox.recognisers.conformer.cohort import Cohort
from metavox.recognisers.conformer.decoding import text_scores
from metavox.recognisers.conformer.network import Network, WordEmbedding
from metavox.recognisers.delta import Vocabulary

LOGIT_SCALE = 16.0  # multiplies cosines of unit vectors, whose softmax would be almost uniform without it


def word_scores(
    model: Network,
    vocabulary: Vocabulary,
    acoustic: torch.Tensor,
    context: torch.Tensor,
    lengths: torch.Tensor,
) -> torch.Tensor:
    """Acoustic and context frames (clips, frames, dim), lengths (clips,) -> scores (clips, words).

    A score is the cosine, normalised by the cohort, plus the weighted CTC score of the spelling.
    """
    word = adapted_embedding(model, vocabulary)
    scores = normalised_scores(model.cohort, model.pool(acoustic, lengths, word=word), vocabulary.prototypes)
    if not vocabulary.ctc_weight:
        return scores
    spelling = text_scores(
        model.spell(context), lengths, [model.tokenizer.encode(w) for w in vocabulary.words]
    )
    return scores + vocabulary.ctc_weight * spelling


def normalised_scores(
    cohort: Cohort | None, embedded: torch.Tensor, prototypes: torch.Tensor
) -> torch.Tensor:
    """Unit embeddings (clips, embedding), prototypes (words, embedding) -> scores (clips, words), for which
    one threshold fits all clips.
    """
    similarity = embedded @ prototypes.T
    return similarity if cohort is None else similarity - cohort.nearest(embedded)[:, None]


def spelling_scores(
    model: Network, mels: torch.Tensor, lengths: torch.Tensor, words: Sequence[str]
) -> torch.Tensor:
    """Log-mels (clips, time, mel), lengths (clips,) -> log-likelihoods per character (clips, words), by CTC."""
    characters, frames = model.characters(mels, lengths)
    return text_scores(characters, frames, [model.tokenizer.encode(word) for word in words])


def adapted_embedding(model: Network, vocabulary: Vocabulary) -> WordEmbedding:
    """The model's word embedding, or a copy adapted by the vocabulary's pooling differences."""
    if not vocabulary.pooling:
        return model.word
    word = copy.deepcopy(model.word)
    with torch.no_grad():
        for name, weight in word.named_parameters():
            if (difference := vocabulary.pooling.get(f"word.{name}")) is not None:
                weight.add_(difference)
    return word
