"""The page of `metavox fewshot --report`: how well the words of anybody's recordings are learned."""

from collections.abc import Mapping
from html import escape

import numpy as np

from metavox.enrolment.prototypes import Method
from metavox.metrics.fewshot import Outcome, Study
from metavox.metrics.rates import Interval
from metavox.metrics.slices import Slice
from metavox.reports.charts.words import adaptation_chart
from metavox.reports.model.words import Shown, word_sections
from metavox.reports.page import bullets, page, section, table
from metavox.reports.pictures import confusions, course, decisions, plane
from metavox.reports.wording import percent

NAMES = {"accuracy": "accuracy", "precision": "precision", "recall": "recall", "f1": "F1"}


def fewshot_page(study: Study, sliced: Mapping[str, list[Slice]]) -> str:
    """The whole page."""
    asked = study.protocol
    parts = [
        "<h1>metavox: how well these words are learned</h1>",
        f"<p class=soft>{escape(_setting(study))}</p>",
        section("Figures", _table(study) + bullets(_missing(study))),
        section("More recordings of a word", _curve(study)),
        *word_sections(shown(study, sliced)),
    ]
    return page(f"{asked.way} words of {study.recordings.manifest.name}", parts)


def shown(study: Study, sliced: Mapping[str, list[Slice]]) -> Shown:
    """What the pictures are of: the queries with most recordings a word."""
    most, recordings = study.most, study.recordings
    method: Method = (
        "prototypes" if study.protocol.method == "prototypes" else "head"
    )  # adapt begins with a head
    used = np.unique(np.concatenate([np.concatenate([e.support, e.query]) for e in most.episodes]))
    used = used[(study.rows["text"].str.strip() != "").to_numpy()[used]]
    words, voices = (study.rows[name].fillna("").to_numpy(str)[used] for name in ("text", "voice"))
    return Shown(
        f"{max(study.outcomes)} recordings of each word",
        most.judged,
        most.figures.open_set,
        recordings.model.config.features.hop_ms / 1000,
        plane(
            recordings.embeddings(used)[:, 0].numpy(),
            words,
            voices,
            study.protocol.seed,
            confusions(most.judged).words,
        ),
        course(most.episodes, recordings.embeddings) if study.protocol.method == "head" else None,
        tuple(
            decisions(
                recordings.model, most.episodes, most.judged, recordings.embeddings, recordings.mels, method
            )
        ),
        sliced,
    )


def _setting(study: Study) -> str:
    asked, rows = study.protocol, study.rows
    spoken = rows[rows["text"].str.strip() != ""]
    kinds = ((asked.unknown, "words that are not taught"), (asked.background, "recordings without speech"))
    others = " and ".join(f"{count} {what}" for count, what in kinds if count)
    more = f" {others[0].upper()}{others[1:]} are asked about too in each." if others else ""
    return (
        f"{study.recordings.manifest}: {len(spoken)} recordings of {spoken['text'].nunique()} words by "
        f"{spoken['voice'].nunique()} voices. {asked.episodes} episodes of {asked.way} words, {asked.pairing}, seed "
        f"{asked.seed}; {asked.method}.{more}"
    )


def _table(study: Study) -> str:
    outcomes = study.outcomes
    lines: list[list[str]] = []
    if study.before:
        lines.append(
            [
                "accuracy by the spelling alone, no recording",
                *(percent(one.accuracy.as_dict()) for one in study.before.values()),
            ]
        )
    lines += [
        [name, *(percent(getattr(one.figures, key).as_dict()) for one in outcomes.values())]
        for key, name in NAMES.items()
    ]
    opened = [one.figures.open_set for one in outcomes.values()]
    for rate in opened[0].accuracy if opened[0] else ():
        cells = [percent(one.accuracy[rate].as_dict()) for one in opened if one]
        lines.append([f"accuracy at {100 * rate:g}% false accepts", *cells])
    if opened[0]:
        lines.append(["equal error rate", *(percent(one.equal_error.as_dict()) for one in opened if one)])
    lines.append(
        [
            "expected calibration error",
            *(percent(one.figures.calibration_error.as_dict()) for one in outcomes.values()),
        ]
    )
    lines.append(
        ["adaptation, median, s", *(f"{one.adaptation_ms['p50'] / 1000:.2f}" for one in outcomes.values())]
    )
    lines.append(["different recordings asked about", *(str(_asked(one)) for one in outcomes.values())])
    heads = ["", *(f"{shot} of each word" for shot in outcomes)]
    return table("Percent, with 95% intervals over episodes", heads, lines)


def _asked(one: Outcome) -> int:
    return len(np.unique(one.judged.row[one.judged.known]))


def _missing(study: Study) -> list[str]:
    lines = [f"{shot} recordings of each word: not measured: {why}." for shot, why in study.not_drawn.items()]
    if study.unreadable:
        lines.append(
            f"{len(study.unreadable)} recordings cannot be read and are left out; the first: {study.unreadable[0]}."
        )
    return lines


def _curve(study: Study) -> str:
    curves: dict[str, dict[int, Interval]] = {}
    if study.before:
        curves["spelling alone"] = {shot: one.accuracy for shot, one in study.before.items()}
    curves["right"] = {shot: one.figures.accuracy for shot, one in study.outcomes.items()}
    for shot, one in study.outcomes.items():
        for rate, value in (one.figures.open_set.accuracy if one.figures.open_set else {}).items():
            curves.setdefault(f"right, at {100 * rate:g}% false accepts", {})[shot] = value
    chart = adaptation_chart(f"{study.protocol.way} words, {study.protocol.pairing}", curves)
    note = (
        "Each number of recordings has episodes of its own: words with fewer recordings are in fewer of them."
    )
    return f"<figure>{chart.html()}<figcaption>{escape(note)}</figcaption></figure>"
