"""The model report: the results of the evaluate stage as one HTML page; the same results give the same bytes."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from metavox.reports.model.arms import arms, curves_by_shots, headline, unmeasured
from metavox.reports.model.speakers import errors_by, speakers_section, transcripts
from metavox.reports.model.stage_results import curves, environments, read_json, validation
from metavox.reports.model.words import Shown, word_sections
from metavox.reports.render import render
from metavox.reports.wording import Row, findings, verdicts


def write_report(
    path: Path,
    artifacts: Path,
    words: pd.DataFrame,
    speakers: pd.DataFrame,
    figures: Row,
    verdict: Row,
    shown: Shown | None = None,
    groups: pd.DataFrame | None = None,
    notes: Sequence[str] = (),
) -> None:
    """Write the report to `path`.

    `words`, `speakers` and `groups` are the tables of the evaluate stage, `figures` and `verdict` its headline and gate,
    `shown` the queries behind the headline, and `notes` what could not be measured. Plots, samples and metrics of other
    stages are read from `artifacts`; the page says which of them are missing.
    """
    text = render(
        "model.html",
        gate=verdict,
        headline=headline(figures),
        findings=[*findings(words, speakers, figures), *(f"{note[:1].upper()}{note[1:]}." for note in notes)],
        components=[*verdicts(words, figures), *unmeasured(artifacts)],
        by_shots=curves_by_shots(words),
        steps=read_json(artifacts / "metrics/metatrain.json").get("steps"),
        arms=arms(words),
        words=word_sections(shown) if shown else None,
        speakers=speakers_section(speakers),
        groups=[] if groups is None else errors_by(groups),
        transcripts=transcripts(speakers),
        environments=environments(artifacts),
        curves=curves(artifacts / "plots"),
        validation=validation(artifacts / "metrics/validate.json"),
    )
    path.write_text(text, encoding="utf-8")
