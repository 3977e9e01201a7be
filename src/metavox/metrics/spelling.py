"""What a recogniser knows of words that it was never taught: their spelling, and how it thinks letters sound."""

from collections.abc import Callable, Sequence

import numpy as np
import torch

from metavox.dataset.episodes import Episode
from metavox.metrics.trials import Trials, collect
from metavox.recognisers.conformer import Network, pad, text_scores

BATCH = 64


def judge_by_spelling(
    model: Network, episodes: Sequence[Episode], mels: Callable[[int], torch.Tensor]
) -> Trials:
    """Each query goes to the word whose letters CTC finds likeliest: no recording of the word was heard.

    `mels(row)`: (frames, mel).
    """
    return collect(episodes, letter_scores(model, episodes, [e.query for e in episodes], mels))


def letter_scores(
    model: Network,
    episodes: Sequence[Episode],
    clips: Sequence[np.ndarray],
    mels: Callable[[int], torch.Tensor],
) -> torch.Tensor:
    """Of rows `clips[i]` of each episode i, one episode after another, how well the letters of its words fit: (rows, way).

    A recording is heard once, and scored once for each word, however many episodes ask.
    """
    asked = [len(one) for one in clips]
    rows, row = np.unique(np.concatenate(clips), return_inverse=True)
    names, code = np.unique([e.words for e in episodes], return_inverse=True)
    code = code.reshape(len(episodes), -1).repeat(asked, axis=0)
    pairs, place = np.unique(code * len(rows) + row[:, None], return_inverse=True)
    heard = hear(model, [mels(int(one)) for one in rows])
    word, clip = np.divmod(pairs, len(rows))
    parts = np.split(clip, np.searchsorted(word, np.arange(1, len(names))))
    scores = [
        _fit(model, str(name), [heard[i] for i in clips]) for name, clips in zip(names, parts, strict=True)
    ]
    return torch.cat(scores)[torch.from_numpy(place.reshape(code.shape))]


def hear(model: Network, mels: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Log-mels (frames, mel) each -> character log-probabilities (frames / subsampling, alphabet) each."""
    out = [torch.zeros(0)] * len(mels)
    order = sorted(range(len(mels)), key=lambda i: len(mels[i]))
    with torch.inference_mode():
        for start in range(0, len(order), BATCH):
            chosen = order[start : start + BATCH]
            characters, lengths = model.characters(*pad([mels[i] for i in chosen]))
            for i, one, length in zip(chosen, characters, lengths, strict=True):
                out[i] = one[:length]
    return out


def _fit(model: Network, word: str, heard: Sequence[torch.Tensor]) -> torch.Tensor:
    """How well recordings fit one word, (recordings,)."""
    return text_scores(*pad(list(heard)), [model.tokenizer.encode(word)])[:, 0]
