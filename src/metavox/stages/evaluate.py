"""evaluate: before and after adaptation on held-out voices, with intervals; a gate; one HTML report.

words: N-way episodes of words that nobody trained on, taught by one voice and asked of another. `before` is
the recogniser without a recording of the words, told their spelling only; `after` has K recordings of each.
utterances: character and word errors on a voice's other recordings, before and after its delta.
"""

import copy
import json
from functools import cache
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
import torch

from metavox.corpus.episodes import Episode, EpisodeSampler, EpisodeShape
from metavox.corpus.store import Store
from metavox.errors import UserError
from metavox.evaluate.fewshot import FewShot, score_episodes, summarise
from metavox.evaluate.metrics import Errors, Interval, classification
from metavox.evaluate.report import write_report
from metavox.evaluate.voices import VoiceTask, transcribe_rows
from metavox.files import written_aside
from metavox.learn.words import Method, embed_mels
from metavox.model.artifact import digest, load_model
from metavox.model.delta import apply_deltas, load_delta
from metavox.model.recogniser import Recogniser
from metavox.model.tokenizer import normalise_text
from metavox.params import Params
from metavox.recognize.decode import text_score
from metavox.recognize.transcribe import character_log_probs
from metavox.stages.adapt import held_out
from metavox.stages.common import clean_store, write_metrics, write_plot

VIEWS = 4
METHOD: Method = "head"


def run(params: Params, root: Path) -> None:
    """artifacts/{prepared,validated,recogniser,deltas} and metrics -> artifacts/report and the gate's verdict."""
    source = root / "artifacts/recogniser"
    model = load_model(source)
    store = clean_store(root)
    words = evaluate_words(model, root, store, params)
    test, tasks = held_out(store, model, params)
    voices, pooled = evaluate_voices(model, digest(source), root, test, tasks, params)
    trained = json.loads((root / "artifacts/metrics/metatrain.json").read_text())
    headline = headlines(words, pooled, f"after: {trained['chosen']}, {METHOD}")
    gate = judge(headline, params)
    with written_aside(root / "artifacts/report") as folder:
        folder.mkdir()
        words.to_csv(folder / "words.csv", index=False, float_format="%.6g")
        voices.to_csv(folder / "voices.csv", index=False, float_format="%.6g")
        write_report(folder / "report.html", root / "artifacts", words, voices, headline, gate)
    write_plot(root, "evaluate", words[["task", "shots", "arm", "accuracy", "low", "high"]])
    write_metrics(root, "evaluate", {"gate": gate, "headline": headline})


def evaluate_words(model: Recogniser, root: Path, store: Store, params: Params) -> pd.DataFrame:
    """A row for each shape of episode and arm."""
    rows = store.rows
    wanted = (
        (rows["split"] == "test") & rows["unit"].isin(("word", "letter")) & (rows["text_kind"] == "spoken")
    )
    test = store.where(wanted & (rows["frames"] > 0))
    test.rows["text"] = test.rows["text"].map(normalise_text)
    torch.manual_seed(params.seed)
    untrained = Recogniser(model.config).eval()
    arms = {"untrained": untrained} | {
        name: load_model(root / "artifacts/recogniser/arms" / name) for name in ("joint", "meta")
    }
    embedded = {
        name: embed_mels(arm, [test[i] for i in range(len(test))], VIEWS) for name, arm in arms.items()
    }
    table = []
    for pairing in ("cross-voice", "same-voice"):
        for shots in params.evaluate.shots:
            episodes = _episodes(test, params, pairing, shots)
            if not episodes:
                print(
                    f"evaluate: no test voices have {shots}+1 recordings each of {params.evaluate.way} words for "
                    f"{pairing}; {shots}-shot is left out of the table", flush=True,
                )  # fmt: skip
                continue
            task = f"{params.evaluate.way} words, {pairing}"
            table.append(_row(task, 0, "before: spelling only", _by_spelling(model, test, episodes)))
            for name in arms:
                for method in get_args(Method):
                    result = score_episodes(episodes, embedded[name].__getitem__, method)
                    table.append(_row(task, shots, f"after: {name}, {method}", result))
    if not table:
        raise UserError(
            f"evaluate: no episode of {params.evaluate.way} words can be drawn from {len(test)} test clips of "
            f"{test.rows['voice'].nunique()} voices; expected words that two test voices say, or a smaller evaluate.way"
        )
    return pd.DataFrame(table).drop_duplicates(["task", "shots", "arm"])


