"""The baseline without examples: words are recognised by the CTC score of their spelling alone."""

from collections.abc import Callable, Sequence

import numpy as np
import torch

from metavox.dataset.episodes import Episode
from metavox.metrics.trials import Trials, collect
from metavox.recognisers.conformer import Network, pad, text_scores

BATCH = 64


def run_spelling_trials(
    model: Network, episodes: Sequence[Episode], mels: Callable[[int], torch.Tensor]
) -> Trials:
    """Assign each query to the word whose spelling has the highest CTC score; no recording teaches any word.

    `mels(row)` gives (frames, mel).
    """
    return collect(episodes, spelling_scores(model, episodes, [e.query for e in episodes], mels))


def spelling_scores(
    model: Network,
    episodes: Sequence[Episode],
    clips: Sequence[np.ndarray],
    mels: Callable[[int], torch.Tensor],
) -> torch.Tensor:
    """CTC scores of the words of each episode i for its rows `clips[i]`, episodes one after another: (rows, way).

    Each recording passes through the network once, and is scored once per word, however many episodes share it.
    """
    counts = [len(rows) for rows in clips]
    rows, row_index = np.unique(np.concatenate(clips), return_inverse=True)
    names, word_index = np.unique([e.words for e in episodes], return_inverse=True)
    word_index = word_index.reshape(len(episodes), -1).repeat(counts, axis=0)
    pairs, pair_index = np.unique(word_index * len(rows) + row_index[:, None], return_inverse=True)
    log_probs = character_log_probs(model, [mels(int(row)) for row in rows])
    pair_word, pair_clip = np.divmod(pairs, len(rows))
    clips_of_word = np.split(pair_clip, np.searchsorted(pair_word, np.arange(1, len(names))))
    scores = [
        _word_scores(model, str(name), [log_probs[i] for i in own])
        for name, own in zip(names, clips_of_word, strict=True)
    ]
    return torch.cat(scores)[torch.from_numpy(pair_index.reshape(word_index.shape))]


def character_log_probs(model: Network, mels: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Character log-probabilities (frames / subsampling, alphabet) of each clip of log-mels (frames, mel)."""
    log_probs = [torch.zeros(0)] * len(mels)
    order = sorted(range(len(mels)), key=lambda i: len(mels[i]))
    with torch.inference_mode():
        for start in range(0, len(order), BATCH):
            batch = order[start : start + BATCH]
            characters, lengths = model.characters(*pad([mels[i] for i in batch]))
            for i, clip, length in zip(batch, characters, lengths, strict=True):
                log_probs[i] = clip[:length]
    return log_probs


def _word_scores(model: Network, word: str, log_probs: Sequence[torch.Tensor]) -> torch.Tensor:
    """The CTC score of one word for each recording, (recordings,)."""
    return text_scores(*pad(list(log_probs)), [model.tokenizer.encode(word)])[:, 0]
