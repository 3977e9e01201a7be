"""N-way K-shot recognition of words on any labelled recordings, with 95% intervals over episodes."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import torch

from metavox.audio.features import extract, make_transform
from metavox.dataset.episodes import Episode, EpisodeSampler, EpisodeShape
from metavox.enrolment.enrol import EnrolConfig, enrol_words
from metavox.enrolment.prototypes import Method, embed_clips, learn_words
from metavox.errors import UserError
from metavox.ingest.labelled import read_labelled
from metavox.metrics.episodes import FewShot, figures
from metavox.metrics.recordings import Recordings
from metavox.metrics.spelling import run_spelling_trials
from metavox.metrics.trials import Scorer, Trials, run_trials, run_trials_by
from metavox.recognisers.conformer import LOGIT_SCALE, ConformerRecogniser, Network
from metavox.recognisers.delta import Delta
from metavox.text import normalise_text

TIMED_EPISODES, MIN_TIMED, TIMED_S = 30, 3, 15.0


@dataclass(frozen=True)
class Protocol:
    """How episodes are drawn and scored, except for the number of recordings that teach a word (shots).

    `method` "adapt" enrols words as `metavox adapt` does, so that the CTC score of their spelling counts too.
    """

    way: int = 10
    queries: int = 5
    pairing: str = "same-speaker"
    unknown: int = 0
    background: int = 0
    episodes: int = 600
    seed: int = 0
    method: Method | Literal["adapt"] = "head"
    scorer: Scorer = "similarity"
    views: int = 4
    mix_languages: bool = False

    def shape(self, shot: int) -> EpisodeShape:
        return EpisodeShape(self.way, shot, self.queries, self.pairing, self.unknown, self.background)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Outcome:
    """The result for one number of shots. `adaptation_ms` covers reading the files and learning an episode's words."""

    episodes: list[Episode]
    trials: Trials
    figures: FewShot
    adaptation_ms: dict[str, float]


@dataclass(frozen=True)
class Study:
    """Outcomes by number of shots; `not_drawn` says why others have none, and `before` has the spelling baseline."""

    protocol: Protocol
    recordings: Recordings
    outcomes: dict[int, Outcome]
    not_drawn: dict[int, str]
    before: dict[int, FewShot] = field(default_factory=dict)

    @property
    def rows(self) -> pd.DataFrame:
        return self.recordings.rows

    @property
    def unreadable(self) -> tuple[str, ...]:
        return tuple(self.recordings.unreadable.values())

    @property
    def most(self) -> Outcome:
        """The outcome with the most recordings per word."""
        return self.outcomes[max(self.outcomes)]


def fewshot(
    model: Network, manifest: Path, protocol: Protocol, shots: Sequence[int] = (5,), before: bool = False
) -> Study:
    """Draw episodes from the manifest's readable clips for each of `shots`, and score them.

    Only clips that an episode uses are read. With `before`, the spelling baseline is scored too. Rows without a text are
    background queries, where the protocol asks for them. Raises UserError when the manifest cannot fill an episode of
    any of `shots`.
    """
    rows = read_labelled(manifest).fillna({"text": ""})
    spoken = rows["text"].str.strip() != ""
    if not spoken.any():
        raise UserError(
            f"{manifest}: no row with a text; add the word spoken in each clip to the column text"
        )
    rows = (rows if protocol.background else rows[spoken]).reset_index(drop=True)
    recordings = Recordings(model, manifest, rows, protocol.views, protocol.seed)
    while True:  # a clip that cannot be read leaves the pool, and the episodes are drawn again
        drawn, not_drawn = _draw(recordings, protocol, shots)
        used = {int(row) for episodes in drawn.values() for e in episodes for row in (*e.support, *e.query)}
        if recordings.embed(sorted(used)):
            break
    outcomes = {}
    for shot, episodes in drawn.items():
        trials = _run(recordings, episodes, protocol)
        adaptation_ms = _timings(recordings, episodes, protocol)
        outcomes[shot] = Outcome(episodes, trials, figures(trials, protocol.seed), adaptation_ms)
    baseline = (
        {shot: _by_spelling(recordings, o.episodes, protocol.seed) for shot, o in outcomes.items()}
        if before
        else {}
    )
    return Study(protocol, recordings, outcomes, not_drawn, baseline)