def evaluate_voices(
    model: Recogniser, base: str, root: Path, test: Store, tasks: list[VoiceTask], params: Params
) -> tuple[pd.DataFrame, dict[str, Errors]]:
    """A row for each held-out voice; and the errors of all voices together."""
    table: list[dict[str, object]] = []
    pooled: dict[str, Errors] = {}
    for task in tasks:
        adapted = copy.deepcopy(model)
        apply_deltas(adapted, base, [load_delta(root / "artifacts/deltas" / task.voice)])
        heard = {
            name: transcribe_rows(m, test, task.query) for name, m in (("before", model), ("after", adapted))
        }
        row: dict[str, object] = {"voice": task.voice, "language": task.language, "queries": len(task.query)}
        for when, said in heard.items():
            for measure, errors in (("cer", said.characters), ("wer", said.words)):
                row[f"{measure}_{when}"] = errors.rate
                row[f"{measure}_{when}_ci95"] = errors.interval(params.seed).ci95
                key = f"{measure}_{when}"
                pooled[key] = pooled[key] + errors if key in pooled else errors
        row |= {"said": heard["after"].references[0], "heard_before": heard["before"].guesses[0]}
        row["heard_after"] = heard["after"].guesses[0]
        table.append(row)
    return pd.DataFrame(table), pooled


def headlines(words: pd.DataFrame, pooled: dict[str, Errors], arm: str) -> dict[str, object]:
    """The before/after table: accuracy, precision, recall, F1 over words, CER and WER over utterances.

    `arm` is the one that development voices chose; the first task of the table is the one that is shown.
    """
    chosen = words[words["arm"] == arm].sort_values("shots", kind="stable").iloc[0]
    before = words[(words["shots"] == 0) & (words["task"] == chosen["task"])].iloc[0]
    table: dict[str, object] = {"task": chosen["task"], "shots": int(chosen["shots"]), "arm": chosen["arm"]}
    for measure in ("accuracy", "precision", "recall", "f1"):
        table[measure] = {
            when: Interval(float(row[measure]), float(row[f"{measure}_ci95"])).as_dict()
            for when, row in (("before", before), ("after", chosen))
        }
    for measure in ("cer", "wer"):
        table[measure] = {
            when: pooled[f"{measure}_{when}"].interval().as_dict() for when in ("before", "after")
        }
    return table


def judge(headline: dict, params: Params) -> dict[str, object]:
    """Whether the model may be packaged."""
    accuracy, least = headline["accuracy"]["after"]["mean"], params.evaluate.min_accuracy
    if accuracy < least:
        reason = f"accuracy {accuracy:.3f} after adaptation is under evaluate.min_accuracy {least}"
        return {"passed": False, "reason": reason}
    return {
        "passed": True,
        "reason": f"accuracy {accuracy:.3f} after adaptation, at least {least} was asked for",
    }


def _episodes(test: Store, params: Params, pairing: str, shots: int) -> list[Episode]:
    random = np.random.default_rng(params.seed)
    for queries in range(params.evaluate.queries, 0, -1):
        shape = EpisodeShape(params.evaluate.way, shots, queries, pairing)  # type: ignore[arg-type]
        try:
            sampler = EpisodeSampler(test.rows, shape)
        except UserError:
            continue
        return [sampler(random) for _ in range(params.evaluate.episodes)]
    return []


def _by_spelling(model: Recogniser, test: Store, episodes: list[Episode]) -> FewShot:
    """Each query goes to the word whose letters CTC finds likeliest: no recording of the word was heard."""

    @cache
    def log_probs(query: int) -> torch.Tensor:
        return character_log_probs(model, test[query])

    @cache
    def score(query: int, word: str) -> float:
        return text_score(log_probs(query), model.tokenizer.encode(word))

    scores = []
    for episode in episodes:
        guess = np.array([np.argmax([score(int(q), word) for word in episode.words]) for q in episode.query])
        scores.append(classification(episode.query_labels, guess, len(episode.words)))
    return summarise(scores)


def _row(task: str, shots: int, arm: str, result: FewShot) -> dict[str, object]:
    row: dict[str, object] = {"task": task, "shots": shots, "arm": arm, "episodes": result.episodes}
    for measure in ("accuracy", "precision", "recall", "f1"):
        interval = getattr(result, measure)
        row |= {measure: interval.mean, f"{measure}_ci95": interval.ci95}
    low, high = result.accuracy.mean - result.accuracy.ci95, result.accuracy.mean + result.accuracy.ci95
    return row | {"low": low, "high": high}
