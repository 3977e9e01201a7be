"""metavox corpus quarantine: look at what the gate keeps out, and let a recording through that was heard."""

import json
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from metavox.errors import UserError

app = typer.Typer(
    help="Recordings that the gate keeps out, why, and how to let one through.", no_args_is_help=True
)

PLACES = (Path("artifacts/validated/quarantine.csv"), Path(".metavox/validate/quarantine.csv"))
AGAIN = "metavox stage validate"
LISTEN = "listen to it; release it when every word is clear, else record it again"
CORRECT = "correct it in the manifest, then run the pipeline again"
TO_DO = {
    "undecodable": "record or convert the file again; it cannot be released",
    "unmeasured": "run metavox stage prepare again; it cannot be released",
    "duration": "cut it into single words or sentences, or change min_duration_s or max_duration_s",
    "sample rate": "record or convert it at 8 to 192 kHz",
    "bandwidth": LISTEN,
    "silence": LISTEN,
    "clipping": LISTEN + ", softer",
    "dc offset": LISTEN,
    "noise": LISTEN + ", in a quieter place",
    "text missing": CORRECT,
    "speaker missing": CORRECT,
    "language missing": CORRECT,
    "control character": CORRECT,
    "markup": CORRECT,
    "script": "correct the text or the language in the manifest; release it when both are right",
    "speed": "compare text and sound: often the text says more than the recording; " + CORRECT,
    "contradiction": "listen, and release the row whose text and speaker are right; the other one stays out",
    "duplicate": "nothing: the first one is learned from",
}
MEASURES = (
    "duration_s",
    "sample_rate",
    "peak",
    "rms_db",
    "dc_offset",
    "clipping",
    "silence",
    "snr_db",
    "bandwidth_hz",
)
CLAIMS = ("text", "speaker", "language", "source", "split", "environment")


