"""N-way K-shot recognition of words on any labelled recordings, with 95% intervals over episodes."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from metavox.audio.features import extract, make_transform
from metavox.audio.read import read_audio
from metavox.corpus.episodes import Episode, EpisodeSampler, EpisodeShape
from metavox.corpus.manifest import read_manifest, resolve
from metavox.errors import UserError
from metavox.evaluate.metrics import Classification, Interval, classification, mean_interval
from metavox.learn.words import Method, embed_clips, embed_mels, learn_words
from metavox.model.recogniser import Recogniser

TIMED_EPISODES = 30
MAX_CLIP_S = 20.0


@dataclass(frozen=True)
class FewShot:
    """Figures over episodes. `adaptation_ms` is from files on disk to a recogniser for the episode's words."""

    accuracy: Interval
    precision: Interval
    recall: Interval
    f1: Interval
    episodes: int
    adaptation_ms: dict[str, float] = field(default_factory=dict)
    unreadable: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, object]:
        return {
            "accuracy": self.accuracy.as_dict(), "precision": self.precision.mean, "recall": self.recall.mean,
            "f1": self.f1.mean, "episodes": self.episodes, "adaptation_ms": self.adaptation_ms,
            "unreadable": list(self.unreadable),
        }  # fmt: skip


def score_episodes(
    episodes: list[Episode], embeddings: Callable[[np.ndarray], torch.Tensor], method: Method
) -> FewShot:
    """`embeddings(rows)` gives (rows, views, embedding); queries are judged on the first view alone."""
    scores = []
    for episode in episodes:
        head = learn_words(
            embeddings(episode.support), torch.from_numpy(episode.support_labels), len(episode.words), method
        )
        guess = head.logits(embeddings(episode.query)[:, 0]).argmax(dim=1).numpy()
        scores.append(classification(episode.query_labels, guess, len(episode.words)))
    return summarise(scores)


def summarise(scores: Sequence[Classification]) -> FewShot:
    """One score an episode to means and intervals."""
    return FewShot(
        mean_interval([s.accuracy for s in scores]), mean_interval([s.precision for s in scores]),
        mean_interval([s.recall for s in scores]), mean_interval([s.f1 for s in scores]), len(scores),
    )  # fmt: skip


def fewshot(
    model: Recogniser, manifest: Path, shape: EpisodeShape, episodes: int, seed: int,
    method: Method = "head", views: int = 4, mix_languages: bool = False,
) -> FewShot:  # fmt: skip
    """Draw `episodes` from the manifest's readable clips and score them.

    Only clips that an episode uses are read. Raises UserError when the manifest cannot fill an episode.
    """
    rows = read_manifest(manifest)
    rows = rows[rows["text"].str.strip() != ""].reset_index(drop=True)
    if rows.empty:
        raise UserError(f"{manifest}: no row with a text; expected labelled clips")
    unreadable: dict[int, str] = {}
    mels: dict[int, torch.Tensor] = {}
    while True:  # a clip that cannot be read leaves the pool, and the episodes are drawn again
        usable = rows.drop(index=list(unreadable))
        sampler = EpisodeSampler(usable, shape, mix_languages)
        random = np.random.default_rng(seed)
        drawn = [_at(sampler(random), usable.index.to_numpy()) for _ in range(episodes)]
        used = np.unique(np.concatenate([np.concatenate([e.support, e.query]) for e in drawn]))
        failed = _read(model, rows, manifest, [i for i in used if i not in mels], mels)
        if not failed:
            break
        unreadable |= failed
    position = {row: i for i, row in enumerate(used)}
    embedded = embed_mels(model, [mels[row] for row in used], views, seed)
    result = score_episodes(drawn, lambda rows: embedded[[position[row] for row in rows]], method)
    timings = [_timed(model, rows, manifest, e, method, views) for e in drawn[:TIMED_EPISODES]]
    p50, p95 = np.percentile(timings, (50, 95))
    return FewShot(
        result.accuracy, result.precision, result.recall, result.f1, episodes,
        {"p50": round(float(p50), 2), "p95": round(float(p95), 2)}, tuple(unreadable.values()),
    )  # fmt: skip


def _at(episode: Episode, index: np.ndarray) -> Episode:
    return replace(episode, support=index[episode.support], query=index[episode.query])


def _read(
    model: Recogniser, rows: pd.DataFrame, manifest: Path, wanted: list[int], into: dict[int, torch.Tensor]
) -> dict[int, str]:
    """Log-mels of the wanted rows into `into`; the rows that failed, with the reason."""
    transform = make_transform(model.config.features)

    def one(row: int) -> torch.Tensor | str:
        try:
            return extract(_clip(model, rows, manifest, row), transform)
        except UserError as error:
            return str(error)

    with ThreadPoolExecutor(4) as pool:
        results = dict(zip(wanted, pool.map(one, wanted), strict=True))
    into |= {row: value for row, value in results.items() if not isinstance(value, str)}
    return {row: value for row, value in results.items() if isinstance(value, str)}


def _clip(model: Recogniser, rows: pd.DataFrame, manifest: Path, row: int) -> np.ndarray:
    rate = model.config.features.sample_rate_hz
    samples = read_audio(resolve(manifest, str(rows.at[row, "path"])), rate)
    return samples[: int(MAX_CLIP_S * rate)]


def _timed(
    model: Recogniser, rows: pd.DataFrame, manifest: Path, episode: Episode, method: Method, views: int
) -> float:
    start = time.perf_counter()
    clips = [_clip(model, rows, manifest, int(row)) for row in episode.support]
    support = embed_clips(model, clips, views)
    learn_words(support, torch.from_numpy(episode.support_labels), len(episode.words), method)
    return 1000 * (time.perf_counter() - start)
