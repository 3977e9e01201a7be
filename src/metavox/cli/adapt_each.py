"""`metavox adapt-each`: one delta for each speaker (or room, or site) of a manifest, with the base loaded once."""

import hashlib
import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from metavox.cli.options import Base, Json, Language, Manifest, output
from metavox.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

    from metavox.session import Session

LEARNED_FROM = "learned_from"  # in a delta: what it was taught with, so that it is not taught again
FAILED = 1  # exit status


def adapt_each(
    manifest: Manifest,
    out: Annotated[Path, typer.Option(file_okay=False, help="The folder of the deltas.", callback=output)],
    by: Annotated[
        str, typer.Option(help="The column whose values get a delta each, such as speaker or environment.")
    ] = "speaker",
    kind: Annotated[
        Literal["words", "utterances"],
        typer.Option(help="words: enrol vocabularies; utterances: adapt to speakers, rooms or languages."),
    ] = "utterances",
    base: Base = None,
    language: Language = "",
    budget: Annotated[
        float, typer.Option(min=1.0, metavar="SECONDS", help="Time for each delta. Utterances only.")
    ] = 60.0,
    part: Annotated[
        str,
        typer.Option(metavar="I/N", help="Do only every Nth value, from the Ith: one of N processes' share."),
    ] = "1/1",
    seed: Annotated[int, typer.Option(min=0)] = 0,
    json_file: Json = None,
) -> None:
    """Learn a delta per speaker. Those that exist for the same recordings are kept, so an interrupted run continues.

    A speaker whose recordings cannot be learned from does not stop the others; the exit status is then 1.
    """
    from metavox.cli.manifests import labelled, languages_of
    from metavox.cli.sessions import opened
    from metavox.files import write_json
    from metavox.progress import bar
    from metavox.session import open_for_words

    rows = labelled(manifest)
    groups = share(grouped(rows, by, manifest), part)
    if not groups:
        typer.echo(f"{out}: no {by} in part {part}")
        if json_file:
            write_json(json_file, [])
        return
    spoken = [language] if language else languages_of(rows)
    session = open_for_words(base) if kind == "words" else opened(base, language, spoken)
    lines = []
    with bar("adapting", len(groups), by) as progress:
        for name, own in groups.items():
            lines.append({by: name, **_adapt(own, manifest, out / name, session, kind, budget, seed)})
            progress.advance()
    if json_file:
        write_json(json_file, lines)
    counts = {what: sum(line["outcome"] == what for line in lines) for what in ("learned", "kept", "failed")}
    typer.echo(f"{out}: " + ", ".join(f"{count} {what}" for what, count in counts.items()))
    for line in lines:
        if line["outcome"] == "failed":
            print(f"metavox: {by} {line[by]}: {line['why']}", file=sys.stderr)
    if counts["failed"]:
        raise typer.Exit(FAILED)


def share(groups: "dict[str, pd.DataFrame]", part: str) -> "dict[str, pd.DataFrame]":
    """Part I/N of the groups. Raises UserError for anything else."""
    found = re.fullmatch(r"(\d+)/(\d+)", part)
    number, parts = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 1 <= number <= parts:
        raise UserError(f"--part {part}: expected I/N with I from 1 to N, such as 1/8")
    return dict(list(groups.items())[number - 1 :: parts])


def grouped(rows: "pd.DataFrame", by: str, manifest: Path) -> "dict[str, pd.DataFrame]":
    """The rows by the value of a column. Raises UserError for a value that cannot be the name of a folder."""
    from metavox.serve.store import NAME

    if by not in rows.columns:
        raise UserError(f"{manifest}: no column {by}; expected one of {', '.join(rows.columns)}")
    values = rows[by].fillna("").astype(str).str.strip().str.lower()
    if bad := next((value for value in values.unique() if not NAME.fullmatch(value)), None):
        raise UserError(
            f"{manifest}: {by} {bad!r} cannot name a delta; expected 1 to 64 of a-z 0-9 _ -, beginning with a letter or digit"
        )
    return {str(name): own for name, own in rows.groupby(values, sort=True)}


def _adapt(
    rows: "pd.DataFrame",
    manifest: Path,
    out: Path,
    session: "Session",
    kind: Literal["words", "utterances"],
    budget_s: float,
    seed: int,
) -> dict[str, Any]:
    from dataclasses import replace

    from metavox.cli.adapt import as_teaching_set
    from metavox.cli.manifests import languages_of, read
    from metavox.recognisers.delta import save_delta
    from metavox.teaching import TeachConfig, teach

    began = time.monotonic()
    default = TeachConfig(kind)
    config = replace(
        default,
        words=replace(default.words, seed=seed),
        utterances=replace(default.utterances, budget_s=budget_s, seed=seed),
    )
    try:
        recordings = as_teaching_set(read(rows, manifest, session.rate), languages_of(rows))
        source = _digest(recordings.audio, recordings.texts, session, config)
        if _learned_from(out) == source:
            return {"outcome": "kept", "recordings": len(recordings.texts), "seconds": 0.0, "why": ""}
        delta = teach(session, recordings, config).delta
        save_delta(replace(delta, about={**delta.about, LEARNED_FROM: source}), out)
    except UserError as error:
        return {"outcome": "failed", "recordings": len(rows), "seconds": 0.0, "why": str(error)}
    seconds = round(time.monotonic() - began, 2)
    why = "" if delta.words or delta.changes_recogniser else "the base itself does better"
    return {"outcome": "learned", "recordings": len(recordings.texts), "seconds": seconds, "why": why}


def _digest(audio: Any, texts: Any, session: "Session", config: object) -> str:
    total = hashlib.sha256(
        f"{session.recogniser.spec.digest} {session.embedder.spec.digest} {config}".encode()
    )
    for samples, text in zip(audio, texts, strict=True):
        total.update(samples.tobytes())
        total.update(text.encode())
    return total.hexdigest()


def _learned_from(folder: Path) -> str:
    from metavox.recognisers.delta import load_delta

    try:
        return str(load_delta(folder).about.get(LEARNED_FROM, "")) if folder.is_dir() else ""
    except UserError:
        return ""  # damaged: taught again
