"""Results of other stages in the model report: samples of the GAN, training curves, and the validation summary."""

import json
from pathlib import Path
from typing import Any

import pandas as pd

from metavox.reports.charts import Chart
from metavox.reports.charts.training import curve_chart
from metavox.reports.environments import verdict
from metavox.reports.render import Table, data_uri
from metavox.reports.wording import Row

CURVES = {
    "pretrain": "self-supervised learning",
    "augment": "the environment GAN",
    "metatrain": "joint training and meta-learning",
    "adapt": "adaptation to held-out speakers",
}


def environments(artifacts: Path) -> dict[str, Any]:
    """The GAN's samples, each with a picture and two sounds, and sentences on its figures."""
    folder, metrics = artifacts / "environments/samples", read_json(artifacts / "metrics/augment.json")
    samples = [
        {
            "name": path.stem,
            "picture": data_uri(path.read_bytes(), "image/png"),
            "sounds": {kind: _sound(folder / f"{path.stem}-{kind}.wav") for kind in ("clean", "environment")},
        }
        for path in sorted(folder.glob("*.png"))
    ]
    return {"samples": samples, "verdict": verdict(metrics) if samples and "distance" in metrics else []}


def _sound(path: Path) -> str | None:
    return data_uri(path.read_bytes(), "audio/wav") if path.is_file() else None


def curves(folder: Path) -> dict[str, Chart | None]:
    """A chart for each stage that trains; None where it has no curve."""
    charts = {}
    for name, description in CURVES.items():
        path = folder / f"{name}.csv"
        exists = path.is_file() and path.stat().st_size > 1
        charts[f"{name}: {description}"] = curve_chart(name, pd.read_csv(path)) if exists else None
    return charts


def validation(path: Path) -> Row:
    """The metrics of the validate stage, with its reasons as a table; empty if it has not run."""
    summary = read_json(path)
    rows = [[str(reason), str(count)] for reason, count in dict(summary.get("reasons") or {}).items()]
    table = Table("Quarantined recordings by reason", ["reason", "recordings"], rows)
    return {**summary, "reasons": table if rows else None} if summary else {}


def read_json(path: Path) -> Row:
    """The object in a JSON file; empty if the file does not exist."""
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}
