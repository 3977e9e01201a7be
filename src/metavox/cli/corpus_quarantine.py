"""metavox corpus quarantine: lists recordings that the quality gate rejected, and releases those found good."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from metavox.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

app = typer.Typer(help="Inspect and release recordings that the quality gate rejected.", no_args_is_help=True)

QUARANTINES = (Path("artifacts/validated/quarantine.csv"), Path(".metavox/validate/quarantine.csv"))
VALIDATE = "metavox stage validate"
LISTEN = "listen to it; release it if every word is clear, else record it again"
CORRECT = "correct it in the manifest, then run the pipeline again"
ADVICE = {
    "undecodable": "record or convert the file again; it cannot be released",
    "unmeasured": "run metavox stage prepare again; it cannot be released",
    "duration": "cut it into single words or sentences, or change min_duration_s or max_duration_s",
    "sample rate": "record or convert it at 8 to 192 kHz",
    "bandwidth": LISTEN,
    "silence": LISTEN,
    "clipping": LISTEN + ", at a lower level",
    "dc offset": LISTEN,
    "noise": LISTEN + ", in a quieter place",
    "text missing": CORRECT,
    "speaker missing": CORRECT,
    "language missing": CORRECT,
    "control character": CORRECT,
    "markup": CORRECT,
    "script": "correct the text or the language in the manifest; release it if both are right",
    "speed": "compare the text with the recording: often the text is longer than what is said; " + CORRECT,
    "contradiction": "listen, and release the row whose text and speaker are right; the other stays in quarantine",
    "duplicate": "nothing: the first recording is used",
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
    reason: Annotated[
        str, typer.Option(help="Only rows with this reason: clipping, duration, script ...")
    ] = "",
    source: Annotated[str, typer.Option(help="Only rows of this source.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the recordings in quarantine with their numbers and all reasons."""
    rows = _select(_read_quarantine(), reason, source)
    if as_json:
        typer.echo(
            json.dumps([_summary(row) for row in rows.to_dict("records")], indent=2, ensure_ascii=False)
        )
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
    which: Annotated[str, typer.Argument(metavar="PATH|NUMBER", help="As `list` prints it.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show one recording: its manifest row, its measures, the reasons, and what to do about each."""
    row = _find_row(_read_quarantine(), which)
    advice = {check: ADVICE.get(check, LISTEN) for check in row["checks"].split("; ")}
    if as_json:
        details = {name: row.get(name, "") for name in (*CLAIMS, *MEASURES, "content")}
        typer.echo(json.dumps({**_summary(row), **details, "to_do": advice}, indent=2, ensure_ascii=False))
        return
    table = Table(box=None, pad_edge=False, show_header=False)
    for name in ("number", "path", *CLAIMS):
        table.add_row(name, escape(str(row.get(name, ""))))
    for name in MEASURES:
        table.add_row(name, _rounded(row.get(name, "")))
    for reason, (check, action) in zip(row["reasons"].split("; "), advice.items(), strict=True):
        table.add_row(check, escape(reason))
        table.add_row("", f"-> {action}")
    Console().print(table, highlight=False, soft_wrap=True)


@app.command()
def release(
    paths: Annotated[
        list[str] | None, typer.Argument(metavar="PATH|NUMBER...", help="As `list` prints it.")
    ] = None,
    because: Annotated[str, typer.Option(help="Why it may be used although a check failed.")] = "",
    reason: Annotated[str, typer.Option(help="Release all recordings rejected for this reason alone.")] = "",
    undo: Annotated[bool, typer.Option("--undo", help="Withdraw the release.")] = False,
) -> None:
    """Release recordings that you have listened to. The releases are in released.csv, which belongs in git."""
    import pandas as pd

    from metavox.quality.released import RELEASED, read_released, write_released

    if bool(paths) == bool(reason):
        raise UserError("release: expected either recordings or --reason, not both or neither")
    table = read_released(Path(RELEASED))
    if undo:
        withdrawn = _find_released(table, paths or [], reason)
        write_released(table.drop(index=withdrawn), Path(RELEASED))
        typer.echo(f"{len(withdrawn)} no longer released; to apply it, run {VALIDATE}")
        return
    if not because.strip():
        raise UserError(
            'release: no reason; give one with --because "listened to all of them, every word is clear"'
        )
    rows = _read_quarantine()
    if reason:
        chosen = rows[rows["checks"] == reason]
    else:
        chosen = pd.DataFrame([_find_row(rows, path) for path in paths or []])
    _require_releasable(chosen, reason)
    new = pd.DataFrame(
        {
            "content": chosen["content"],
            "path": chosen["path"],
            "reasons": chosen["checks"],
            "because": " ".join(because.split()),
        }
    )
    releases = pd.concat([table, new]).drop_duplicates(["content", "path"], keep="last")
    write_released(releases, Path(RELEASED))
    typer.echo(f"{len(chosen)} released in {RELEASED}; commit it. To apply it, run {VALIDATE}")


def _rounded(value: object) -> str:
    try:
        return f"{float(str(value)):.4g}"
    except ValueError:
        return str(value)


def _read_quarantine() -> "pd.DataFrame":
    """The rows as text, with a column `number` from 1. Raises UserError if there is no quarantine."""
    import pandas as pd

    path = next((path for path in QUARANTINES if path.is_file()), None)
    if path is None:
        raise UserError(
            f"no quarantine: neither {QUARANTINES[0]} nor {QUARANTINES[1]} exists; run {VALIDATE}"
        )
    rows = pd.read_csv(path, dtype=str, keep_default_na=False)
    if missing := [name for name in ("path", "reasons", "checks") if name not in rows.columns]:
        raise UserError(f"{path}: no column {', '.join(missing)}; another version wrote it, run {VALIDATE}")
    digest = "content" if "content" in rows.columns else "sha256"
    return rows.assign(number=range(1, len(rows) + 1), content=rows[digest])


def _select(rows: "pd.DataFrame", reason: str, source: str) -> "pd.DataFrame":
    if reason and reason not in ADVICE:
        raise UserError(f"--reason {reason}: unknown reason; expected one of {', '.join(ADVICE)}")
    if reason:
        rows = rows[[reason in checks.split("; ") for checks in rows["checks"]]]
    return rows[rows["source"] == source] if source else rows


def _find_row(rows: "pd.DataFrame", which: str) -> Any:
    """The row with a number, a path, or the end of a path, if it is unique. Raises UserError if not."""
    matches = rows[rows["path"] == which]
    if matches.empty and which.isdigit():
        matches = rows[rows["number"] == int(which)]
    if matches.empty:
        matches = rows[[path.endswith("/" + which) for path in rows["path"]]]
    if len(matches) != 1:
        problem = f"{len(matches)} rows match" if len(matches) else "not in the quarantine"
        raise UserError(
            f"{which}: {problem}; expected a number or a path from metavox corpus quarantine list"
        )
    return matches.to_dict("records")[0]


def _require_releasable(rows: "pd.DataFrame", reason: str) -> None:
    """Raises UserError if one of the rows cannot be released."""
    from metavox.quality.released import NOT_RELEASABLE

    if rows.empty:
        raise UserError(f"--reason {reason}: no recording was rejected for this reason alone")
    for row in rows.to_dict("records"):
        if never := [check for check in row["checks"].split("; ") if check in NOT_RELEASABLE]:
            raise UserError(
                f"{row['path']}: {never[0]}, so there is nothing to learn from; {ADVICE[never[0]]}"
            )
        if not row["content"]:
            raise UserError(f"{row['path']}: no digest of the recording; run metavox stage prepare again")


def _find_released(table: "pd.DataFrame", paths: list[str], reason: str) -> list[int]:
    matches = [
        row
        for row, path, reasons in zip(table.index, table["path"], table["reasons"], strict=True)
        if path in paths or any(path.endswith("/" + end) for end in paths) or (reason and reason == reasons)
    ]
    if not matches:
        raise UserError(f"{', '.join(paths) or '--reason ' + reason}: not released; see released.csv")
    return matches


def _summary(row: Any) -> dict[str, Any]:
    return {
        "number": int(row["number"]),
        "path": row["path"],
        "reasons": row["reasons"].split("; "),
        "checks": row["checks"].split("; "),
        "source": row.get("source", ""),
    }
