"""The page of `metavox fewshot --report`: how well a user's words are learned from few recordings."""

from collections.abc import Callable, Mapping

import numpy as np

from metavox.enrolment.prototypes import Method
from metavox.metrics.fewshot import Outcome, Study
from metavox.metrics.rates import Interval
from metavox.metrics.slices import Slice
from metavox.reports.charts import Chart
from metavox.reports.charts.words import adaptation_chart
from metavox.reports.model.words import Shown, word_sections
from metavox.reports.pictures import confusions, course, decisions, plane
from metavox.reports.render import Table, render
from metavox.reports.wording import percent
from metavox.reports.wording import recordings as counted

NAMES = {"accuracy": "accuracy", "precision": "precision", "recall": "recall", "f1": "F1"}


def fewshot_page(study: Study, sliced: Mapping[str, list[Slice]]) -> str:
    """The HTML page."""
    return render(
        "fewshot.html",
        title=f"{study.protocol.way} words of {study.recordings.manifest.name}",
        setting=_setting(study),
        results=_results(study),
        missing=_missing(study),
        by_shots=_curve(study),
        words=word_sections(shown(study, sliced)),
    )


def shown(study: Study, sliced: Mapping[str, list[Slice]]) -> Shown:
    """What the charts show of the queries, at the largest number of recordings per word."""
    most, recordings = study.most, study.recordings
    # The method adapt starts with a head.
    method: Method = "prototypes" if study.protocol.method == "prototypes" else "head"
    used = np.unique(np.concatenate([np.concatenate([e.support, e.query]) for e in most.episodes]))
    used = used[(study.rows["text"].str.strip() != "").to_numpy()[used]]
    words, speakers = (study.rows[name].fillna("").to_numpy(str)[used] for name in ("text", "speaker"))
    return Shown(
        f"{counted(max(study.outcomes))} of each word",
        most.trials,
        most.figures.open_set,
        recordings.model.config.features.hop_s,
        plane(
            recordings.embeddings(used)[:, 0].numpy(),
            words,
            speakers,
            study.protocol.seed,
            confusions(most.trials).words,
        ),
        course(most.episodes, recordings.embeddings) if study.protocol.method == "head" else None,
        tuple(
            decisions(
                recordings.model, most.episodes, most.trials, recordings.embeddings, recordings.mels, method
            )
        ),
        sliced,
    )


def _setting(study: Study) -> str:
    protocol, rows = study.protocol, study.rows
    spoken = rows[rows["text"].str.strip() != ""]
    kinds = ((protocol.unknown, "unknown words"), (protocol.background, "recordings without speech"))
    others = " and ".join(f"{count} {what}" for count, what in kinds if count)
    more = f" Each episode also has queries with {others}." if others else ""
    return (
        f"{study.recordings.manifest}: {len(spoken)} recordings of {spoken['text'].nunique()} words by "
        f"{spoken['speaker'].nunique()} speakers. {protocol.episodes} episodes of {protocol.way} words, {protocol.pairing}, seed "
        f"{protocol.seed}; {protocol.method}.{more}"
    )


def _results(study: Study) -> Table:
    """A row per measure, a column per number of recordings."""
    outcomes = list(study.outcomes.values())

    def row(name: str, value: Callable[[Outcome], Interval]) -> list[str]:
        return [name, *(percent(value(outcome).as_dict()) for outcome in outcomes)]

    rows = []
    if study.before:
        before = [percent(outcome.accuracy.as_dict()) for outcome in study.before.values()]
        rows.append(["accuracy from the spelling alone, without recordings", *before])
    rows += [
        row(name, lambda outcome, key=key: getattr(outcome.figures, key))  # type: ignore[misc]
        for key, name in NAMES.items()
    ]
    open_sets = [outcome.figures.open_set for outcome in outcomes if outcome.figures.open_set]
    for rate in open_sets[0].accuracy if open_sets else ():
        cells = [percent(outcome.accuracy[rate].as_dict()) for outcome in open_sets]
        rows.append([f"accuracy at {100 * rate:g}% false accepts", *cells])
    if open_sets:
        rows.append(["equal error rate", *(percent(outcome.equal_error.as_dict()) for outcome in open_sets)])
    rows.append(row("expected calibration error", lambda outcome: outcome.figures.calibration_error))
    seconds = [f"{outcome.adaptation_ms['p50'] / 1000:.2f}" for outcome in outcomes]
    rows.append(["median adaptation time, s", *seconds])
    queries = [str(len(np.unique(outcome.trials.row[outcome.trials.known]))) for outcome in outcomes]
    rows.append(["different recordings used as queries", *queries])
    heads = ["", *(f"{shot} of each word" for shot in study.outcomes)]
    return Table("Percent, with 95% intervals over episodes", heads, rows)


def _missing(study: Study) -> list[str]:
    lines = [f"{counted(shot)} of each word: not measured: {why}." for shot, why in study.not_drawn.items()]
    if study.unreadable:
        lines.append(
            f"{len(study.unreadable)} recordings cannot be read and were left out; the first: {study.unreadable[0]}."
        )
    return lines


def _curve(study: Study) -> Chart:
    curves: dict[str, dict[int, Interval]] = {}
    if study.before:
        curves["spelling alone"] = {shot: outcome.accuracy for shot, outcome in study.before.items()}
    curves["accuracy"] = {shot: outcome.figures.accuracy for shot, outcome in study.outcomes.items()}
    for shot, outcome in study.outcomes.items():
        for rate, value in (outcome.figures.open_set.accuracy if outcome.figures.open_set else {}).items():
            curves.setdefault(f"accuracy at {100 * rate:g}% false accepts", {})[shot] = value
    return adaptation_chart(f"{study.protocol.way} words, {study.protocol.pairing}", curves)
