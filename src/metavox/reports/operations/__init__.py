"""The operations page: runs, the time that stages took, and the champion over the batches of the loop."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from metavox.reports.operations.charts import batches_chart, durations_chart, errors_chart
from metavox.reports.render import Table, render

MAX_RUNS = 30
MEASURES = ("error_rate", "confidence", "contradicted")


@dataclass(frozen=True)
class Operations:
    """What happened in a project.

    `runs` are the lines of `.metavox/runs.jsonl`, the oldest first; `history` has one row per batch of recordings (columns:
    `metavox.promotion.history`); `requests` are the lines of the service's request log. `prices` are per hour, by pool.
    """

    project: str
    runs: Sequence[Mapping[str, Any]]
    history: pd.DataFrame
    requests: Sequence[Mapping[str, Any]] = ()
    prices: Mapping[str, float] | None = None


def operations_page(of: Operations) -> str:
    """The HTML page."""
    stages = pd.DataFrame([line for line in of.runs if line["event"] == "stage"])
    return render(
        "operations.html",
        title=f"Operations of {of.project}",
        summary=_summary(of),
        champion=_champion(of.history),
        errors=errors_chart(of.history) if _measured(of.history) else None,
        batches=_batches(of.history),
        drift=batches_chart(of.history) if len(of.history) else None,
        stages=_stages(stages, of.prices or {}),
        durations=durations_chart(stages) if len(stages) else None,
        runs=_runs(of.runs),
        requests=_requests(of.requests),
    )


def _measured(history: pd.DataFrame) -> bool:
    return bool(len(history)) and bool(history[["fixed_after", "newest_after"]].notna().any(axis=None))


def _summary(of: Operations) -> str:
    runs = [line for line in of.runs if line["event"] == "flow"]
    failed = sum(line["outcome"] == "failed" for line in runs)
    promoted = int((of.history["outcome"] == "promote").sum()) if len(of.history) else 0
    parts = (
        f"{_count(len(runs), 'run')}, of which {failed} failed",
        f"{_count(len(of.history), 'batch', 'batches')} of recordings, {_count(promoted, 'promotion')}",
        f"{_count(len(of.requests), 'request')} in the service's log",
    )
    return "; ".join(parts) + "."


def _champion(history: pd.DataFrame) -> str:
    present = history[history["version"].fillna("") != ""] if len(history) else history
    if not len(present):
        return "No champion has been promoted yet."
    last = present.iloc[-1]
    return f"The champion is {last['version']}. The last decision, about the batch {last['batch']}: {last['outcome']}; {last['why']}."


def _batches(history: pd.DataFrame) -> Table | None:
    if not len(history):
        return None
    heads = ("batch", "decision", "champion", "recordings", "errors", "drifted", "why")
    rows = [
        (
            str(row["batch"]).replace("T", " "),
            str(row["outcome"]),
            _text(row["version"]),
            str(row["recordings"]),
            _percent(row["error_rate"]),
            _text(row["drifted"]).replace(";", ", "),
            str(row["why"]),
        )
        for row in history.iloc[::-1].to_dict(orient="records")
    ]
    return Table(
        "Batches of recordings, the newest first; errors are the champion's, before it learned from them",
        heads,
        rows,
    )


def _stages(stages: pd.DataFrame, prices: Mapping[str, float]) -> Table | None:
    """Time and cost of each stage on each pool."""
    if not len(stages):
        return None
    heads = [
        "stage",
        "pool",
        "ran",
        "from cache",
        "failed",
        "median",
        "in all",
        *(["cost"] if prices else []),
    ]
    rows = []
    for (name, pool), own in stages.groupby(["stage", "pool"], sort=False):
        ran = own[own["outcome"] == "ran"]["seconds"]
        counts = (int((own["outcome"] == outcome).sum()) for outcome in ("ran", "from cache", "failed"))
        total = float(own["seconds"].sum())
        cost = [f"{total / 3600 * prices[str(pool)]:.2f}" if str(pool) in prices else ""] if prices else []
        rows.append(
            [
                str(name),
                str(pool),
                *map(str, counts),
                duration(float(ran.median())) if len(ran) else "",
                duration(total),
                *cost,
            ]
        )
    return Table(
        "Time that stages took: the median of those that ran, and all attempts together", heads, rows
    )


def _runs(runs: Sequence[Mapping[str, Any]]) -> Table | None:
    flows = [line for line in runs if line["event"] == "flow"][-MAX_RUNS:]
    if not flows:
        return None
    rows = [
        (
            line["time"],
            line["flow"],
            line["outcome"],
            duration(line["seconds"]),
            line["run"][:8],
            line.get("error", ""),
        )
        for line in reversed(flows)
    ]
    return Table(
        "Runs, the newest first", ("ended (UTC)", "flow", "outcome", "duration", "run", "error"), rows
    )


def _requests(requests: Sequence[Mapping[str, Any]]) -> Table | None:
    """What each model answered: requests, errors, speech, confidence, time."""
    if not requests:
        return None
    table = pd.DataFrame(requests)
    for name in ("confidence", "seconds", "words"):
        table[name] = table[name] if name in table else float("nan")
    rows = []
    for model, own in table.groupby(table["model"].fillna("none"), sort=False):
        heard = own[own["confidence"].notna()]
        rows.append(
            (
                str(model),
                str(len(own)),
                _percent((own["status"] >= 400).mean()),
                duration(float(heard["seconds"].sum())),
                f"{heard['confidence'].mean():.2f}" if len(heard) else "",
                _percent((heard["words"] == 0).mean()) if len(heard) else "",
                f"{own['ms'].median():.0f} ms",
            )
        )
    heads = ("model", "requests", "refused or failed", "audio", "confidence", "without text", "median time")
    return Table("Requests, by the model that answered", heads, rows)


def duration(seconds: float) -> str:
    """Seconds in words that people compare at a glance."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def _percent(value: Any) -> str:
    return "" if value is None or value != value else f"{100 * float(value):.1f}%"


def _text(value: Any) -> str:
    return "" if value is None or value != value else str(value)


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"
