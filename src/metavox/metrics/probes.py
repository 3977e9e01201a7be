"""Linear probes of self-supervised encoders: how well their frozen frames distinguish words and speakers.

Every encoder gets the same clips, probes and seeds; the baseline has random weights. The probes follow Chung et al. 2019.
Results are separate for speakers that the encoder was pretrained on ("heard") and for others ("unheard").
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

MAX_WORDS, MAX_SPEAKERS, MIN_CLIPS, MAX_CLIPS = 60, 24, 16, 40
CLIP_FOLDS, SPEAKER_FOLDS = 4, 5
WAY, EPISODES = 10, 200
BATCH = 64


@dataclass(frozen=True)
class ProbeSet:
    """Rows of a store with the class and the fold of each, (rows,).

    Rows of a fold f > 0 test a probe trained on all rows outside that fold; rows of fold 0 only train.
    """

    rows: np.ndarray
    classes: np.ndarray
    folds: np.ndarray

    @property
    def tested(self) -> np.ndarray:
        return self.folds > 0


def words(rows: pd.DataFrame, people: frozenset[str], seed: int) -> ProbeSet:
    """Words that several of the speakers `people` say; a third of these speakers only tests the probe.

    Raises UserError when there are too few.
    """
    random = np.random.default_rng(seed)
    labels = _words(rows).where(rows["speaker"].isin(people), "")
    speakers = np.sort(rows.loc[labels != "", "speaker"].unique())
    held_out = set(random.permutation(speakers)[: max(1, len(speakers) // 3)])
    tested = rows["speaker"].isin(held_out)
    test_words, train_words = (set(labels[(labels != "") & side]) for side in (tested, ~tested))
    shared = np.array(sorted(test_words & train_words))
    return _probe_set(labels.isin(random.permutation(shared)[:MAX_WORDS]), labels, tested.astype(int))


def unheard_words(rows: pd.DataFrame, people: frozenset[str]) -> ProbeSet:
    """Words of the speakers `people` that others say too: a fifth of the speakers tests at a time, all others train.

    Raises UserError when there are too few.
    """
    labels = _words(rows)
    index = pd.Series({name: i for i, name in enumerate(sorted(people))}, dtype=float)
    folds = (rows["speaker"].map(index) % SPEAKER_FOLDS + 1).fillna(0)
    tested = (folds > 0) & (labels != "") & (folds.groupby(labels).transform("nunique") > 1)
    return _probe_set(labels.isin(set(labels[tested])), labels, folds.where(tested, 0).astype(int))


def speakers(rows: pd.DataFrame, people: frozenset[str], seed: int) -> ProbeSet:
    """Recorded speakers among `people` with enough clips, cross-validated over a speaker's clips in four folds.

    Raises UserError when there are fewer than two.
    """
    random = np.random.default_rng(seed)
    long_enough = rows["frames"].between(30, LONGEST_WORD)
    usable = rows[~rows["synthetic"] & long_enough & rows["speaker"].isin(people)]
    counts = usable["speaker"].value_counts()
    chosen = random.permutation(np.sort(counts.index[counts >= MIN_CLIPS]))[:MAX_SPEAKERS]
    usable = usable[usable["speaker"].isin(chosen)].sample(frac=1.0, random_state=seed)
    index = usable.groupby("speaker").cumcount()
    index = index[index < MAX_CLIPS].reindex(rows.index)
    return _probe_set(index.notna(), rows["speaker"], (index % CLIP_FOLDS + 1).fillna(0).astype(int))


def _words(rows: pd.DataFrame) -> pd.Series:
    return word_labels(rows).where(rows["frames"].between(1, LONGEST_WORD), "")


def _probe_set(mask: pd.Series, labels: pd.Series, folds: pd.Series) -> ProbeSet:
    selected = np.flatnonzero(mask)
    fold = folds.to_numpy()[selected]
    if len(set(fold)) < 2 or labels.iloc[selected].nunique() < 2:
        raise UserError(
            "no word that several speakers say, or no two speakers with enough clips; the probe is left out"
        )
    return ProbeSet(selected, pd.Categorical(labels.iloc[selected]).codes.astype(int), fold)


def pooled(encoder: Encoder, store: Store, rows: np.ndarray) -> torch.Tensor:
    """Mean and standard deviation over time of the acoustic frames, (rows, 2 * acoustic_dim)."""
    statistics = torch.empty(len(rows), 2 * encoder.acoustic_dim)
    order = np.argsort(store.frames[rows], kind="stable")  # clips of similar length need little padding
    with torch.inference_mode():
        for batch in np.array_split(order, max(1, -(-len(rows) // BATCH))):
            frames, lengths = encoder.acoustic(*store.batch(rows[batch]))
            inside = frame_mask(lengths, frames.shape[1]).unsqueeze(2)
            mean = (frames * inside).sum(dim=1) / lengths[:, None]
            spread = (((frames - mean[:, None]) * inside).square().sum(dim=1) / lengths[:, None]).sqrt()
            statistics[torch.from_numpy(batch)] = torch.cat([mean, spread], dim=1)
    return statistics.nan_to_num(0.0, 0.0, 0.0)  # a clip with NaN must not spoil the regression


def linear_probe(x: torch.Tensor, probe_set: ProbeSet) -> np.ndarray:
    """Logistic regression on `x` (rows, dim), one per fold: 1.0 where a tested row is classified right, (tested,)."""
    right = np.zeros(len(probe_set.rows))
    for fold in range(1, int(probe_set.folds.max()) + 1):
        tested = probe_set.folds == fold
        if tested.any():
            right[tested] = _regress(x, probe_set.classes, tested)
    result: np.ndarray = right[probe_set.tested]
    return result


def _regress(x: torch.Tensor, classes: np.ndarray, tested: np.ndarray, decay: float = 1e-3) -> np.ndarray:
    """Train on the rows that are not tested; whether each tested row is right, (tested,)."""
    test, truth = torch.from_numpy(tested), torch.from_numpy(classes)
    train = x[~test]
    x = (x - train.mean(dim=0)) / train.std(dim=0).clamp_min(1e-4)
    weight = torch.zeros(x.shape[1] + 1, int(truth.max()) + 1, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight], max_iter=60, line_search_fn="strong_wolfe")
    inputs, labels = F.pad(x, (0, 1), value=1.0), truth[~test]

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = F.cross_entropy(inputs[~test] @ weight, labels) + decay * weight.square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    right: np.ndarray = ((inputs[test] @ weight.detach()).argmax(dim=1) == truth[test]).numpy()
    return right


def few_shot(x: torch.Tensor, probe_set: ProbeSet, rows: pd.DataFrame, seed: int) -> np.ndarray:
    """Accuracy (episodes,) of the nearest standardised clip, with one clip per word from another speaker as support.

    Queries come from the speakers that the probe set tests; all others teach. Raises UserError when there are too few
    words.
    """
    unit = F.normalize((x - x.mean(dim=0)) / x.std(dim=0).clamp_min(1e-4), dim=1)
    speaker = rows["speaker"].to_numpy(str)[probe_set.rows]
    table = pd.DataFrame({"language": "any", "text": probe_set.classes.astype(str), "speaker": speaker})
    shape = EpisodeShape(WAY, 1, 1, "cross-speaker")
    sample = EpisodeSampler(table, shape, query_speakers=frozenset(speaker[probe_set.tested]))
    random = np.random.default_rng(seed)
    episodes = [sample(random) for _ in range(EPISODES)]
    return by_episode(run_trials(episodes, lambda index: unit[index].unsqueeze(1), "prototypes"))


def probe_sets(rows: pd.DataFrame, unheard: frozenset[str], seed: int) -> dict[str, ProbeSet]:
    """The probe sets that these rows are enough for, by name. `unheard` are speakers that no encoder was trained on."""
    heard = frozenset(rows["speaker"]) - unheard
    makers = {
        "words, heard": partial(words, rows, heard, seed),
        "speakers, heard": partial(speakers, rows, heard, seed),
        "words, unheard": partial(unheard_words, rows, unheard),
        "speakers, unheard": partial(speakers, rows, unheard, seed),
    }
    sets = {}
    for name, make in makers.items():
        try:
            sets[name] = make()
        except UserError as error:
            print(f"probe of {name}: {error}", flush=True)
    return sets


def run_probes(
    encoder: Encoder, store: Store, sets: Mapping[str, ProbeSet], seed: int
) -> dict[str, np.ndarray]:
    """Whether each item of every probe is right; word probes also give the few-shot accuracy of each episode."""
    encoder.eval()
    results = {}
    for name, probe_set in sets.items():
        x = pooled(encoder, store, probe_set.rows)
        results[name] = linear_probe(x, probe_set)
        kind, _, people = name.partition(", ")
        if kind == "words":
            try:
                results[f"{WAY} words by 1 clip, {people}"] = few_shot(x, probe_set, store.rows, seed)
            except UserError:  # too few words for an episode
                continue
    return results


def probe_table(
    encoders: Mapping[str, Encoder], store: Store, seed: int, unheard: frozenset[str] = frozenset()
) -> pd.DataFrame:
    """One row per probe and encoder: accuracy, and the gain over the last encoder on the same items, with 95% intervals.

    Raises UserError when the store has too few words and speakers for any probe.
    """
    sets = probe_sets(store.rows, unheard, seed)
    if not sets:
        raise UserError("probes: too few words and speakers in the store; the probes are left out")
    results = {name: run_probes(encoder, store, sets, seed) for name, encoder in encoders.items()}
    baseline = list(results.values())[-1]
    return pd.DataFrame(
        [
            row
            for name in baseline
            for row in _rows(name, sets, store, {k: v[name] for k, v in results.items()})
        ]
    )


def _rows(
    name: str, sets: Mapping[str, ProbeSet], store: Store, right: Mapping[str, np.ndarray]
) -> Iterator[dict[str, object]]:
    kind, _, people = name.partition(", ")
    probe_set = sets[name] if name in sets else sets[f"words, {people}"]
    chance = 1 / WAY if name not in sets else 1 / len(np.unique(probe_set.classes))
    speakers_tested = store.rows["speaker"].to_numpy()[probe_set.rows[probe_set.tested]]
    baseline = list(right.values())[-1]
    for encoder, values in right.items():
        mean, gain = wilson(values.sum(), len(values)), mean_interval(values - baseline, trials=0)
        yield {
            "probe": kind,
            "people": people,
            "encoder": encoder,
            "accuracy": round(mean.mean, 4),
            "ci95": round(mean.ci95, 4),
            "gain": round(gain.mean, 4),
            "gain_ci95": round(gain.ci95, 4),
            "chance": round(chance, 4),
            "items": len(values),
            "speakers": len(set(speakers_tested)),
        }
