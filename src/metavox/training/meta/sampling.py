"""From prepared speech to tasks: which clips, in whose room, and how hard at which step."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch.nn import functional as F

from metavox.audio.perturb import Perturb
from metavox.dataset.episodes import EpisodeSampler, EpisodeShape, Series
from metavox.dataset.utterance_tasks import UtteranceSampler, UtteranceShape
from metavox.training.joint import LONGEST_WORD, Labelled
from metavox.training.meta.augment import backwards
from metavox.training.meta.task import Clips, Task

EASIEST = 0.25  # where a curriculum begins, in parts of the full difficulty


@dataclass(frozen=True)
class Curriculum:
    """Difficulty rises evenly from `EASIEST` to 1 over the first `share` of `steps`; a share of 0 is full from the start."""

    share: float = 0.0
    steps: int = 1

    def __call__(self, step: int) -> float:
        done = step / (self.share * self.steps) if self.share else 1.0
        return EASIEST + (1 - EASIEST) * min(1.0, done)

    @property
    def mean(self) -> float:
        return 1 - self.share * (1 - EASIEST) / 2


class WordTasks:
    """Task number `step` of an endless series of word episodes; `frames` is the mean length of a clip.

    Hard is many words, far from how they were recorded. `reversed_words` is the share of a task's words that are heard
    backwards, which makes each a word that there is not (`augment`). Without `mix_languages` a task's words are of one
    language, and easily confused. Raises UserError where the rows cannot fill a task.
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
        asked = shape.queries * (shape.way + shape.unknown) + shape.background
        self.clips = shape.way * shape.shot, asked

    def __call__(self, step: int, difficulty: float, random: torch.Generator) -> Task:
        episode = self._episodes(step)
        way = max(2, round(difficulty * self.shape.way))
        taught, asked = (
            episode.support_labels < way,
            episode.query_labels < way,
        )  # of none is -1: always asked
        rows = self._rows[np.concatenate([episode.support[taught], episode.query[asked]])]
        labels = torch.from_numpy(
            np.concatenate([episode.support_labels[taught], episode.query_labels[asked]])
        )
        mels, lengths = self.data.store.batch(rows)
        if self.reversed_words:
            turned = torch.rand(way, generator=random) < self.reversed_words
            mels = backwards(mels, lengths, turned[labels] & (labels >= 0))
        mels, lengths = _at(self.perturb, difficulty)(mels, lengths, random)
        targets = F.one_hot(labels.clamp_min(0), way) * (labels >= 0)[:, None]
        return _split(mels, lengths, targets.to(mels.dtype), int(taught.sum()))


class UtteranceTasks:
    """As `WordTasks`, of transcribed utterances of one condition or several (`UtteranceShape`)."""

    def __init__(self, data: Labelled, shape: UtteranceShape, perturb: Perturb, seed: int) -> None:
        self.data, self.perturb = data, perturb
        self._rows = np.flatnonzero((data.labels < 0) & np.array([len(t) > 0 for t in data.tokens]))
        self._tasks = Series(UtteranceSampler(data.store.rows.iloc[self._rows], shape), seed)
        self.frames = float(data.store.frames[self._rows].mean())
        self.clips = shape.support, shape.queries

    def __call__(self, step: int, difficulty: float, random: torch.Generator) -> Task:
        task = self._tasks(step)
        rows = self._rows[np.concatenate([task.support, task.query])]
        mels, lengths = _at(self.perturb, difficulty)(*self.data.store.batch(rows), random)
        tokens = [torch.tensor(self.data.tokens[row]) for row in rows]
        targets = torch.nn.utils.rnn.pad_sequence(tokens, batch_first=True, padding_value=-1)
        return _split(mels, lengths, targets, len(task.support))


def _at(perturb: Perturb, difficulty: float) -> Perturb:
    return perturb if difficulty == 1 else perturb.scaled(difficulty)


def _split(mels: torch.Tensor, lengths: torch.Tensor, targets: torch.Tensor, support: int) -> Task:
    halves = [(mels[part], lengths[part], targets[part]) for part in (slice(support), slice(support, None))]
    return Task(*(Clips(m[:, : int(n.max())], n, t) for m, n, t in halves))
