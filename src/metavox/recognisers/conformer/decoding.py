"""Decodes character log-probabilities to text with times and confidences."""

from collections.abc import Sequence
from itertools import groupby

import numpy as np
import torch
from torch.nn import functional as F

from metavox.recognisers.conformer.network import Network
from metavox.recognisers.conformer.tokenizer import BLANK
from metavox.recognisers.guide import Guide
from metavox.recognisers.prefix_search import align, prefix_search
from metavox.recognisers.transcript import Word

MIN_LOG_PROB = (
    -20.0
)  # natural log-likelihood per character of a text that cannot be written or does not fit the frames


def greedy(log_probs: torch.Tensor, model: Network) -> list[Word]:
    """Best path (Graves et al. 2006, section 3.2): log_probs (frames, alphabet) -> words in order."""
    hop_s = model.config.features.hop_s * model.encoder.subsampling
    best = log_probs.argmax(dim=1).numpy()
    probabilities = log_probs.exp().amax(dim=1).numpy()
    emitted = [i for i, token in enumerate(best) if token != BLANK and (i == 0 or token != best[i - 1])]
    space = model.tokenizer.alphabet.find(" ") + 1
    words: list[Word] = []
    current: list[int] = []
    for i in [*emitted, -1]:
        if i >= 0 and best[i] != space:
            current.append(i)
        elif current:
            text = model.tokenizer.decode(int(best[k]) for k in current)
            words.append(
                Word(
                    text,
                    current[0] * hop_s,
                    (current[-1] + 1) * hop_s,
                    float(np.mean(probabilities[current])),
                )
            )
            current = []
    return words


def searched(
    log_probs: torch.Tensor, model: Network, beam: int, guide: Guide | None
) -> tuple[list[Word], float]:
    """The words of the likeliest text that a guide allows, on its likeliest path, and the text's log-likelihood.

    log_probs (frames, alphabet). Without such a text, no words and minus infinity.
    """
    hop_s = model.config.features.hop_s * model.encoder.subsampling
    rows, written = log_probs.numpy(), ("", *model.tokenizer.alphabet)
    found = prefix_search(rows, written, BLANK, beam, guide)
    spans = align(rows, found[0], BLANK) if found else None
    if found is None or spans is None:
        return [], -np.inf
    words: list[Word] = []
    for is_space, group in groupby(zip(found[0], spans, strict=True), lambda pair: written[pair[0]] == " "):
        if not is_space:
            tokens, edges = zip(*group, strict=True)
            confidences = [
                float(np.exp(rows[start:end, token].max()))
                for token, (start, end) in zip(tokens, edges, strict=True)
            ]
            text = "".join(written[token] for token in tokens)
            words.append(Word(text, edges[0][0] * hop_s, edges[-1][1] * hop_s, float(np.mean(confidences))))
    return words, found[1]


def text_of(words: list[Word]) -> str:
    return " ".join(word.text for word in words)


def text_scores(characters: torch.Tensor, lengths: torch.Tensor, texts: Sequence[list[int]]) -> torch.Tensor:
    """Log-probabilities (clips, frames, alphabet), lengths (clips,), tokens of each text -> log-likelihoods
    per character (clips, texts), by CTC.
    """
    clips = len(characters)
    out = torch.full((clips, len(texts)), MIN_LOG_PROB)
    for i, tokens in enumerate(texts):
        if not tokens:
            continue
        loss = F.ctc_loss(
            characters.transpose(0, 1),
            torch.tensor([tokens] * clips),
            lengths,
            torch.full((clips,), len(tokens)),
            reduction="none",
        )
        out[:, i] = (-loss / len(tokens)).clamp_min(MIN_LOG_PROB)
    return out


def ctc_loss(characters: torch.Tensor, lengths: torch.Tensor, tokens: list[list[int]]) -> torch.Tensor:
    """The mean CTC loss per character; items whose text does not fit their frames do not count.

    characters (batch, frames, alphabet) log-probabilities, lengths (batch,).
    """
    total, count = ctc_sum(characters, lengths, tokens)
    return total / count.clamp_min(1)


def ctc_sum(
    characters: torch.Tensor, lengths: torch.Tensor, tokens: list[list[int]]
) -> tuple[torch.Tensor, torch.Tensor]:
    """The sum and the number of characters whose mean is `ctc_loss`."""
    target_lengths = torch.tensor([len(t) for t in tokens], device=characters.device)
    targets = torch.tensor([i for t in tokens for i in t], dtype=torch.long, device=characters.device)
    losses = F.ctc_loss(
        characters.transpose(0, 1), targets, lengths, target_lengths, reduction="none", zero_infinity=True
    )
    counted = (losses > 0) * target_lengths  # items that do not fit were set to zero
    return losses.sum(), counted.sum()
