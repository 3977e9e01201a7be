"""What an encoder learned without labels: how well a line through its frozen frames tells words and voices apart.

The same clips, probes and seeds for every encoder; the one to beat has random weights. Probes after Chung et al. 2019.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch.nn import functional as F

from metavox.corpus.episodes import EpisodeSampler, EpisodeShape
from metavox.corpus.store import Store
from metavox.errors import UserError
from metavox.evaluate.fewshot import score_episodes
from metavox.evaluate.metrics import Interval, mean_interval
from metavox.learn.joint import LONGEST_WORD, word_labels
from metavox.model.encoders import Encoder
from metavox.model.frames import frame_mask

WORDS, VOICES, CLIPS = 60, 24, 16
WAY, EPISODES = 10, 200
BATCH = 64


@dataclass(frozen=True)
class Choice:
    """Rows of a store with the class of each, and which of them are asked about."""

    rows: np.ndarray
    classes: np.ndarray
    asked: np.ndarray


def words(rows: pd.DataFrame, seed: int) -> Choice:
    """Words that several voices say; a third of the voices is asked about and never learned from."""
    random = np.random.default_rng(seed)
    labels = word_labels(rows).where(rows["frames"].between(1, LONGEST_WORD), "")
    voices = np.sort(rows.loc[labels != "", "voice"].unique())
    held = set(random.permutation(voices)[: len(voices) // 3])
    asked = rows["voice"].isin(held)
    both = [set(labels[(labels != "") & side]) for side in (asked, ~asked)]
    known = np.array(sorted(both[0] & both[1]))
    return _choice(labels.isin(random.permutation(known)[:WORDS]), labels, asked.to_numpy())


def voices(rows: pd.DataFrame, seed: int) -> Choice:
    """Recorded voices with enough clips; a quarter of each one's clips is asked about."""
    random = np.random.default_rng(seed)
    usable = rows[~rows["synthetic"] & rows["frames"].between(30, LONGEST_WORD)]
    many = usable["voice"].value_counts()
    chosen = random.permutation(np.sort(many.index[many >= CLIPS]))[:VOICES]
    picked = usable[usable["voice"].isin(chosen)].groupby("voice").sample(CLIPS, random_state=seed)
    place = picked.groupby("voice").cumcount().reindex(rows.index)
    return _choice(place.notna(), rows["voice"], (place >= 0.75 * CLIPS).to_numpy())


def _choice(wanted: pd.Series, labels: pd.Series, asked: np.ndarray) -> Choice:
    at = np.flatnonzero(wanted)
    if not len(at) or asked[at].all() or not asked[at].any():
        raise UserError(
            "probe: no word that several voices say, or no voice with enough clips; leave the probe out"
        )
    return Choice(at, pd.Categorical(labels.iloc[at]).codes.astype(int), asked[at])


def pooled(encoder: Encoder, store: Store, rows: np.ndarray) -> torch.Tensor:
    """Mean and deviation over time of the acoustic frames: (rows, 2 * acoustic_dim)."""
    out = []
    with torch.inference_mode():
        for part in np.array_split(rows, max(1, -(-len(rows) // BATCH))):
            frames, lengths = encoder.acoustic(*store.batch(part))
            inside = frame_mask(lengths, frames.shape[1]).unsqueeze(2)
            mean = (frames * inside).sum(dim=1) / lengths[:, None]
            spread = (((frames - mean[:, None]) * inside).square().sum(dim=1) / lengths[:, None]).sqrt()
            out.append(torch.cat([mean, spread], dim=1))
    return torch.cat(out)


def line(x: torch.Tensor, choice: Choice, decay: float = 1e-3) -> np.ndarray:
    """Logistic regression on standardised (rows, dim): whether each asked row is right, (asked,)."""
    asked, truth = torch.from_numpy(choice.asked), torch.from_numpy(choice.classes)
    learned = x[~asked]
    x = (x - learned.mean(dim=0)) / learned.std(dim=0).clamp_min(1e-4)
    weight = torch.zeros(x.shape[1] + 1, int(truth.max()) + 1, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight], max_iter=60, line_search_fn="strong_wolfe")
    given, labels = F.pad(x, (0, 1), value=1.0), truth[~asked]

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = F.cross_entropy(given[~asked] @ weight, labels) + decay * weight.square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    right: np.ndarray = ((given[asked] @ weight.detach()).argmax(dim=1) == truth[asked]).numpy()
    return right


def few_shot(x: torch.Tensor, choice: Choice, rows: pd.DataFrame, seed: int) -> Interval:
    """One clip a word by one voice, asked of another: nearest standardised clip, over episodes of asked voices."""
    unit = F.normalize((x - x.mean(dim=0)) / x.std(dim=0).clamp_min(1e-4), dim=1)
    table = pd.DataFrame(
        {
            "language": "any",
            "text": choice.classes.astype(str),
            "voice": rows["voice"].to_numpy(str)[choice.rows],
        }
    )[choice.asked].reset_index()
    sample = EpisodeSampler(table, EpisodeShape(WAY, 1, 1, "cross-voice"))
    random = np.random.default_rng(seed)
    episodes = [sample(random) for _ in range(EPISODES)]
    place = table["index"].to_numpy()
    return score_episodes(episodes, lambda at: unit[place[at]].unsqueeze(1), "prototypes").accuracy


def probe_table(encoders: Mapping[str, Encoder], store: Store, seed: int) -> pd.DataFrame:
    """A row a probe and encoder: accuracy with its 95% interval, and what chance gives.

    Raises UserError when the store has no words that several voices say, or no voice with enough clips.
    """
    chosen = {"words of unheard voices": words(store.rows, seed), "voices": voices(store.rows, seed)}
    table: list[dict[str, object]] = []
    for name, encoder in encoders.items():
        encoder.eval()
        for probe, choice in chosen.items():
            x = pooled(encoder, store, choice.rows)
            right = mean_interval(line(x, choice).astype(float))
            classes = len(np.unique(choice.classes))
            table.append(_row(probe, name, right, 1 / classes, int(choice.asked.sum())))
            if choice is chosen["words of unheard voices"]:
                few = _few_shot_or_none(x, choice, store.rows, seed)
                table += [_row(f"{WAY} words, 1 clip each", name, few, 1 / WAY, EPISODES)] if few else []
    return pd.DataFrame(table).sort_values("probe", kind="stable").reset_index(drop=True)


def _few_shot_or_none(x: torch.Tensor, choice: Choice, rows: pd.DataFrame, seed: int) -> Interval | None:
    try:
        return few_shot(x, choice, rows, seed)
    except UserError:  # too few words for an episode
        return None


def _row(probe: str, encoder: str, right: Interval, chance: float, items: int) -> dict[str, object]:
    return {"probe": probe, "encoder": encoder, "accuracy": round(right.mean, 4), "ci95": round(right.ci95, 4),
            "chance": round(chance, 4), "items": items}  # fmt: skip