def _draw(
    recordings: Recordings, protocol: Protocol, shots: Sequence[int]
) -> tuple[dict[int, list[Episode]], dict[int, str]]:
    """Episodes by number of shots, and the reason for each number of shots that has none."""
    usable = recordings.rows.drop(index=list(recordings.unreadable))
    index = usable.index.to_numpy()
    drawn, not_drawn = {}, {}
    for shot in sorted(set(shots)):
        try:
            sampler = EpisodeSampler(usable, protocol.shape(shot), protocol.mix_languages)
        except UserError as error:
            not_drawn[shot] = str(error)
            continue
        random = np.random.default_rng(protocol.seed)
        drawn[shot] = [
            replace(episode, support=index[episode.support], query=index[episode.query])
            for episode in (sampler(random) for _ in range(protocol.episodes))
        ]
    if not drawn:
        raise UserError(next(iter(not_drawn.values())))
    return drawn, not_drawn


def _run(recordings: Recordings, episodes: list[Episode], protocol: Protocol) -> Trials:
    model = recordings.model
    if protocol.method != "adapt":
        return run_trials(episodes, recordings.embeddings, protocol.method, protocol.scorer, model.cohort)

    cache: dict[int, torch.Tensor] = {}

    def mels(rows: np.ndarray) -> list[torch.Tensor]:
        for row in {int(row) for row in rows} - set(cache):
            cache[row] = recordings.mels(row)
        return [cache[int(row)] for row in rows]

    embedder = ConformerRecogniser(model, "", "")

    def logits(episode: Episode) -> torch.Tensor:
        support, query = mels(episode.support), mels(episode.query)
        vocabulary = _enrol(model, support, episode).vocabulary
        assert vocabulary is not None
        order = [vocabulary.words.index(word) for word in episode.words]
        return LOGIT_SCALE * embedder.score_words(vocabulary, query)[:, order]

    return run_trials_by(logits, episodes, protocol.scorer)


def _enrol(model: Network, mels: list[torch.Tensor], episode: Episode) -> Delta:
    return enrol_words(
        model, "", mels, [episode.words[label] for label in episode.support_labels], EnrolConfig()
    )


def _timings(recordings: Recordings, episodes: list[Episode], protocol: Protocol) -> dict[str, float]:
    """Percentiles of the adaptation time in milliseconds, over as many episodes as fit in TIMED_S seconds."""
    times_ms: list[float] = []
    for episode in episodes[:TIMED_EPISODES]:
        start = time.perf_counter()
        clips = [recordings.samples(int(row)) for row in episode.support]
        if protocol.method == "adapt":
            transform = make_transform(recordings.model.config.features)
            _enrol(recordings.model, [extract(clip, transform) for clip in clips], episode)
        else:
            support = embed_clips(recordings.model, clips, protocol.views)
            learn_words(
                support, torch.from_numpy(episode.support_labels), len(episode.words), protocol.method
            )
        times_ms.append(1000 * (time.perf_counter() - start))
        if len(times_ms) >= MIN_TIMED and sum(times_ms) > 1000 * TIMED_S:
            break
    p50, p95 = np.percentile(times_ms, (50, 95))
    return {"p50": round(float(p50), 2), "p95": round(float(p95), 2)}


def _by_spelling(recordings: Recordings, episodes: list[Episode], seed: int) -> FewShot:
    normal = [replace(e, words=tuple(map(normalise_text, e.words))) for e in episodes]
    return figures(run_spelling_trials(recordings.model, normal, recordings.mels), seed)
