"""evaluate: before and after adaptation on held-out speakers, with intervals; a gate; one HTML report.

words: N-way episodes of words that nobody trained on, taught by one speaker and asked of another. `before` is
the recogniser without a recording of the words, told their spelling only; `after` has K recordings of each.
utterances: character and word errors on a speaker's other recordings, before and after its delta.
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
    AT,
    SHIPPED,
    ArmResult,
    Arms,
    Asked,
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
from metavox.pipeline.held_out import held_out, test_words
from metavox.progress import track
from metavox.recognisers.conformer import Network, load_model
from metavox.recognisers.delta import load_delta
from metavox.reports.model import write_report
from metavox.reports.model.words import Shown
from metavox.reports.pictures import confusions, course, decisions, plane
from metavox.reports.wording import recordings as counted
from metavox.session import Session
from metavox.threads import limit

METHOD: Method = "head"  # of what the pictures show

SHIPPED_SHARE = 4  # one episode in so many is trials as the service enrols, which takes longer


def run(params: Params, root: Path) -> None:
    """artifacts/{prepared,validated,recogniser,deltas} and metrics -> artifacts/report and the gate's verdict."""
    limit("small network")
    model = load_model(root / "artifacts/recogniser")
    store = clean_store(root)
    chosen = json.loads((root / "artifacts/metrics/metatrain.json").read_text())["chosen"]
    arms = load_arms(root, model, store, params.seed)
    asked = params.evaluate
    found, notes = run_arms(
        arms, Asked(asked.way, asked.shots, asked.queries, asked.unknown, asked.episodes, params.seed)
    )
    for note in notes:
        print(f"evaluate: {note}", flush=True)
    found += run_shipped(arms, chosen, found, asked.episodes // SHIPPED_SHARE, params.seed)
    words = table(found)
    session = trained_session(root)
    heard = hear_speakers(session, root, store, params)
    speakers = pd.DataFrame([one.as_row(params.seed) for one in heard])
    headline = headlines(words, heard, SHIPPED)
    headline |= {"base": session.recogniser.spec.name, "recordings": params.adapt.shots}
    gate = gate_verdict(headline, params)
    shown = picture(arms, chosen, next(one for one in found if one.arm == headline["arm"]), params.seed)
    groups = errors_by(heard, ("language", "environment", "source"), params.seed)
    with written_aside(root / "artifacts/report") as folder:
        folder.mkdir()
        words.to_csv(folder / "words.csv", index=False, float_format="%.6g")
        speakers.to_csv(folder / "speakers.csv", index=False, float_format="%.6g")
        groups.to_csv(folder / "errors_by.csv", index=False, float_format="%.6g")
        write_report(
            folder / "report.html", root / "artifacts", words, speakers, headline, gate, shown, groups, notes
        )
    write_plot(root, "evaluate", words[["task", "shots", "arm", "accuracy", "low", "high"]])
    sliced = {column: [one.as_dict() for one in ones] for column, ones in shown.sliced.items()}
    write_metrics(root, "evaluate", {"gate": gate, "headline": headline, "slices": sliced})


def load_arms(root: Path, model: Network, store: Store, seed: int) -> Arms:
    """The arms that meta-training left, and the network as it is before any training."""
    torch.manual_seed(seed)
    untrained = Network(model.config).eval()
    folders = sorted((root / "artifacts/recogniser/arms").iterdir())
    trained = {folder.name: load_model(folder) for folder in folders if folder.is_dir()}
    return embedded_arms({"untrained": untrained, **trained}, model, test_words(store))


def hear_speakers(session: Session, root: Path, store: Store, params: Params) -> list[SpeakerResult]:
    """What the session that ships hears of each held-out speaker, before and after its delta."""
    base = session.recogniser
    limit("small network" if base.spec.kind == "conformer" else "foundation model")
    test, tasks = held_out(store, base, params)
    out = []
    for task in track(tasks, "evaluate", unit="speakers"):
        delta = load_delta(root / "artifacts/deltas" / task.speaker)
        audio = recordings(test, task.query, base, root)
        after = session.using([delta]).recogniser
        out.append(evaluate_speaker(task, test.rows, audio, {"before": base, "after": after}))
    return out


def picture(arms: Arms, chosen: str, one: ArmResult, seed: int) -> Shown:
    """What the report shows of the headline's queries."""
    embedded, rows = arms.embedded[chosen], arms.test.rows
    used = np.unique(np.concatenate([np.concatenate([e.support, e.query]) for e in one.episodes]))
    names = rows["text"].to_numpy(str)[used]
    found = decisions(
        arms.models[chosen], one.episodes, one.trials, embedded.__getitem__, arms.test.__getitem__, METHOD
    )
    return Shown(
        f"{one.task}, {counted(one.shots)} of each, {one.arm.removeprefix('after: ')}",
        one.trials,
        one.figures.open_set,
        arms.test.config.hop_s,
        plane(
            embedded[used, 0].numpy(),
            names,
            rows["speaker"].to_numpy(str)[used],
            seed,
            confusions(one.trials).words,
        ),
        course(one.episodes, embedded.__getitem__),
        tuple(found),
        {
            column: slices(one.trials, rows[column].fillna("").to_numpy(str), one.figures.open_set, seed)
            for column in COLUMNS
        },
    )


def headlines(words: pd.DataFrame, heard: list[SpeakerResult], arm: str) -> dict[str, object]:
    """The before/after table: accuracy, precision, recall, F1 over words, CER and WER over utterances.

    `arm` is the one that development speakers chose; the first task of the table is the one that is shown.
    """
    chosen = words[words["arm"] == arm].sort_values("shots", kind="stable").iloc[0]
    before = words[(words["shots"] == 0) & (words["task"] == chosen["task"])].iloc[0]
    out: dict[str, object] = {"task": chosen["task"], "shots": int(chosen["shots"]), "arm": chosen["arm"]}
    for measure in ("accuracy", "precision", "recall", "f1", *AT):
        if not pd.isna(chosen[measure]):
            out[measure] = {
                when: Interval(float(row[measure]), float(row[f"{measure}_ci95"])).as_dict()
                for when, row in (("before", before), ("after", chosen))
            }
    for measure in ("cer", "wer"):
        out[measure] = {
            when: pooled([one.errors[measure, when] for one in heard]).interval().as_dict()
            for when in ("before", "after")
        }
    return out


def gate_verdict(headline: dict, params: Params) -> dict[str, object]:
    """Whether what ships is good enough to be packaged: its words, and its sentences, which adaptation may not make
    worse by more than their interval."""
    accuracy, least = headline["accuracy"]["after"]["mean"], params.evaluate.min_accuracy
    before, after = headline["wer"]["before"], headline["wer"]["after"]
    if accuracy < least:
        reason = f"accuracy {accuracy:.3f} after adaptation is under evaluate.min_accuracy {least}"
    elif after["mean"] - after["ci95"] > before["mean"] + before["ci95"]:
        reason = f"adaptation to speakers raises the word error rate from {before['mean']:.3f} to {after['mean']:.3f}"
    else:
        reason = f"accuracy {accuracy:.3f} after adaptation, at least {least} was asked for"
        return {"passed": True, "reason": reason}
    return {"passed": False, "reason": reason}
