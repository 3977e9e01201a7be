"""Decodes log-probabilities to words with times, and scores texts."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from torch.nn import functional as F

from metavox.recognisers.ctc.alphabet import Alphabet
from metavox.recognisers.guide import Guide
from metavox.recognisers.prefix_search import align, prefix_search
from metavox.recognisers.transcript import Word


def greedy(log_probs: torch.Tensor, alphabet: Alphabet, hop_s: float) -> list[Word]:
    """Best path (Graves et al. 2006, section 3.2): log_probs (frames, ids) -> words in order.

    A word lasts from the first frame of its first character to the last frame of its last.
    """
    probabilities, best = log_probs.exp().max(dim=1)
    tokens, confidences = best.tolist(), probabilities.tolist()
    words: list[Word] = []
    # Of the current word: text, first frame, frame after the last.
    characters: list[tuple[str, int, int]] = []
    ends = [i + 1 for i in range(len(tokens)) if i + 1 == len(tokens) or tokens[i] != tokens[i + 1]]
    for start, end in pairwise([0, *ends]):
        written = alphabet.written[tokens[start]]
        if written == " ":
            words += _word(characters, confidences, hop_s)
            characters = []
        elif written:
            characters.append((written, start, end))
    return words + _word(characters, confidences, hop_s)


def searched(
    log_probs: torch.Tensor, alphabet: Alphabet, hop_s: float, beam: int, guide: Guide | None
) -> tuple[list[Word], float]:
    """The words of the likeliest text that a guide allows, on its likeliest path, and the text's log-likelihood.

    log_probs (frames, ids). Without such a text, no words and minus infinity.
    """
    rows = log_probs.numpy()
    found = prefix_search(rows, alphabet.written, alphabet.blank, beam, guide)
    spans = align(rows, found[0], alphabet.blank) if found else None
    if found is None or spans is None:
        return [], -np.inf
    words: list[Word] = []
    characters: list[tuple[str, int, int]] = []
    confidences = np.zeros(len(rows))
    for token, (start, end) in zip(found[0], spans, strict=True):
        confidences[start:end] = np.exp(rows[start:end, token])
        if alphabet.written[token] == " ":
            words += _word(characters, confidences.tolist(), hop_s)
            characters = []
        else:
            characters.append((alphabet.written[token], start, end))
    return words + _word(characters, confidences.tolist(), hop_s), found[1]


def _word(characters: list[tuple[str, int, int]], confidences: list[float], hop_s: float) -> list[Word]:
    if not characters:
        return []
    text = "".join(written for written, _, _ in characters)
    confidence = float(np.mean([max(confidences[start:end]) for _, start, end in characters]))
    return [Word(text, characters[0][1] * hop_s, characters[-1][2] * hop_s, confidence)]


def losses(
    log_probs: torch.Tensor, lengths: torch.Tensor, tokens: Sequence[Sequence[int]], blank: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The summed negative log-likelihood of texts, and the number of their characters that fit the frames.

    log_probs (batch, frames, ids), lengths (batch,). A text that does not fit its frames does not count; an
    empty one (silence stays silent) counts as one character.
    """
    device = log_probs.device
    sizes = torch.tensor([len(t) for t in tokens], device=device)
    targets = torch.tensor([i for t in tokens for i in t], dtype=torch.long, device=device)
    per_text = F.ctc_loss(
        log_probs.transpose(0, 1), targets, lengths, sizes, blank, reduction="none", zero_infinity=True
    )
    return per_text.sum(), ((per_text > 0) * sizes.clamp_min(1)).sum()


def text_log_probs(log_probs: torch.Tensor, tokens: Sequence[Sequence[int]], blank: int) -> torch.Tensor:
    """log_probs (frames, ids) of one clip -> log-likelihoods per character (texts,); -inf if a text is empty
    or does not fit.
    """
    sizes = torch.tensor([len(t) for t in tokens])
    targets = torch.tensor([i for t in tokens for i in t], dtype=torch.long)
    expanded = log_probs.cpu()[:, None].expand(-1, len(tokens), -1)
    lengths = torch.full((len(tokens),), len(log_probs))
    per_text = F.ctc_loss(expanded, targets, lengths, sizes, blank, reduction="none")
    return torch.where(sizes > 0, -per_text / sizes.clamp_min(1), -torch.inf)
