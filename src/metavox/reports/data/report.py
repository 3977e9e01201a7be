"""The data report: one HTML file that shows what the corpus is, without script, the same bytes each time."""

from html import escape
from pathlib import Path

import pandas as pd

from metavox.files import written_aside
from metavox.params import Validate
from metavox.quality import Verdict
from metavox.reports.charts import Chart
from metavox.reports.data.diff import compare
from metavox.reports.data.diff_page import diff_section
from metavox.reports.data.plots import (
    MATRIX_VOICES,
    Measure,
    band_chart,
    hours_by,
    hours_chart,
    matrix_chart,
    measure_chart,
)
from metavox.reports.data.quarantine import quarantine_section
from metavox.reports.data.text import channel_line, findings, gate_line, summary
from metavox.reports.data.voices import recorded, shared_words, told_by_channel, voice_table, word_tasks
from metavox.reports.page import details, page, section, table
from metavox.reports.wording import records

TABLE_ROWS = 150


def write_report(prepared: pd.DataFrame, verdict: Verdict, limits: Validate, out: Path, root: Path) -> None:
    """Write OUT/report.html; clips are read relative to ROOT/data/manifest.csv."""
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
    """The whole page.

    `prepared` are all rows with their measures, `verdict` what the gate said of them under `limits`. Clips are
    read relative to `manifest`; what is not there is left out. With `previous`, the manifest of another version
    called `since`, the page says what changed.
    """
    rows = prepared.reset_index(drop=True)
    people = recorded(verdict.clean if len(verdict.clean) else rows)
    told, tasks = told_by_channel(people), word_tasks(people)
    parts = [
        "<h1>metavox: what the corpus is</h1>",
        f"<p>{escape(summary(rows, verdict))}</p>",
        _gate(verdict),
        section("What is wrong, and what to do", _findings(rows, verdict, told, tasks)),
        diff_section(compare(previous, rows), since) if previous is not None else "",
        section("Who speaks, and what", _holdings(rows)),
        section("How it sounds", _sound(rows, limits)),
        section("Does the channel give the speaker away?", _channels(people, told)),
        section("Which voices say the same words?", _overlap(people, tasks)),
        section(
            "What was set aside, and why",
            quarantine_section(verdict, manifest),
        ),
        section("The limits of the gate", _limits(limits)),
    ]
    return page("metavox: the corpus", [part for part in parts if part])


def _gate(verdict: Verdict) -> str:
    state = "passed" if verdict.success else "failed"
    return f'<p class="gate {state}"><strong>The gate {state}.</strong> {escape(gate_line(verdict))}</p>'


def _findings(rows: pd.DataFrame, verdict: Verdict, told: "pd.Series[float]", tasks: pd.DataFrame) -> str:
    found = findings(rows, verdict, told, tasks)
    if not found:
        return "<p>Nothing that this report looks at.</p>"
    lines = "".join(f"<li><strong>{escape(one.what)}</strong> {escape(one.do)}</li>" for one in found)
    return f"<ol>{lines}</ol>"


def _holdings(rows: pd.DataFrame) -> str:
    charts = []
    plurals: dict[str, str] = {
        "split": "splits",
        "language": "languages",
        "source": "sources",
        "voice": "voices",
    }
    for column, plural in plurals.items():
        charts.append(f"<h3>Hours by {column}</h3>{_figure(hours_chart(rows, column, plural))}")
        charts.append(details(_hours_table(rows, column)))
    return "".join(charts) + _kinds(rows) + _licences(rows)


def _hours_table(rows: pd.DataFrame, column: str) -> str:
    counts = rows[column].astype(str).replace("", "(not given)").value_counts()
    cells = [
        [str(name), f"{counts[str(name)]:,}", f"{row['recorded']:.3f}", f"{row['synthetic']:.3f}"]
        for name, row in hours_by(rows, column).iterrows()
    ]
    return table(
        f"By {column}{_more(len(cells))}",
        [column, "recordings", "hours recorded", "hours synthetic"],
        cells[:TABLE_ROWS],
    )


def _kinds(rows: pd.DataFrame) -> str:
    means = {
        "spoken": "what was said, written down",
        "inferred": "worked out from a name or a list; likely, not checked",
        "concept": "an English name of what is said, not the words",
    }
    kinds = rows.assign(text_kind=rows["text_kind"].replace("", "spoken")).groupby("text_kind")
    cells = [
        [str(kind), f"{len(own):,}", f"{own['duration_s'].sum() / 3600:.2f}", means.get(str(kind), "")]
        for kind, own in kinds
    ]
    return "<h3>How far the texts can be trusted</h3>" + table(
        "Kinds of text", ["kind", "recordings", "hours", "what it is"], cells
    )


def _licences(rows: pd.DataFrame) -> str:
    known = rows.assign(license=rows["license"].astype(str).replace("", "(not given)"))
    hours = known.groupby("license")["duration_s"].sum().sort_values(ascending=False, kind="stable") / 3600
    sources = known.groupby("license")["source"].agg(lambda s: ", ".join(sorted(set(s))))
    cells = [[str(name), f"{value:.2f}", str(sources[str(name)])] for name, value in hours.items()]
    caption = f"Licences: what may be passed on, and how{_more(len(cells))}"
    return "<h3>Licences</h3>" + table(caption, ["licence", "hours", "sources"], cells[:TABLE_ROWS])