@app.command("list")
def list_rows(
    reason: Annotated[str, typer.Option(help="Only these: clipping, duration, script ...")] = "",
    source: Annotated[str, typer.Option(help="Only of this source.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the recordings in the quarantine, each with its number and every reason."""
    rows = _chosen(_quarantine(), reason, source)
    if as_json:
        typer.echo(json.dumps([_brief(row) for row in rows.to_dict("records")], indent=2, ensure_ascii=False))
        return
    console = Console()
    for row in rows.to_dict("records"):
        console.print(
            escape(f"{row['number']:>4}  {row['path']}\n      {row['reasons']}"),
            highlight=False,
            soft_wrap=True,
        )
    counts = rows["checks"].str.split("; ").explode().value_counts()
    console.print(
        f"{len(rows)} recordings: " + (", ".join(f"{n} {name}" for name, n in counts.items()) or "none")
    )


@app.command()
def show(
    which: Annotated[str, typer.Argument(metavar="PATH|NUMBER", help="As `list` shows it.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show one recording: what the manifest says, what was measured, why it is here, what to do."""
    row = _one(_quarantine(), which)
    to_do = {check: TO_DO.get(check, LISTEN) for check in row["checks"].split("; ")}
    if as_json:
        about = {name: row.get(name, "") for name in (*CLAIMS, *MEASURES, "content")}
        typer.echo(json.dumps({**_brief(row), **about, "to_do": to_do}, indent=2, ensure_ascii=False))
        return
    table = Table(box=None, pad_edge=False, show_header=False)
    for name in ("number", "path", *CLAIMS):
        table.add_row(name, escape(str(row.get(name, ""))))
    for name in MEASURES:
        table.add_row(name, _short(row.get(name, "")))
    for sentence, (check, advice) in zip(row["reasons"].split("; "), to_do.items(), strict=True):
        table.add_row(check, escape(sentence))
        table.add_row("", f"-> {advice}")
    Console().print(table, highlight=False, soft_wrap=True)


@app.command()
def release(
    paths: Annotated[
        list[str] | None, typer.Argument(metavar="PATH|NUMBER...", help="As `list` shows it.")
    ] = None,
    because: Annotated[str, typer.Option(help="Why it may be learned from all the same.")] = "",
    reason: Annotated[str, typer.Option(help="All that are kept out for this reason alone.")] = "",
    undo: Annotated[bool, typer.Option("--undo", help="Take the release back.")] = False,
) -> None:
    """Let recordings through that you have heard: they are written to released.csv, which belongs in git."""
    from metavox.quality.released import RELEASED, read_released, write_released

    if bool(paths) == bool(reason):
        raise UserError("release: name either recordings or --reason")
    table = read_released(Path(RELEASED))
    if undo:
        found = _matching(table, paths or [], reason)
        write_released(table.drop(index=found), Path(RELEASED))
        typer.echo(f"{len(found)} no longer released; to judge again: {AGAIN}")
        return
    if not because.strip():
        raise UserError(
            'release: no reason given; say why with --because "heard all of them, every word is clear"'
        )
    rows = _quarantine()
    chosen = (
        rows[rows["checks"] == reason] if reason else pd.DataFrame([_one(rows, path) for path in paths or []])
    )
    _check(chosen, reason)
    new = pd.DataFrame(
        {
            "content": chosen["content"],
            "path": chosen["path"],
            "reasons": chosen["checks"],
            "because": " ".join(because.split()),
        }
    )
    together = pd.concat([table, new]).drop_duplicates(["content", "path"], keep="last")
    write_released(together, Path(RELEASED))
    typer.echo(f"{len(chosen)} released in {RELEASED}: commit it; to judge again: {AGAIN}")


def _short(value: object) -> str:
    try:
        return f"{float(str(value)):.4g}"
    except ValueError:
        return str(value)


def _quarantine() -> pd.DataFrame:
    """Its rows, all text, `number`ed from 1."""
    place = next((place for place in PLACES if place.is_file()), None)
    if place is None:
        raise UserError(f"no quarantine here: neither {PLACES[0]} nor {PLACES[1]}; run {AGAIN}")
    rows = pd.read_csv(place, dtype=str, keep_default_na=False)
    if missing := [name for name in ("path", "reasons", "checks") if name not in rows.columns]:
        raise UserError(f"{place}: no column {', '.join(missing)}; made by another version, run {AGAIN}")
    digest = "content" if "content" in rows.columns else "sha256"
    return rows.assign(number=range(1, len(rows) + 1), content=rows[digest])


def _chosen(rows: pd.DataFrame, reason: str, source: str) -> pd.DataFrame:
    if reason and reason not in TO_DO:
        raise UserError(f"--reason {reason}: no such reason; expected one of {', '.join(TO_DO)}")
    if reason:
        rows = rows[[reason in checks.split("; ") for checks in rows["checks"]]]
    return rows[rows["source"] == source] if source else rows


def _one(rows: pd.DataFrame, which: str) -> Any:
    """The row of a number, a path, or the end of a path that no other has."""
    found = rows[rows["path"] == which]
    if found.empty and which.isdigit():
        found = rows[rows["number"] == int(which)]
    if found.empty:
        found = rows[[path.endswith("/" + which) for path in rows["path"]]]
    if len(found) != 1:
        many = f"{len(found)} of that name" if len(found) else "not in the quarantine"
        raise UserError(f"{which}: {many}; expected a number or a path of metavox corpus quarantine list")
    return found.to_dict("records")[0]


def _check(rows: pd.DataFrame, reason: str) -> None:
    """Raises UserError for what cannot be released."""
    from metavox.quality.released import NOT_RELEASABLE

    if rows.empty:
        raise UserError(f"--reason {reason}: no recording is kept out for that alone")
    for row in rows.to_dict("records"):
        if never := [check for check in row["checks"].split("; ") if check in NOT_RELEASABLE]:
            raise UserError(f"{row['path']}: {never[0]}, there is nothing to learn from; {TO_DO[never[0]]}")
        if not row["content"]:
            raise UserError(f"{row['path']}: no digest of the recording; run metavox stage prepare again")


def _matching(table: pd.DataFrame, paths: list[str], reason: str) -> list[int]:
    found = [
        row
        for row, path, reasons in zip(table.index, table["path"], table["reasons"], strict=True)
        if path in paths or any(path.endswith("/" + end) for end in paths) or (reason and reason == reasons)
    ]
    if not found:
        raise UserError(f"{', '.join(paths) or '--reason ' + reason}: not released; see released.csv")
    return found


def _brief(row: Any) -> dict[str, Any]:
    return {
        "number": int(row["number"]),
        "path": row["path"],
        "reasons": row["reasons"].split("; "),
        "checks": row["checks"].split("; "),
        "source": row.get("source", ""),
    }
