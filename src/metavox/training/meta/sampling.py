"""Sampling of tasks from prepared speech: clips, perturbation and difficulty."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch.nn import functional as F

from metavox.audio.perturb import Perturb
from metavox.dataset.episodes import EpisodeSampler, EpisodeShape, Series
from metavox.dataset.utterance_tasks import UtteranceSampler, UtteranceShape
from metavox.training.joint import LONGEST_WORD, Labelled
from metavox.training.meta.augment import reverse_clips
from metavox.training.meta.task import Clips, Task

EASIEST = 0.25  # difficulty at the start of a curriculum, as a share of the full one


@dataclass(frozen=True)
class Curriculum:
    """Difficulty rises linearly from `EASIEST` to 1 over the first `share` of `steps`; with a share of 0 it is always 1."""

    share: float = 0.0
    steps: int = 1

    def __call__(self, step: int) -> float:
        progress = step / (self.share * self.steps) if self.share else 1.0
        return EASIEST + (1 - EASIEST) * min(1.0, progress)

    @property
    def mean(self) -> float:
        return 1 - self.share * (1 - EASIEST) / 2


class WordTasks:
    """An endless series of word tasks, by step; `frames` is the mean length of a clip, `clips` are the numbers of
    support and query clips per task.

    Difficulty scales the number of words and the strength of the perturbation. `reversed_words` is the share of a
    task's words that are reversed in time, which makes new words (see `augment`). Without `mix_languages`, the words of
    a task are all of one language, and therefore easier to confuse. Raises UserError if the rows cannot fill a task.
    """

    def __init__(
        self,
        data: Labelled,
        shape: EpisodeShape,
        perturb: Perturb,
        seed: int,
        reversed_words: float = 0.0,
        mix_languages: bool = True,
    ) -> None:
        self.data, self.shape, self.perturb, self.reversed_words = data, shape, perturb, reversed_words
        rows = data.store.rows
        silent = (rows["text"].str.strip() == "").to_numpy(bool)
        usable = (data.labels >= 0) | (silent if shape.background else False)
        self._rows = np.flatnonzero(usable & (data.store.frames <= LONGEST_WORD))
        texts = np.where(data.labels >= 0, data.labels.astype(str), "")
        words = pd.DataFrame({"language": rows["language"], "text": texts, "speaker": rows["speaker"]})
        self._episodes = Series(EpisodeSampler(words.iloc[self._rows], shape, mix_languages), seed)
        self.frames = float(data.store.frames[self._rows].mean())
        queries = shape.queries * (shape.way + shape.unknown) + shape.background
        self.clips = shape.way * shape.shot, queries

    def __call__(self, step: int, difficulty: float, random: torch.Generator) -> Task:
        episode = self._episodes(step)
        way = max(2, round(difficulty * self.shape.way))
        support_mask, query_mask = (
            episode.support_labels < way,
            episode.query_labels < way,
        )  # a clip of no word has the label -1 and is always kept
        rows = self._rows[np.concatenate([episode.support[support_mask], episode.query[query_mask]])]
        labels = torch.from_numpy(
            np.concatenate([episode.support_labels[support_mask], episode.query_labels[query_mask]])
        )
        mels, lengths = self.data.words(rows, random)
        if self.reversed_words:
            is_reversed = torch.rand(way, generator=random) < self.reversed_words
            mels = reverse_clips(mels, lengths, is_reversed[labels] & (labels >= 0))
        mels, lengths = _scaled(self.perturb, difficulty)(mels, lengths, random)
        targets = F.one_hot(labels.clamp_min(0), way) * (labels >= 0)[:, None]
        return _split(mels, lengths, targets.to(mels.dtype), int(support_mask.sum()))


class UtteranceTasks:
    """As `WordTasks`, for transcribed utterances of one or several conditions (see `UtteranceShape`)."""

    def __init__(self, data: Labelled, shape: UtteranceShape, perturb: Perturb, seed: int) -> None:
        self.data, self.perturb = data, perturb
        self._rows = np.flatnonzero((data.labels < 0) & np.array([len(t) > 0 for t in data.tokens]))
        self._tasks = Series(UtteranceSampler(data.store.rows.iloc[self._rows], shape), seed)
        self.frames = float(data.store.frames[self._rows].mean())
        self.clips = shape.support, shape.queries

    def __call__(self, step: int, difficulty: float, random: torch.Generator) -> Task:
        task = self._tasks(step)
        rows = self._rows[np.concatenate([task.support, task.query])]
        mels, lengths = _scaled(self.perturb, difficulty)(*self.data.store.batch(rows), random)
        tokens = [torch.tensor(self.data.tokens[row]) for row in rows]
        targets = torch.nn.utils.rnn.pad_sequence(tokens, batch_first=True, padding_value=-1)
        return _split(mels, lengths, targets, len(task.support))


def _scaled(perturb: Perturb, difficulty: float) -> Perturb:
    return perturb if difficulty == 1 else perturb.scaled(difficulty)


def _split(mels: torch.Tensor, lengths: torch.Tensor, targets: torch.Tensor, support: int) -> Task:
    halves = [(mels[rows], lengths[rows], targets[rows]) for rows in (slice(support), slice(support, None))]
    return Task(*(Clips(m[:, : int(n.max())], n, t) for m, n, t in halves))
