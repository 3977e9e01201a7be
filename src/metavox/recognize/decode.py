"""From character log-probabilities to text with times and confidences."""

from dataclasses import dataclass

import numpy as np
import torch

from metavox.recognisers.conformer.network import Network
from metavox.recognisers.conformer.tokenizer import BLANK


@dataclass(frozen=True)
class Word:
    """A word with its times in seconds and the mean probability of its characters."""

    text: str
    start_s: float
    end_s: float
    confidence: float


def greedy(log_probs: torch.Tensor, model: Network) -> list[Word]:
    """Best path (Graves et al. 2006, section 3.2): log_probs (frames, alphabet) to words in order."""
    hop_s = model.config.features.hop_ms / 1000 * model.encoder.subsampling
    best = log_probs.argmax(dim=1).numpy()
    chance = log_probs.exp().amax(dim=1).numpy()
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
                Word(text, current[0] * hop_s, (current[-1] + 1) * hop_s, float(np.mean(chance[current])))
            )
            current = []
    return words


def text_of(words: list[Word]) -> str:
    return " ".join(word.text for word in words)


def text_score(log_probs: torch.Tensor, tokens: list[int]) -> float:
    """Log-likelihood a character of one given text, by CTC: how well a phrase fits, unheard so far."""
    if not tokens or len(tokens) > len(log_probs):
        return -float("inf")
    loss = torch.nn.functional.ctc_loss(
        log_probs.unsqueeze(1),
        torch.tensor([tokens]),
        torch.tensor([len(log_probs)]),
        torch.tensor([len(tokens)]),
        reduction="sum",
    )
    return -float(loss) / len(tokens)