def _sound(rows: pd.DataFrame, limits: Validate) -> str:
    shown = []
    for measure, what in measures(limits):
        chart = measure_chart(rows, measure)
        if chart:
            shown.append(f"<h3>{escape(measure.title)}</h3><p class=soft>{escape(what)}</p>{_figure(chart)}")
    about = "Dashed red lines are the gate's limits: what is beyond them is set aside. What is far out is drawn at the edge."
    return f"<p>{about}</p>{''.join(shown)}"


def measures(limits: Validate) -> list[tuple[Measure, str]]:
    limit = limits.model_dump()
    return [
        (
            Measure(
                "duration_s", "Duration", "s", limit["min_duration_s"], limit["max_duration_s"], log=True
            ),
            "A word lasts about half a second, a sentence two to five.",
        ),
        (
            Measure("snr_db", "Signal to noise", "dB", limit["min_snr_db"], None, zoom=(0.001, 0.97)),
            "How far the voice stands out of the pauses: under 10 dB one hears noise, over 30 dB it is a quiet room or "
            "was cleaned.",
        ),
        (
            Measure("bandwidth_hz", "Bandwidth", "Hz", limit["min_bandwidth_hz"], None, zoom=(0.0, 0.995)),
            "The highest frequency in it: a telephone ends at 4 kHz, a good microphone reaches 8 kHz and more.",
        ),
        (
            Measure("rms_db", "Level", "dB of full scale", zoom=(0.001, 0.999)),
            "How loud: -20 dB is usual, under -40 dB is faint.",
        ),
        (
            Measure(
                "clipping", "Clipping", "share of the samples", None, limit["max_clipping"], zoom=(0.0, 1.0)
            ),
            "Samples cut off at full scale; 0 is right.",
        ),
        (
            Measure("silence", "Silence", "share of the time", None, limit["max_silence"]),
            "Pauses, and silence before and after.",
        ),
        (
            Measure("dc_offset", "Constant offset", "of full scale", None, limit["max_dc_offset"]),
            "How far the wave is off centre; 0 is right.",
        ),
    ]


def _channels(people: pd.DataFrame, told: "pd.Series[float]") -> str:
    voices = voice_table(people, told)
    if voices.empty:
        return "<p>No recording could be measured.</p>"
    cells = [
        [
            row["voice"],
            row["language"],
            row["split"],
            f"{row['recordings']:,}",
            f"{row['sample_rate']:,}",
            f"{row['low_hz']:.0f} - {row['middle_hz']:.0f} - {row['high_hz']:.0f}",
            f"{row['snr_db']:.0f}",
            "" if pd.isna(row["told"]) else f"{100 * row['told']:.0f}",
        ]
        for row in records(voices.sort_values(["told", "voice"], ascending=[False, True], kind="stable"))
    ]
    heads = [
        "voice",
        "language",
        "split",
        "recordings",
        "sample rate, Hz",
        "bandwidth, Hz (10, 50, 90%)",
        "signal to noise, dB",
        "told by the channel, %",
    ]
    caption = f"Voices as people recorded them, the easiest to tell first{_more(len(cells))}"
    return (
        f"<p>{escape(channel_line(told))}</p><p class=soft>A recogniser can learn the microphone instead of the "
        "voice. Then it looks good on the voices it knows, and fails on a new one. Voices of one channel are the "
        "fair comparison.</p>"
        f"{_figure(band_chart(voices))}{details(table(caption, heads, cells[:TABLE_ROWS]))}"
    )


def _overlap(people: pd.DataFrame, tasks: pd.DataFrame) -> str:
    matrix = shared_words(people, MATRIX_VOICES)
    able = tasks[tasks["largest"] > 1]
    line = (
        f"A cross-voice task teaches words with some voices and asks another one for them. It can be made where two "
        f"voices say the same words: in {len(able)} of {len(tasks)} pairs of language and split."
    )
    caption = f"Words of recorded voices{_more(len(tasks))}"
    heads = ["language, split", "voices", "words", "said by two or more", "largest cross-voice task, words"]
    return (
        f"<p>{escape(line)}</p>{_figure(matrix_chart(matrix)) if len(matrix) > 1 else ''}"
        + (table("Where two voices share words", heads, _task_cells(able)) if len(able) else "")
        + details(table(caption, heads, _task_cells(tasks)), "Every language and split")
    )


def _task_cells(tasks: pd.DataFrame) -> list[list[str]]:
    return [
        [
            f"{row['language']}, {row['split']}",
            *(f"{row[name]:,}" for name in ("voices", "words", "shared")),
            f"{row['largest']:,}" + (f" (asked of {row['asked']})" if row["asked"] else ""),
        ]
        for row in records(tasks.iloc[:TABLE_ROWS])
    ]


def _limits(limits: Validate) -> str:
    cells = [[name, str(value)] for name, value in limits.model_dump().items()]
    return details(table("Section validate of params.yaml", ["limit", "value"], cells), "All limits")


def _figure(chart: Chart) -> str:
    return f"<figure>{chart.html()}</figure>"


def _more(count: int) -> str:
    return f" (the first {TABLE_ROWS} of {count:,})" if count > TABLE_ROWS else ""
