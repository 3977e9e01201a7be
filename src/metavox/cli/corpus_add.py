"""metavox corpus add: bring your own recordings."""

import csv
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from metavox.cli.options import output
from metavox.errors import UserError, shown

if TYPE_CHECKING:
    from rich.console import Console

    from metavox.ingest import Added

FIX = 2
MOST = 8  # reasons that are shown


def add(
    path: Annotated[Path, typer.Argument(help="A folder, a CSV, a tar or a lhotse manifest.")],
    layout: Annotated[
        str,
        typer.Option(
            help="auto, folders, csv, commonvoice, librispeech, kaldi, lhotse, speech-commands, filename-pattern, transcripts."
        ),
    ] = "auto",
    speaker: Annotated[str, typer.Option(help="Whose speaker it is, where the layout does not say.")] = "",
    language: Annotated[str, typer.Option(help="Its code, such as en, where the layout does not say.")] = "",
    license: Annotated[str, typer.Option(help="The licence of the recordings.")] = "",
    environment: Annotated[str, typer.Option(help="Room, channel or device.")] = "",
    split: Annotated[str, typer.Option(help="train, dev or test, where the layout does not say.")] = "",
    pattern: Annotated[str, typer.Option(help="What names mean, such as {speaker}_{text}_{}.")] = "",
    name: Annotated[str, typer.Option(help="Of the source; the folder's name where none is given.")] = "",
    into: Annotated[Path, typer.Option(help="The corpus; made where there is none.")] = Path("data"),
    encoding: Annotated[str, typer.Option(help="Of the CSV, when it is not UTF-8.")] = "",
    allow_outside: Annotated[
        bool, typer.Option("--allow-outside", help="Follow links and paths that lead out of PATH.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Change nothing, say what would be taken.")
    ] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write every row and its fate here.", callback=output)
    ] = None,
) -> None:
    """Bring your own recordings: what is fit is stored, what is not is named with its reasons.

    Only what is not there yet is decoded; adding the same again changes nothing.
    """
    from rich.console import Console

    from metavox.ingest import AddOptions

    options = AddOptions(
        layout, name, speaker, language, license, environment, split, pattern, encoding, allow_outside
    )
    console = Console(stderr=True)
    with _added(path, options, into, dry_run, console) as added:
        if json_file:
            _write_json(added, json_file)
        console = Console()
        if any(added.counts.values()):
            _show(added, console, dry_run)
        if added.faults:
            raise UserError("; ".join(f"{fault.name}: {fault.explanation}" for fault in added.faults))
        counts = added.counts
        if not dry_run:
            refused = _write_refused(added, into)
            if counts["refuse"]:
                console.print(f"Every refused row and why: {refused}", highlight=False)
        if not counts["take"] and not counts["have"]:
            raise UserError(f"{path}: nothing to take, {counts['refuse']} refused, {added.ignored} no audio")
        if added.after:
            _tell_version(added.after, into, console)


def _added(path: Path, options: object, into: Path, dry_run: bool, console: "Console") -> "Added":
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from metavox.ingest import AddOptions, add
    from metavox.params import Validate, load_params

    assert isinstance(options, AddOptions)
    params = Path("params.yaml")
    limits = load_params(params).validate_ if params.is_file() else Validate()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bars:
        tasks = {"reading": bars.add_task("reading", total=None)}

        def progress(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=None)
            bars.update(tasks[what], completed=done, total=total or None)  # type: ignore[arg-type]

        return add(path, options, into, limits, dry_run, progress)


def _show(added: "Added", console: "Console", dry_run: bool) -> None:
    counts = added.counts
    taken = seconds = 0
    speakers, languages, notes = set(), set(), Counter[str]()
    for row in added.take():
        taken, seconds = taken + 1, seconds + row["duration_s"]
        speakers.add(row["speaker"])
        languages.add(row["language"])
        notes.update(row["notes"])
    say = _plain(console)
    say(f"{added.layout}, as source {added.source}" if added.source else added.layout)
    if taken:
        verb = "would be taken" if dry_run or added.faults else "taken"
        of = f"{len(speakers)} speaker{'s' * (len(speakers) != 1)}, {len(languages)} language{'s' * (len(languages) != 1)}"
        say(f"{taken} {verb}: {seconds / 60:.1f} min, {of}")
    say(f"{counts['have']} there already, {counts['refuse']} refused, {added.ignored} other files ignored")
    for note, number in notes.most_common(MOST):
        say(f"  note: {number} with {note}")
    for reason, (number, example) in _reasons(added):
        say(f"  refused: {number} {shown(reason)}, such as {example}")
    for warning in added.warnings:
        say(f"  warning: {warning.name}: {warning.explanation}")


def _plain(console: "Console") -> Callable[[str], None]:
    return partial(console.print, markup=False, highlight=False, soft_wrap=True)


def _reasons(added: "Added") -> list[tuple[str, tuple[int, str]]]:
    """The most frequent reasons, numbers in them left out, each with how many and an example."""
    counts, examples = Counter[str](), dict[str, tuple[str, str]]()
    for row in added.refuse():
        for reason in row["reasons"]:
            kind = re.sub(r"\d+(\.\d+)?|'[^']*'", "…", reason)
            counts[kind] += 1
            examples.setdefault(
                kind, (reason, shown(row["path"]) + (f" (line {row['line']})" if row["line"] else ""))
            )
    return [(examples[kind][0], (number, examples[kind][1])) for kind, number in counts.most_common(MOST)]


def _write_refused(added: "Added", into: Path) -> Path:
    from metavox.files import written_aside
    from metavox.ingest.writer import state

    path = state(into) / "refused.csv"
    with written_aside(path) as aside, aside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("path", "line", "reasons"))
        for row in added.refuse():
            writer.writerow((row["path"], row["line"] or "", "; ".join(row["reasons"])))
    return path


def _write_json(added: "Added", path: Path) -> None:
    """Row by row: there may be millions."""
    from metavox.files import written_aside

    with written_aside(path) as aside, aside.open("w", encoding="utf-8", errors="backslashreplace") as file:
        start = "{"
        for name, part in added.parts().items():
            file.write(f"{start}\n{json.dumps(name)}: ")
            start = ","
            if isinstance(part, Iterator):
                between = "["
                for row in part:
                    file.write(f"{between}\n{json.dumps(row, ensure_ascii=False)}")
                    between = ","
                file.write("[]" if between == "[" else "]")
            else:
                json.dump(part, file, ensure_ascii=False)
        file.write("\n}\n")


def _tell_version(after: str, into: Path, console: "Console") -> None:
    """Pin it with DVC where there is a project; say how to share it, or how to start one."""
    from metavox.cli.corpus_versions import dvc_add

    say = _plain(console)
    try:
        version = dvc_add(into)
    except UserError as error:
        say(f"{into}: version {after}, not pinned ({error})")
        say(f"To pin it: git init && dvc init, once; then dvc add {into}, and dvc push to share it")
        return
    say(f"{into}: version {version}, pinned in {into}.dvc")
    say(f"Share it with: dvc push {into}.dvc")
