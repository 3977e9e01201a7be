"""What an encoder learned without labels: how well a line through its frozen frames tells words and speakers apart.

The same clips, probes and seeds for every encoder; the one to beat has random weights. Probes after Chung et al. 2019.
They are asked of speakers that the encoder heard and, apart, of people it never heard.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
import torch
from torch.nn import functional as F

from metavox.dataset.episodes import EpisodeSampler, EpisodeShape
from metavox.dataset.store import Store
from metavox.errors import UserError
from metavox.intervals import mean_interval, wilson
from metavox.metrics.trials import by_episode, run_trials
from metavox.recognisers.conformer import Encoder, frame_mask
from metavox.training.joint import LONGEST_WORD, word_labels

WORDS, SPEAKERS, CLIPS, MOST_CLIPS = 60, 24, 16, 40
FOLDS, PEOPLE_FOLDS = 4, 5  # of a speaker's clips, of speakers
WAY, EPISODES = 10, 200
BATCH = 64


@dataclass(frozen=True)
class Choice:
    """Rows of a store with the class of each. Rows of `fold` f > 0 are asked of a line that learned from all other rows."""

    rows: np.ndarray
    classes: np.ndarray
    folds: np.ndarray

    @property
    def asked(self) -> np.ndarray:
        return self.folds > 0


def words(rows: pd.DataFrame, people: frozenset[str], seed: int) -> Choice:
    """Words that several of `people` say; a third of them is asked about and never learned from."""
    random = np.random.default_rng(seed)
    labels = _words(rows).where(rows["speaker"].isin(people), "")
    speakers = np.sort(rows.loc[labels != "", "speaker"].unique())
    held = set(random.permutation(speakers)[: max(1, len(speakers) // 3)])
    asked = rows["speaker"].isin(held)
    both = [set(labels[(labels != "") & side]) for side in (asked, ~asked)]
    known = np.array(sorted(both[0] & both[1]))
    return _choice(labels.isin(random.permutation(known)[:WORDS]), labels, asked.astype(int))


def words_of(rows: pd.DataFrame, people: frozenset[str]) -> Choice:
    """Words of `people` that others teach: a fifth of them at a time is asked about, and everybody else is learned from."""
    labels = _words(rows)
    number = pd.Series({name: i for i, name in enumerate(sorted(people))}, dtype=float)
    folds = (rows["speaker"].map(number) % PEOPLE_FOLDS + 1).fillna(0)
    asked = (folds > 0) & (labels != "") & (folds.groupby(labels).transform("nunique") > 1)
    return _choice(labels.isin(set(labels[asked])), labels, folds.where(asked, 0).astype(int))


def speakers(rows: pd.DataFrame, people: frozenset[str], seed: int) -> Choice:
    """Recorded speakers of `people` with enough clips; each clip is asked of a line that learned from three quarters of the others."""
    random = np.random.default_rng(seed)
    long_enough = rows["frames"].between(30, LONGEST_WORD)
    usable = rows[~rows["synthetic"] & long_enough & rows["speaker"].isin(people)]
    many = usable["speaker"].value_counts()
    chosen = random.permutation(np.sort(many.index[many >= CLIPS]))[:SPEAKERS]
    usable = usable[usable["speaker"].isin(chosen)].sample(frac=1.0, random_state=seed)
    place = usable.groupby("speaker").cumcount()
    place = place[place < MOST_CLIPS].reindex(rows.index)
    return _choice(place.notna(), rows["speaker"], (place % FOLDS + 1).fillna(0).astype(int))


def _words(rows: pd.DataFrame) -> pd.Series:
    return word_labels(rows).where(rows["frames"].between(1, LONGEST_WORD), "")


def _choice(wanted: pd.Series, labels: pd.Series, folds: pd.Series) -> Choice:
    at = np.flatnonzero(wanted)
    found = folds.to_numpy()[at]
    if len(set(found)) < 2 or labels.iloc[at].nunique() < 2:
        raise UserError(
            "no word that several speakers say, or no two speakers with enough clips; leave the probe out"
        )
    return Choice(at, pd.Categorical(labels.iloc[at]).codes.astype(int), found)


def pooled(encoder: Encoder, store: Store, rows: np.ndarray) -> torch.Tensor:
    """Mean and deviation over time of the acoustic frames: (rows, 2 * acoustic_dim)."""
    out = torch.empty(len(rows), 2 * encoder.acoustic_dim)
    order = np.argsort(store.frames[rows], kind="stable")  # clips of one length waste nothing on padding
    with torch.inference_mode():
        for part in np.array_split(order, max(1, -(-len(rows) // BATCH))):
            frames, lengths = encoder.acoustic(*store.batch(rows[part]))
            inside = frame_mask(lengths, frames.shape[1]).unsqueeze(2)
            mean = (frames * inside).sum(dim=1) / lengths[:, None]
            spread = (((frames - mean[:, None]) * inside).square().sum(dim=1) / lengths[:, None]).sqrt()
            out[torch.from_numpy(part)] = torch.cat([mean, spread], dim=1)
    return out.nan_to_num(0.0, 0.0, 0.0)  # one clip that is no number must not stop the rest


def line(x: torch.Tensor, choice: Choice) -> np.ndarray:
    """Logistic regression on (rows, dim), one a fold: 1.0 where an asked row is right, (asked,)."""
    right = np.zeros(len(choice.rows))
    for fold in range(1, int(choice.folds.max()) + 1):
        asked = choice.folds == fold
        if asked.any():
            right[asked] = _learned(x, choice.classes, asked)
    found: np.ndarray = right[choice.asked]
    return found


def _learned(x: torch.Tensor, classes: np.ndarray, asked: np.ndarray, decay: float = 1e-3) -> np.ndarray:
    test, truth = torch.from_numpy(asked), torch.from_numpy(classes)
    learned = x[~test]
    x = (x - learned.mean(dim=0)) / learned.std(dim=0).clamp_min(1e-4)
    weight = torch.zeros(x.shape[1] + 1, int(truth.max()) + 1, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight], max_iter=60, line_search_fn="strong_wolfe")
    given, labels = F.pad(x, (0, 1), value=1.0), truth[~test]

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = F.cross_entropy(given[~test] @ weight, labels) + decay * weight.square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    right: np.ndarray = ((given[test] @ weight.detach()).argmax(dim=1) == truth[test]).numpy()
    return right


def few_shot(x: torch.Tensor, choice: Choice, rows: pd.DataFrame, seed: int) -> np.ndarray:
    """One clip a word by one speaker, asked of another: nearest standardised clip; accuracy of each episode (episodes,).

    Who is asked about is asked in the choice; anybody else teaches. Raises UserError when there are too few words.
    """
    unit = F.normalize((x - x.mean(dim=0)) / x.std(dim=0).clamp_min(1e-4), dim=1)
    who = rows["speaker"].to_numpy(str)[choice.rows]
    table = pd.DataFrame({"language": "any", "text": choice.classes.astype(str), "speaker": who})
    shape = EpisodeShape(WAY, 1, 1, "cross-speaker")
    sample = EpisodeSampler(table, shape, query_speakers=frozenset(who[choice.asked]))
    random = np.random.default_rng(seed)
    episodes = [sample(random) for _ in range(EPISODES)]
    return by_episode(run_trials(episodes, lambda at: unit[at].unsqueeze(1), "prototypes"))


def choices(rows: pd.DataFrame, unheard: frozenset[str], seed: int) -> dict[str, Choice]:
    """The probes that these rows are enough for, by name. `unheard`: speakers that no encoder has learned from."""
    heard = frozenset(rows["speaker"]) - unheard
    wanted = {
        "words, heard": partial(words, rows, heard, seed),
        "speakers, heard": partial(speakers, rows, heard, seed),
        "words, unheard": partial(words_of, rows, unheard),
        "speakers, unheard": partial(speakers, rows, unheard, seed),
    }
    found = {}
    for name, choose in wanted.items():
        try:
            found[name] = choose()
        except UserError as error:
            print(f"probe of {name}: {error}", flush=True)
    return found


def probe(encoder: Encoder, store: Store, chosen: Mapping[str, Choice], seed: int) -> dict[str, np.ndarray]:
    """What is right, item by item, in every probe; with words goes the few-shot accuracy of each episode."""
    encoder.eval()
    found = {}
    for name, choice in chosen.items():
        x = pooled(encoder, store, choice.rows)
        found[name] = line(x, choice)
        what, _, who = name.partition(", ")
        if what == "words":
            try:
                found[f"{WAY} words by 1 clip, {who}"] = few_shot(x, choice, store.rows, seed)
            except UserError:  # too few words for an episode
                continue
    return found


def probe_table(
    encoders: Mapping[str, Encoder], store: Store, seed: int, unheard: frozenset[str] = frozenset()
) -> pd.DataFrame:
    """A row a probe and encoder: accuracy, and the gain over the last encoder on the same items, with 95% intervals.

    `people` says how many speakers were asked about. Raises UserError when there is nothing to probe.
    """
    chosen = choices(store.rows, unheard, seed)
    if not chosen:
        raise UserError("probes: too few words and speakers in the store; leave the probes out")
    found = {name: probe(encoder, store, chosen, seed) for name, encoder in encoders.items()}
    baseline = list(found.values())[-1]
    return pd.DataFrame(
        [
            row
            for name in baseline
            for row in _rows(name, chosen, store, {k: v[name] for k, v in found.items()})
        ]
    )


def _rows(
    name: str, chosen: Mapping[str, Choice], store: Store, right: Mapping[str, np.ndarray]
) -> Iterator[dict[str, object]]:
    what, _, who = name.partition(", ")
    choice = chosen[name] if name in chosen else chosen[f"words, {who}"]
    chance = 1 / WAY if name not in chosen else 1 / len(np.unique(choice.classes))
    people = store.rows["speaker"].to_numpy()[choice.rows[choice.asked]]
    baseline = list(right.values())[-1]
    for encoder, values in right.items():
        mean, gain = wilson(values.sum(), len(values)), mean_interval(values - baseline, trials=0)
        yield {
            "probe": what,
            "people": who,
            "encoder": encoder,
            "accuracy": round(mean.mean, 4),
            "ci95": round(mean.ci95, 4),
            "gain": round(gain.mean, 4),
            "gain_ci95": round(gain.ci95, 4),
            "chance": round(chance, 4),
            "items": len(values),
            "speakers": len(set(people)),
        }
