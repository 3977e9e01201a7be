"""How well a clip fits each enrolled word: by its embedding, by the letters that are heard, or by both."""

import copy
from collections.abc import Sequence

import torch

from metavox.recognisers.conformer.cohort import Cohort
from metavox.recognisers.conformer.decoding import text_scores
from metavox.recognisers.conformer.network import Network, WordEmbedding
from metavox.recognisers.delta import Vocabulary

LOGIT_SCALE = 16.0  # multiplies cosines of unit vectors: without it, no softmax over them could be sharp


def word_scores(
    model: Network, enrolled: Vocabulary, acoustic: torch.Tensor, context: torch.Tensor, lengths: torch.Tensor
) -> torch.Tensor:
    """Acoustic and context frames (clips, frames, dim), lengths (clips,) -> (clips, words): cosine, less the cohort's,
    plus the letters' share."""
    word = adapted_embedding(model, enrolled)
    scores = normalised_scores(model.cohort, model.pool(acoustic, lengths, word=word), enrolled.prototypes)
    if not enrolled.ctc_weight:
        return scores
    letters = text_scores(model.spell(context), lengths, [model.tokenizer.encode(w) for w in enrolled.words])
    return scores + enrolled.ctc_weight * letters


def normalised_scores(
    cohort: Cohort | None, embedded: torch.Tensor, prototypes: torch.Tensor
) -> torch.Tensor:
    """Unit embeddings (clips, embedding), word vectors (words, embedding) -> (clips, words), of which a
    threshold means the same for all clips."""
    similarity = embedded @ prototypes.T
    return similarity if cohort is None else similarity - cohort.nearest(embedded)[:, None]


def spelling_scores(
    model: Network, mels: torch.Tensor, lengths: torch.Tensor, words: Sequence[str]
) -> torch.Tensor:
    """Log-mels (clips, time, mel), lengths (clips,) -> (clips, words): log-likelihood a character, by CTC."""
    characters, frames = model.characters(mels, lengths)
    return text_scores(characters, frames, [model.tokenizer.encode(word) for word in words])


def adapted_embedding(model: Network, enrolled: Vocabulary) -> WordEmbedding:
    """The model's word embedding, or a copy that is moved as the vocabulary says."""
    if not enrolled.pooling:
        return model.word
    word = copy.deepcopy(model.word)
    with torch.no_grad():
        for name, weight in word.named_parameters():
            if (difference := enrolled.pooling.get(f"word.{name}")) is not None:
                weight.add_(difference)
    return word
