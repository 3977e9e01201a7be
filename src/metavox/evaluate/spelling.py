"""What a recogniser knows of words that it was never taught: their spelling, and how it thinks letters sound."""

from collections.abc import Callable, Sequence

import torch

from metavox.corpus.episodes import Episode
from metavox.evaluate.judged import Judged, judge_by
from metavox.recognisers.conformer.enrolled import text_scores
from metavox.recognisers.conformer.network import Network
from metavox.recognize.transcribe import character_log_probs


def judge_by_spelling(
    model: Network, episodes: Sequence[Episode], mels: Callable[[int], torch.Tensor]
) -> Judged:
    """Each query goes to the word whose letters CTC finds likeliest: no recording of the word was heard.

    `mels(row)`: (frames, mel).
    """
    heard: dict[int, torch.Tensor] = {}

    def logits(episode: Episode) -> torch.Tensor:
        for row in map(int, episode.query):
            if row not in heard:
                heard[row] = character_log_probs(model, mels(row))
        clips = [heard[int(row)] for row in episode.query]
        padded = torch.nn.utils.rnn.pad_sequence(clips, batch_first=True)
        lengths = torch.tensor([len(clip) for clip in clips])
        return text_scores(padded, lengths, [model.tokenizer.encode(word) for word in episode.words])

    return judge_by(logits, episodes)
