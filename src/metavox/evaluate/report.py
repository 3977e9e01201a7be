"""One HTML file that says what was measured: no script, nothing from elsewhere, the same bytes each time."""

import json
from html import escape
from pathlib import Path

import pandas as pd

from metavox.evaluate.charts import arms_chart, curve_chart, data_uri, voices_chart
from metavox.evaluate.environments import verdict
from metavox.evaluate.page import bullets, details, page, section, table
from metavox.evaluate.wording import Row, findings, percent, records, verdicts

CURVES = {
    "pretrain": "learning from speech without text", "augment": "the environment GAN",
    "metatrain": "joint training and the meta-learner", "adapt": "adaptation to held-out voices",
}  # fmt: skip
MEASURES = {
    "accuracy": "accuracy", "precision": "precision", "recall": "recall", "f1": "F1",
    "cer": "character error rate (lower is better)", "wer": "word error rate (lower is better)",
}  # fmt: skip


def write_report(
    path: Path, artifacts: Path, words: pd.DataFrame, voices: pd.DataFrame,
    headline: Row, gate: Row,
) -> None:  # fmt: skip
    """Write the report to `path`.

    `words` and `voices` are the tables of the evaluate stage, `headline` and `gate` its metrics. The rest
    (plots, samples, metrics of other stages) is read from `artifacts`; what is not there is named as missing.
    """
    parts = [
        "<h1>metavox: what was learned, on held-out voices</h1>",
        _gate(gate),
        _headline(headline),
        section("What it is and is not good at", bullets(findings(words, voices, headline))),
        section(
            "Did each component earn its place?",
            bullets([*verdicts(words, headline), *_unmeasured(artifacts)])
            + "<p class=soft>Better or worse means that the 95% intervals do not overlap.</p>",
        ),
        section("New words, every arm", _arms(words)),
        section("Held-out voices, before and after", _voices(voices)),
        section("What was heard", _heard(voices)),
        section("Environments that the GAN makes", _environments(artifacts)),
        section("Training curves", _curves(artifacts / "plots")),
        section("The data", _validation(artifacts / "metrics/validate.json")),
    ]
    path.write_text(page("metavox report", parts), encoding="utf-8")


def _gate(gate: Row) -> str:
    state = "passed" if gate["passed"] else "failed"
    return f'<p class="gate {state}"><strong>The gate {state}.</strong> {escape(str(gate["reason"]))}</p>'


def _headline(headline: Row) -> str:
    rows = [
        [name, *(percent(headline[key][when]) for when in ("before", "after"))]
        for key, name in MEASURES.items()
        if key in headline
    ]
    caption = (
        f"Percent, with 95% intervals. Words: {headline['task']}, {headline['shots']} recordings of each, "
        f"{headline['arm']}; before: no recording. Errors: free speech of held-out voices."
    )
    return section("Before and after adaptation", table(caption, ["", "before", "after"], rows))


def _unmeasured(artifacts: Path) -> list[str]:
    """Components that have no baseline here, said so."""
    out = []
    chosen = _json(artifacts / "metrics/metatrain.json").get("chosen")
    if chosen:
        out.append(f"Packaged is the {chosen} arm; it was chosen on development voices, not on these.")
    losses = _json(artifacts / "metrics/pretrain.json")
    if {"dev_loss_before", "dev_loss"} <= set(losses):
        out.append(
            f"Pretraining lowered its own loss on development voices from {losses['dev_loss_before']:.3g} to "
            f"{losses['dev_loss']:.3g}; what that is worth to recognition is not measured in this report."
        )
    gan = _json(artifacts / "metrics/augment.json")
    if gan:
        state = (
            "collapsed: its environments are all alike"
            if gan.get("collapsed")
            else "makes different environments"
        )
        out.append(f"The GAN {state}; what it is worth to recognition is not measured in this report.")
    return out


