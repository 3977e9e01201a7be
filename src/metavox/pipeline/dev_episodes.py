"""One-shot episodes on development speakers, by which training arms and search trials are compared."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from metavox.dataset.episodes import Episode, EpisodeSampler, EpisodeShape
from metavox.dataset.store import Store
from metavox.enrolment.prototypes import embed_mels
from metavox.errors import UserError
from metavox.metrics.episodes import score_episodes
from metavox.metrics.rates import Interval
from metavox.params import Params
from metavox.recognisers.conformer import Network
from metavox.text import normalise_text
from metavox.training.joint import (
    LONGEST_WORD,
)


@dataclass(frozen=True)
class DevEpisodes:
    """One-shot episodes on development speakers, of clips that no training uses.

    Row i of an episode is clip i of the store. Where the speakers share no words, row n + i is clip i with its channel
    changed.
    """

    store: Store
    episodes: list[Episode]

    @property
    def paths(self) -> set[str]:
        return set(self.store.rows["path"])

    def score(self, model: Network) -> Interval:
        """Accuracy of nearest prototypes."""
        margins = (model.config.word_margin, model.config.word_margin)
        views = embed_mels(model, [self.store.word(i, margins) for i in range(len(self.store))], views=1)
        embedded = torch.cat([views[:, :1], views[:, 1:]])
        return score_episodes(self.episodes, lambda rows: embedded[rows], "prototypes").accuracy


def dev_episodes(store: Store, params: Params, episodes: int = 300) -> DevEpisodes:
    """Draw episodes of words that a development speaker shares with another speaker of the language, who teaches them.

    Without such words, each clip of a development speaker is recognised among others after a change of its channel.
    Raises UserError when the development split has fewer than two recorded words.
    """
    rows = store.rows
    recorded = (
        rows["unit"].isin(("word", "letter"))
        & (rows["text_kind"] == "spoken")
        & ~rows["synthetic"]
        & rows["frames"].between(1, LONGEST_WORD)
    )
    key = rows["language"] + ":" + rows["text"].map(normalise_text)
    of_dev = recorded & (rows["split"] == "dev")
    shared = recorded & rows["split"].isin(("train", "dev")) & key.isin(set(key[of_dev]))
    words = store.where(shared)
    clips = words.rows.assign(text=words.rows["text"].map(normalise_text))
    drawn = _draw(clips, frozenset(rows.loc[of_dev, "speaker"]), params.seed, episodes)
    if not drawn:
        words = store.where(of_dev)
        clips = pd.concat(
            [
                words.rows.assign(text=words.rows["path"], speaker=channel)
                for channel in ("recorded", "another")
            ]
        )
        drawn = _draw(clips, frozenset(["another"]), params.seed, episodes)
    if not drawn:
        raise UserError(
            f"split dev holds {int(of_dev.sum())} recorded words, too few to choose between joint and meta-training; "
            "expected a development speaker with at least two words"
        )
    return DevEpisodes(words, drawn)


def _draw(clips: pd.DataFrame, speakers: frozenset[str], seed: int, episodes: int) -> list[Episode]:
    random = np.random.default_rng(seed)
    for way in (10, 5, 3, 2):
        try:
            sampler = EpisodeSampler(clips, EpisodeShape(way, 1, 1, "cross-speaker"), query_speakers=speakers)
        except UserError:
            continue
        return [sampler(random) for _ in range(episodes)]
    return []
