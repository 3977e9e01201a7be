"""evaluate: results on held-out speakers before and after adaptation, with intervals, a gate and an HTML report.

Words are measured on N-way K-shot episodes of words that no training used. "Before" recognises them by their spelling
alone; "after" has K recordings of each word. Utterances are measured by character and word error rates on a speaker's
other recordings, before and after adaptation.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from metavox.dataset.store import Store
from metavox.enrolment.prototypes import Method
from metavox.files import written_aside
from metavox.metrics.arms import (
    FALSE_ACCEPT_COLUMNS,
    SHIPPED,
    ArmProtocol,
    ArmResult,
    Arms,
    embedded_arms,
    run_arms,
    run_shipped,
    table,
)
from metavox.metrics.rates import Interval
from metavox.metrics.slices import COLUMNS, slices
from metavox.metrics.speakers import SpeakerResult, errors_by, evaluate_speaker, pooled
from metavox.params import Params
from metavox.pipeline.artifacts import clean_store, recordings, trained_session, write_metrics, write_plot
from metavox.pipeline.held_out import held_out_tasks, test_words
from metavox.progress import track
from metavox.recognisers.conformer import Network, load_model
from metavox.recognisers.delta import load_delta
from metavox.reports.model import write_report
from metavox.reports.model.words import Shown
from metavox.reports.pictures import confusions, course, decisions, plane
from metavox.reports.wording import recordings as counted
from metavox.session import Session
from metavox.threads import limit

METHOD: Method = "head"  # whose decisions the report explains

SHIPPED_SHARE = 4  # every fourth episode is enrolled as the service does, which is slow


def run(params: Params, root: Path) -> None:
    """artifacts/{prepared,validated,recogniser,deltas} and metrics -> artifacts/report and the gate's verdict.

    Raises UserError when no few-shot episode or no speaker's task can be drawn from the test split.
    """
    limit("small network")
    model = load_model(root / "artifacts/recogniser")
    store = clean_store(root)
    chosen = json.loads((root / "artifacts/metrics/metatrain.json").read_text())["chosen"]
    arms = load_arms(root, model, store, params.seed)
    config = params.evaluate
    results, notes = run_arms(
        arms,
        ArmProtocol(config.way, config.shots, config.queries, config.unknown, config.episodes, params.seed),
    )
    for note in notes:
        print(f"evaluate: {note}", flush=True)
    results += run_shipped(arms, chosen, results, config.episodes // SHIPPED_SHARE, params.seed)
    words = table(results)
    session = trained_session(root)
    speaker_results = evaluate_speakers(session, root, store, params)
    speakers = pd.DataFrame([result.as_row(params.seed) for result in speaker_results])
    headline = headline_figures(words, speaker_results, SHIPPED)
    headline |= {"base": session.recogniser.spec.name, "recordings": params.adapt.shots}
    gate = gate_verdict(headline, params)
    shown = illustrate(
        arms, chosen, next(result for result in results if result.arm == headline["arm"]), params.seed
    )
    groups = errors_by(speaker_results, ("language", "environment", "source"), params.seed)
    with written_aside(root / "artifacts/report") as folder:
        folder.mkdir()
        words.to_csv(folder / "words.csv", index=False, float_format="%.6g")
        speakers.to_csv(folder / "speakers.csv", index=False, float_format="%.6g")
        groups.to_csv(folder / "errors_by.csv", index=False, float_format="%.6g")
        write_report(
            folder / "report.html", root / "artifacts", words, speakers, headline, gate, shown, groups, notes
        )
    write_plot(root, "evaluate", words[["task", "shots", "arm", "accuracy", "low", "high"]])
    sliced = {column: [part.as_dict() for part in parts] for column, parts in shown.sliced.items()}
    write_metrics(root, "evaluate", {"gate": gate, "headline": headline, "slices": sliced})


def load_arms(root: Path, model: Network, store: Store, seed: int) -> Arms:
    """The arms that the metatrain stage saved, and the untrained network as a baseline."""
    torch.manual_seed(seed)
    untrained = model.untrained()
    folders = sorted((root / "artifacts/recogniser/arms").iterdir())
    trained = {folder.name: load_model(folder) for folder in folders if folder.is_dir()}
    return embedded_arms({"untrained": untrained, **trained}, model, test_words(store))


def evaluate_speakers(session: Session, root: Path, store: Store, params: Params) -> list[SpeakerResult]:
    """Transcribe each held-out speaker with the packaged session, before and after adaptation to the speaker."""
    base = session.recogniser
    limit("small network" if base.spec.kind == "conformer" else "foundation model")
    test, tasks = held_out_tasks(store, base, params)
    results = []
    for task in track(tasks, "evaluate", unit="speakers"):
        delta = load_delta(root / "artifacts/deltas" / task.speaker)
        audio = recordings(test, task.query, base, root)
        after = session.using([delta]).recogniser
        results.append(evaluate_speaker(task, test.rows, audio, {"before": base, "after": after}))
    return results


def illustrate(arms: Arms, chosen: str, result: ArmResult, seed: int) -> Shown:
    """What the report shows of the queries behind the headline."""
    embedded, rows = arms.embedded[chosen], arms.test.rows
    used = np.unique(np.concatenate([np.concatenate([e.support, e.query]) for e in result.episodes]))
    names = rows["text"].to_numpy(str)[used]
    explained = decisions(
        arms.models[chosen],
        result.episodes,
        result.trials,
        embedded.__getitem__,
        arms.test.__getitem__,
        METHOD,
    )
    return Shown(
        f"{result.task}, {counted(result.shots)} of each, {result.arm.removeprefix('after: ')}",
        result.trials,
        result.figures.open_set,
        arms.test.config.hop_s,
        plane(
            embedded[used, 0].numpy(),
            names,
            rows["speaker"].to_numpy(str)[used],
            seed,
            confusions(result.trials).words,
        ),
        course(result.episodes, embedded.__getitem__),
        tuple(explained),
        {
            column: slices(
                result.trials, rows[column].fillna("").to_numpy(str), result.figures.open_set, seed
            )
            for column in COLUMNS
        },
    )


def headline_figures(words: pd.DataFrame, results: list[SpeakerResult], arm: str) -> dict[str, object]:
    """Before and after: accuracy, precision, recall and F1 over words, CER and WER over utterances.

    `arm` selects the rows of the table `words`; of these, the first task with the fewest shots is the headline.
    """
    chosen = words[words["arm"] == arm].sort_values("shots", kind="stable").iloc[0]
    before = words[(words["shots"] == 0) & (words["task"] == chosen["task"])].iloc[0]
    headline: dict[str, object] = {
        "task": chosen["task"],
        "shots": int(chosen["shots"]),
        "arm": chosen["arm"],
    }
    for measure in ("accuracy", "precision", "recall", "f1", *FALSE_ACCEPT_COLUMNS):
        if not pd.isna(chosen[measure]):
            headline[measure] = {
                when: Interval(float(row[measure]), float(row[f"{measure}_ci95"])).as_dict()
                for when, row in (("before", before), ("after", chosen))
            }
    for measure in ("cer", "wer"):
        headline[measure] = {
            when: pooled([result.errors[measure, when] for result in results]).interval().as_dict()
            for when in ("before", "after")
        }
    return headline


def gate_verdict(headline: dict, params: Params) -> dict[str, object]:
    """Whether the recogniser is good enough to be packaged, and why.

    Accuracy on words must reach evaluate.min_accuracy, and adaptation must not raise the word error rate by more than the
    intervals allow.
    """
    accuracy, minimum = headline["accuracy"]["after"]["mean"], params.evaluate.min_accuracy
    before, after = headline["wer"]["before"], headline["wer"]["after"]
    if accuracy < minimum:
        reason = f"accuracy after adaptation is {accuracy:.3f}, below evaluate.min_accuracy = {minimum}"
        return {"passed": False, "reason": reason}
    if after["mean"] - after["ci95"] > before["mean"] + before["ci95"]:
        reason = f"adaptation to speakers raises the word error rate from {before['mean']:.3f} to {after['mean']:.3f}"
        return {"passed": False, "reason": reason}
    reason = f"accuracy after adaptation is {accuracy:.3f}; evaluate.min_accuracy is {minimum}"
    return {"passed": True, "reason": reason}
