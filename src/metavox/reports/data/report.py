"""The data report: the contents of the corpus as one HTML page; the same rows give the same bytes."""

from pathlib import Path
from typing import Any

import pandas as pd

from metavox.files import written_aside
from metavox.params import Validate
from metavox.quality import Verdict
from metavox.reports.data.diff import compare
from metavox.reports.data.diff_page import changes
from metavox.reports.data.plots import (
    MATRIX_SPEAKERS,
    Measure,
    band_chart,
    hours_by,
    hours_chart,
    matrix_chart,
    measure_chart,
)
from metavox.reports.data.quarantine import quarantine_section
from metavox.reports.data.speakers import (
    identified_by_channel,
    recorded,
    shared_words,
    speaker_table,
    word_tasks,
)
from metavox.reports.data.text import channel_line, findings, gate_line, summary
from metavox.reports.render import Table, render
from metavox.reports.wording import records

TABLE_ROWS = 150
HOLDINGS = {
    "split": "split",
    "language": "language",
    "source": "source",
    "speaker": "speaker",
}  # column: name
TEXT_KINDS = {
    "spoken": "a transcript of what was said",
    "inferred": "derived from a name or a list; likely correct, not checked",
    "concept": "an English name for what is said, not the words",
}


def write_report(prepared: pd.DataFrame, verdict: Verdict, limits: Validate, out: Path, root: Path) -> None:
    """Write `out`/report.html; clips are read relative to `root`/data/manifest.csv."""
    text = report_page(prepared, verdict, limits, root / "data" / "manifest.csv")
    out.mkdir(parents=True, exist_ok=True)
    with written_aside(out / "report.html") as aside:
        aside.write_text(text, encoding="utf-8")


def report_page(
    prepared: pd.DataFrame,
    verdict: Verdict,
    limits: Validate,
    manifest: Path,
    previous: pd.DataFrame | None = None,
    since: str = "",
) -> str:
    """The HTML page.

    `prepared` has all rows with their measures, and `verdict` is the gate's under `limits`. Clips are read relative to
    `manifest`; missing ones are left out. With `previous`, the manifest of a version named `since`, the page also says
    what changed.
    """
    rows = prepared.reset_index(drop=True)
    recorded_rows = recorded(verdict.clean if len(verdict.clean) else rows)
    identified, tasks = identified_by_channel(recorded_rows), word_tasks(recorded_rows)
    return render(
        "data.html",
        summary=summary(rows, verdict),
        gate={"passed": verdict.success, "sentence": gate_line(verdict)},
        findings=findings(rows, verdict, identified, tasks),
        changes=None if previous is None else changes(compare(previous, rows), since),
        hours=[
            (name, hours_chart(rows, column, f"{name}s"), _hours_table(rows, column, name))
            for column, name in HOLDINGS.items()
        ],
        text_kinds=_text_kinds(rows),
        licences=_licences(rows),
        measures=[
            (measure, chart) for measure in measures(limits) if (chart := measure_chart(rows, measure))
        ],
        channels=_channels(recorded_rows, identified),
        overlap=_overlap(recorded_rows, tasks),
        quarantine=quarantine_section(verdict, manifest),
        limits=Table(
            "Section validate of params.yaml",
            ["limit", "value"],
            [[name, str(value)] for name, value in limits.model_dump().items()],
        ),
    )


def _hours_table(rows: pd.DataFrame, column: str, name: str) -> Table:
    counts = rows[column].astype(str).replace("", "(not given)").value_counts()
    cells = [
        [str(value), f"{counts[str(value)]:,}", f"{row['recorded']:.3f}", f"{row['synthetic']:.3f}"]
        for value, row in hours_by(rows, column).iterrows()
    ]
    return _table(f"Hours by {name}", [name, "recordings", "hours recorded", "hours synthetic"], cells)


def _text_kinds(rows: pd.DataFrame) -> Table:
    kinds = rows.assign(text_kind=rows["text_kind"].replace("", "spoken")).groupby("text_kind")
    cells = [
        [str(kind), f"{len(own):,}", f"{own['duration_s'].sum() / 3600:.2f}", TEXT_KINDS.get(str(kind), "")]
        for kind, own in kinds
    ]
    return _table("Kinds of text", ["kind", "recordings", "hours", "meaning"], cells)


def _licences(rows: pd.DataFrame) -> Table:
    known = rows.assign(license=rows["license"].astype(str).replace("", "(not given)"))
    hours = known.groupby("license")["duration_s"].sum().sort_values(ascending=False, kind="stable") / 3600
    sources = known.groupby("license")["source"].agg(lambda s: ", ".join(sorted(set(s))))
    cells = [[str(name), f"{value:.2f}", str(sources[str(name)])] for name, value in hours.items()]
    return _table("Hours by licence", ["licence", "hours", "sources"], cells)


