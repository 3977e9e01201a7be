"""`history.csv`: what each batch of recordings was like, what was decided about it, and how good the champion was."""

from pathlib import Path
from typing import Any

import pandas as pd

from metavox.files import written_aside
from metavox.promotion.versions import HISTORY

COLUMNS = (
    "batch",  # when it was decided about (UTC)
    "outcome",
    "why",
    "version",  # the champion afterwards
    "recordings",
    "error_rate",  # of the champion before, on the batch
    "confidence",
    "contradicted",  # share of labels that the champion contradicts
    "drifted",  # the measures that differ from what the champion learned from, separated by semicolons
    "fixed_before",  # error rates on the recordings of earlier batches: of the champion before, and afterwards
    "fixed_after",
    "newest_before",  # on the batch's own recordings that judge
    "newest_after",
    "run",  # the flow run, as Prefect and .metavox/runs.jsonl name it
)


def read(project: Path) -> pd.DataFrame:
    """One row a batch, in order; empty before the first."""
    path = project / HISTORY
    return pd.read_csv(path) if path.is_file() else pd.DataFrame(columns=list(COLUMNS))


def add(project: Path, row: dict[str, Any]) -> None:
    """Append a batch. Columns that `row` lacks stay empty."""
    known = read(project)
    line = pd.DataFrame([{name: row.get(name) for name in COLUMNS}])
    table = pd.concat([known, line]) if len(known) else line
    with written_aside(project / HISTORY) as aside:
        table.to_csv(aside, index=False)
