"""How well a clip fits each enrolled word: by its embedding, by the letters that are heard, or by both."""

import copy
from collections.abc import Sequence

import torch
from torch.nn import functional as F

from metavox.recognisers.conformer.delta import Delta
from metavox.recognisers.conformer.network import Network, WordEmbedding, pad

SCALE = 16.0  # of cosines, so that they are logits
WORST = -20.0  # natural logarithm a character: of a text that cannot be written, or does not fit the frames
BATCH = 64


def word_scores(model: Network, enrolled: Delta, mels: Sequence[torch.Tensor]) -> torch.Tensor:
    """Log-mels (frames, mel) each -> (clips, words): cosine, less the cohort's, plus the letters' share.

    Raises ValueError when the delta holds no word.
    """
    if enrolled.prototypes is None:
        raise ValueError("the delta holds no enrolled word")
    rows = []
    with torch.inference_mode():
        for start in range(0, len(mels), BATCH):
            batch, lengths = pad(list(mels[start : start + BATCH]))
            embedded = model.embed(batch, lengths, word=moved_embedding(model, enrolled))
            rows.append(fit(model, embedded, enrolled.prototypes))
            if enrolled.spelling:
                rows[-1] = rows[-1] + enrolled.spelling * spelled(model, batch, lengths, enrolled.words)
    return torch.cat(rows)


def fit(model: Network, embedded: torch.Tensor, prototypes: torch.Tensor) -> torch.Tensor:
    """Unit embeddings (clips, embedding), word vectors (words, embedding) -> (clips, words), of which a
    threshold means the same for all clips."""
    similarity = embedded @ prototypes.T
    if model.background is None:
        return similarity
    return similarity - model.background.cohort(embedded)[:, None]


def spelled(model: Network, mels: torch.Tensor, lengths: torch.Tensor, words: Sequence[str]) -> torch.Tensor:
    """Log-mels (clips, time, mel), lengths (clips,) -> (clips, words): log-likelihood a character, by CTC."""
    characters, frames = model.characters(mels, lengths)
    return text_scores(characters, frames, [model.tokenizer.encode(word) for word in words])


def text_scores(characters: torch.Tensor, lengths: torch.Tensor, texts: Sequence[list[int]]) -> torch.Tensor:
    """Log-probabilities (clips, frames, alphabet), lengths (clips,), tokens of each text -> (clips, texts)."""
    clips = len(characters)
    out = torch.full((clips, len(texts)), WORST)
    for i, tokens in enumerate(texts):
        if not tokens:
            continue
        loss = F.ctc_loss(
            characters.transpose(0, 1), torch.tensor([tokens] * clips), lengths, torch.full((clips,), len(tokens)),
            reduction="none",
        )  # fmt: skip
        out[:, i] = (-loss / len(tokens)).clamp_min(WORST)
    return out


def moved_embedding(model: Network, enrolled: Delta) -> WordEmbedding:
    """The model's word embedding, or a copy that is moved as the delta says."""
    moved = {n.removeprefix("word."): d for n, d in enrolled.differences.items() if n.startswith("word.")}
    if not moved:
        return model.word
    word = copy.deepcopy(model.word)
    with torch.no_grad():
        for name, weight in word.named_parameters():
            if name in moved:
                weight.add_(moved[name])
    return word
