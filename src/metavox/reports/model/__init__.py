"""One HTML file that says what was measured: no script, nothing from elsewhere, the same bytes each time."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from metavox.reports.model.arms import arms, curves_by_shots, gate, headline, unmeasured
from metavox.reports.model.material import curves, environments, read_json, validation
from metavox.reports.model.voices import errors_by, heard, voices_section
from metavox.reports.model.words import Shown, word_sections
from metavox.reports.page import bullets, page, section
from metavox.reports.wording import Row, findings, verdicts


def write_report(
    path: Path,
    artifacts: Path,
    words: pd.DataFrame,
    voices: pd.DataFrame,
    figures: Row,
    verdict: Row,
    shown: Shown | None = None,
    groups: pd.DataFrame | None = None,
    notes: Sequence[str] = (),
) -> None:
    """Write the report to `path`.

    `words`, `voices` and `groups` are the tables of the evaluate stage, `figures` and `verdict` its headline and gate,
    `shown` the queries behind the headline and `notes` what could not be measured. The rest (plots, samples, metrics of
    other stages) is read from `artifacts`; what is not there is named as missing.
    """
    parts = [
        "<h1>metavox: what was learned, on held-out voices</h1>",
        gate(verdict),
        headline(figures),
        section(
            "What it is and is not good at",
            bullets([*findings(words, voices, figures), *map(_sentence, notes)]),
        ),
        section(
            "Did each component earn its place?",
            bullets([*verdicts(words, figures), *unmeasured(artifacts)])
            + "<p class=soft>Better or worse means that the 95% intervals do not overlap.</p>",
        ),
        section("More recordings of a word", curves_by_shots(words)),
        section("New words, every arm", arms(words, read_json(artifacts / "metrics/metatrain.json"))),
        *(word_sections(shown) if shown else ()),
        section(
            "Held-out voices, before and after",
            voices_section(voices) + ("" if groups is None else errors_by(groups)),
        ),
        section("What was heard", heard(voices)),
        section("Environments that the GAN makes", environments(artifacts)),
        section("Training curves", curves(artifacts / "plots")),
        section("The data", validation(artifacts / "metrics/validate.json")),
    ]
    path.write_text(page("metavox report", parts), encoding="utf-8")


def _sentence(note: str) -> str:
    return f"{note[:1].upper()}{note[1:]}."