def _channels(recorded_rows: pd.DataFrame, identified: "pd.Series[float]") -> dict[str, Any] | None:
    speakers = speaker_table(recorded_rows, identified)
    if speakers.empty:
        return None
    cells = [
        [
            row["speaker"],
            row["language"],
            row["split"],
            f"{row['recordings']:,}",
            f"{row['sample_rate']:,}",
            f"{row['low_hz']:.0f} - {row['middle_hz']:.0f} - {row['high_hz']:.0f}",
            f"{row['snr_db']:.0f}",
            "" if pd.isna(row["identified"]) else f"{100 * row['identified']:.0f}",
        ]
        for row in records(
            speakers.sort_values(["identified", "speaker"], ascending=[False, True], kind="stable")
        )
    ]
    heads = [
        "speaker",
        "language",
        "split",
        "recordings",
        "sample rate, Hz",
        "bandwidth, Hz (10, 50, 90%)",
        "signal to noise, dB",
        "identified by the channel, %",
    ]
    return {
        "sentence": channel_line(identified),
        "chart": band_chart(speakers),
        "numbers": _table("Recorded speakers, the easiest to identify first", heads, cells),
    }


def _overlap(recorded_rows: pd.DataFrame, tasks: pd.DataFrame) -> dict[str, Any]:
    matrix = shared_words(recorded_rows, MATRIX_SPEAKERS)
    able = tasks[tasks["largest"] > 1]
    return {
        "sentence": "A cross-speaker task teaches words with some speakers and tests them with another. It needs two "
        f"speakers who say the same words, which {len(able)} of {len(tasks)} pairs of language and split have.",
        "chart": matrix_chart(matrix) if len(matrix) > 1 else None,
        "possible": _tasks_table("Languages and splits where speakers share words", able)
        if len(able)
        else None,
        "every": _tasks_table("Words of recorded speakers", tasks),
    }


def _tasks_table(caption: str, tasks: pd.DataFrame) -> Table:
    cells = [
        [
            f"{row['language']}, {row['split']}",
            *(f"{row[name]:,}" for name in ("speakers", "words", "shared")),
            f"{row['largest']:,}"
            + (f" (tested with {row['query_speaker']})" if row["query_speaker"] else ""),
        ]
        for row in records(tasks)
    ]
    heads = [
        "language, split",
        "speakers",
        "words",
        "said by two or more",
        "largest cross-speaker task, words",
    ]
    return _table(caption, heads, cells)


def _table(caption: str, heads: list[str], rows: list[list[str]]) -> Table:
    """A table of the first TABLE_ROWS rows, so that a page of many speakers stays small."""
    more = f" (the first {TABLE_ROWS} of {len(rows):,})" if len(rows) > TABLE_ROWS else ""
    return Table(f"{caption}{more}", heads, rows[:TABLE_ROWS])


def measures(limits: Validate) -> list[Measure]:
    """The measures that the report shows, with the gate's limits on them."""
    return [
        Measure(
            "duration_s",
            "Duration",
            "s",
            "A word lasts about half a second, a sentence two to five seconds.",
            limits.min_duration_s,
            limits.max_duration_s,
            log=True,
        ),
        Measure(
            "snr_db",
            "Signal-to-noise ratio",
            "dB",
            "The level of speech above the level of the pauses. Below 10 dB noise is clearly audible; above 30 dB the "
            "room was quiet or the recording was cleaned.",
            limits.min_snr_db,
            zoom=(0.001, 0.97),
        ),
        Measure(
            "bandwidth_hz",
            "Bandwidth",
            "Hz",
            "The highest frequency in the recording. Telephone speech ends at 4 kHz; a good microphone reaches 8 kHz and "
            "more.",
            limits.min_bandwidth_hz,
            zoom=(0.0, 0.995),
        ),
        Measure(
            "rms_db",
            "Level",
            "dB of full scale",
            "RMS level: -20 dB is usual, below -40 dB is faint.",
            zoom=(0.001, 0.999),
        ),
        Measure(
            "clipping",
            "Clipping",
            "share of the samples",
            "Samples cut off at full scale; 0 is correct.",
            high=limits.max_clipping,
        ),
        Measure(
            "silence",
            "Silence",
            "share of the time",
            "Pauses, and silence before and after speech.",
            high=limits.max_silence,
        ),
        Measure(
            "dc_offset",
            "DC offset",
            "of full scale",
            "The mean of the waveform; 0 is correct.",
            high=limits.max_dc_offset,
        ),
    ]