def _arms(words: pd.DataFrame) -> str:
    heads = ["arm", "recordings a word", "accuracy", "precision", "recall", "F1"]
    out = []
    for task in words["task"].drop_duplicates():
        own = words[words["task"] == task].sort_values(["shots", "arm"], kind="stable")
        rows = [
            [r["arm"], str(r["shots"]), *(_rate(r, m) for m in ("accuracy", "precision", "recall", "f1"))]
            for r in records(own)
        ]
        caption = f"{task}: percent with 95% intervals over {own['episodes'].min()} episodes"
        numbers = details(table(caption, heads, rows))
        out.append(f"<figure>{arms_chart(words, str(task)).html()}</figure>{numbers}")
    return "".join(out)


def _rate(row: Row, measure: str) -> str:
    return percent({"mean": row[measure], "ci95": row[f"{measure}_ci95"]})


def _voices(voices: pd.DataFrame) -> str:
    if voices.empty:
        return "<p>No held-out voice was adapted to.</p>"
    columns = ("cer_before", "cer_after", "wer_before", "wer_after")
    rows = [
        [r["voice"], r["language"], str(r["queries"]), *(_rate(r, c) for c in columns)]
        for r in records(voices)
    ]
    heads = ["voice", "language", "recordings", "CER before", "CER after", "WER before", "WER after"]
    caption = "Character and word error rates, percent with 95% bootstrap intervals"
    return f"<figure>{voices_chart(voices).html()}</figure>{details(table(caption, heads, rows))}"


def _heard(voices: pd.DataFrame) -> str:
    columns = ("said", "heard_before", "heard_after")
    if voices.empty or not set(columns) <= set(voices.columns):
        return "<p>No example was kept.</p>"
    rows = [
        [f"{r['voice']} ({r['language']})", *(str(r[c]) or "(nothing)" for c in columns)]
        for r in records(voices)
    ]
    caption = "The first query of each voice, not picked for how it went"
    return table(caption, ["voice", "said", "heard before", "heard after"], rows)


def _environments(artifacts: Path) -> str:
    folder, found = artifacts / "environments/samples", _json(artifacts / "metrics/augment.json")
    pictures = sorted(folder.glob("*.png"))
    if not pictures:
        return "<p>There are no samples: the augment stage has not run here.</p>"
    out = [
        bullets(verdict(found)) if "distance" in found else "",
        "<p class=soft>A clean synthetic recording, and the same words in an environment the GAN learned. "
        "The dial between them: artifacts/environments/report.html</p>",
    ]
    for picture in pictures:
        sounds = "".join(
            f"<dt>{kind}</dt><dd>{_sound(folder / f'{picture.stem}-{kind}.wav')}</dd>"
            for kind in ("clean", "environment")
        )
        source = data_uri(picture.read_bytes(), "image/png")
        image = f'<img src="{source}" alt="Spectrograms, clean and in the environment">'
        out.append(f"<figure>{image}<figcaption><dl>{sounds}</dl></figcaption></figure>")
    return "".join(out)


def _sound(path: Path) -> str:
    if not path.is_file():
        return "no recording was kept"
    source = data_uri(path.read_bytes(), "audio/wav")
    return f'<audio controls preload="none" src="{source}" aria-label="{escape(path.stem)}"></audio>'


def _curves(folder: Path) -> str:
    out = []
    for name, what in CURVES.items():
        path = folder / f"{name}.csv"
        chart = curve_chart(name, pd.read_csv(path)) if path.is_file() and path.stat().st_size > 1 else None
        shown = (
            f"<figure>{chart.html()}</figure>" if chart else "<p>There is no curve of this stage here.</p>"
        )
        out.append(f"<h3>{escape(f'{name}: {what}')}</h3>{shown}")
    return "".join(out)


def _validation(path: Path) -> str:
    found = _json(path)
    if not found:
        return "<p>There is no validation summary here.</p>"
    line = (
        f"{found['clean']} of {found['rows']} recordings passed the quality gate ({found['hours']:.1f} h, "
        f"{found['voices']} voices, {found['languages']} languages); {found['quarantined']} in quarantine."
    )
    rows = [[str(reason), str(count)] for reason, count in dict(found.get("reasons") or {}).items()]
    reasons = table("Quarantined recordings by reason", ["reason", "recordings"], rows) if rows else ""
    return f"<p>{escape(line)}</p>{reasons}"


def _json(path: Path) -> Row:
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}
