"""Sections from what other stages left: the GAN's samples, training curves, the verdict on the data."""

import json
from html import escape
from pathlib import Path

import pandas as pd

from metavox.reports.charts import data_uri
from metavox.reports.charts.training import curve_chart
from metavox.reports.environments import verdict
from metavox.reports.page import bullets, table
from metavox.reports.wording import Row

CURVES = {
    "pretrain": "learning from speech without text",
    "augment": "the environment GAN",
    "metatrain": "joint training and the meta-learner",
    "adapt": "adaptation to held-out voices",
}


def environments(artifacts: Path) -> str:
    folder, found = artifacts / "environments/samples", read_json(artifacts / "metrics/augment.json")
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


def curves(folder: Path) -> str:
    out = []
    for name, what in CURVES.items():
        path = folder / f"{name}.csv"
        chart = curve_chart(name, pd.read_csv(path)) if path.is_file() and path.stat().st_size > 1 else None
        shown = (
            f"<figure>{chart.html()}</figure>" if chart else "<p>There is no curve of this stage here.</p>"
        )
        out.append(f"<h3>{escape(f'{name}: {what}')}</h3>{shown}")
    return "".join(out)


def validation(path: Path) -> str:
    found = read_json(path)
    if not found:
        return "<p>There is no validation summary here.</p>"
    line = (
        f"{found['clean']} of {found['rows']} recordings passed the quality gate ({found['hours']:.1f} h, "
        f"{found['voices']} voices, {found['languages']} languages); {found['quarantined']} in quarantine."
    )
    rows = [[str(reason), str(count)] for reason, count in dict(found.get("reasons") or {}).items()]
    reasons = table("Quarantined recordings by reason", ["reason", "recordings"], rows) if rows else ""
    return f"<p>{escape(line)}</p>{reasons}"


def read_json(path: Path) -> Row:
    """Empty where there is no such file."""
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}
