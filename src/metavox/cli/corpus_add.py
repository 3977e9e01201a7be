"""metavox corpus add: adds the user's own recordings to a corpus."""

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

    from metavox.ingest import AddOptions, AddResult

REASONS_SHOWN = 8


def add(
    path: Annotated[Path, typer.Argument(help="A folder, a table, a tar or a lhotse manifest.")],
    layout: Annotated[
        str,
        typer.Option(
            help="auto, folders, csv, commonvoice, librispeech, kaldi, lhotse, speech-commands, filename-pattern, transcripts."
        ),
    ] = "auto",
    speaker: Annotated[str, typer.Option(help="Who speaks, where the layout does not say.")] = "",
    language: Annotated[
        str, typer.Option(help="The language code, such as en, where the layout does not say.")
    ] = "",
    license: Annotated[str, typer.Option(help="The licence of the recordings.")] = "",
    environment: Annotated[str, typer.Option(help="The room, channel or device.")] = "",
    split: Annotated[str, typer.Option(help="train, dev or test, where the layout does not say.")] = "",
    pattern: Annotated[str, typer.Option(help="What the names mean, such as {speaker}_{text}_{}.")] = "",
    name: Annotated[str, typer.Option(help="The name of the source. Default: the folder's name.")] = "",
    into: Annotated[Path, typer.Option(help="The corpus; created if there is none.")] = Path("data"),
    encoding: Annotated[str, typer.Option(help="The encoding of the table. Default: detected.")] = "",
    allow_outside: Annotated[
        bool, typer.Option("--allow-outside", help="Follow links and paths that lead out of PATH.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Change nothing; report what would be added.")
    ] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the outcome of every row here.", callback=output)
    ] = None,
) -> None:
    """Add your own recordings to the corpus; those that fail a check are refused, with the reasons.

    Only new recordings are decoded. Adding the same recordings again changes nothing.
    """
    from rich.console import Console

    from metavox.ingest import AddOptions

    options = AddOptions(
        layout, name, speaker, language, license, environment, split, pattern, encoding, allow_outside
    )
    with _add(path, options, into, dry_run, Console(stderr=True)) as result:
        if json_file:
            _write_json(result, json_file)
        console = Console()
        if any(result.counts.values()):
            _print_result(result, console, dry_run)
        if result.faults:
            raise UserError("; ".join(f"{fault.name}: {fault.explanation}" for fault in result.faults))
        counts = result.counts
        if not dry_run:
            refused = _write_refused(result, into)
            if counts["refuse"]:
                console.print(f"All refused rows and the reasons: {refused}", highlight=False)
        if not counts["take"] and not counts["have"]:
            raise UserError(
                f"{path}: nothing to add: {counts['refuse']} refused, {result.ignored} files that are not audio"
            )
        if result.after:
            _pin_version(result.after, into, console)


def _add(path: Path, options: "AddOptions", into: Path, dry_run: bool, console: "Console") -> "AddResult":
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from metavox.ingest import add
    from metavox.params import Validate, load_params

    params = Path("params.yaml")
    limits = load_params(params).validate_ if params.is_file() else Validate()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bars:
        tasks = {"reading": bars.add_task("reading", total=None)}

        def progress(step: str, done: int, total: int) -> None:
            if step not in tasks:
                tasks[step] = bars.add_task(step, total=None)
            bars.update(tasks[step], completed=done, total=total or None)  # type: ignore[arg-type]

        return add(path, options, into, limits, dry_run, progress)


def _print_result(result: "AddResult", console: "Console", dry_run: bool) -> None:
    counts = result.counts
    recordings = seconds = 0
    speakers, languages, notes = set(), set(), Counter[str]()
    for row in result.accepted():
        recordings, seconds = recordings + 1, seconds + row["duration_s"]
        speakers.add(row["speaker"])
        languages.add(row["language"])
        notes.update(row["notes"])
    print_line = _plain_printer(console)
    print_line(f"{result.layout}, as source {result.source}" if result.source else result.layout)
    if recordings:
        verb = "would be added" if dry_run or result.faults else "added"
        of = f"{_count(len(speakers), 'speaker')}, {_count(len(languages), 'language')}"
        print_line(f"{recordings} {verb}: {seconds / 60:.1f} min, {of}")
    print_line(
        f"{counts['have']} already in the corpus, {counts['refuse']} refused, {result.ignored} other files ignored"
    )
    for note, count in notes.most_common(REASONS_SHOWN):
        print_line(f"  note: {_count(count, 'recording')}: {note}")
    for reason, count, example in _frequent_reasons(result):
        print_line(f"  refused: {count}: {shown(reason)}, such as {example}")
    for warning in result.warnings:
        print_line(f"  warning: {warning.name}: {warning.explanation}")


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count != 1)}"


def _plain_printer(console: "Console") -> Callable[[str], None]:
    return partial(console.print, markup=False, highlight=False, soft_wrap=True)


def _frequent_reasons(result: "AddResult") -> list[tuple[str, int, str]]:
    """(reason, number of rows, an example's path) of the most frequent reasons, apart from numbers and quotes."""
    counts, examples = Counter[str](), dict[str, tuple[str, str]]()
    for row in result.refused():
        line = f" (line {row['line']})" if row["line"] else ""
        for reason in row["reasons"]:
            kind = re.sub(r"\d+(\.\d+)?|'[^']*'", "…", reason)
            counts[kind] += 1
            examples.setdefault(kind, (reason, shown(row["path"]) + line))
    return [
        (examples[kind][0], count, examples[kind][1]) for kind, count in counts.most_common(REASONS_SHOWN)
    ]


def _write_refused(result: "AddResult", into: Path) -> Path:
    from metavox.files import written_aside
    from metavox.ingest.writer import state_folder

    path = state_folder(into) / "refused.csv"
    with written_aside(path) as aside, aside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("path", "line", "reasons"))
        for row in result.refused():
            writer.writerow((row["path"], row["line"] or "", "; ".join(row["reasons"])))
    return path


def _write_json(result: "AddResult", path: Path) -> None:
    """Written row by row, because there may be millions."""
    from metavox.files import written_aside

    with written_aside(path) as aside, aside.open("w", encoding="utf-8", errors="backslashreplace") as file:
        start = "{"
        for name, value in result.sections().items():
            file.write(f"{start}\n{json.dumps(name)}: ")
            start = ","
            if isinstance(value, Iterator):
                between = "["
                for row in value:
                    file.write(f"{between}\n{json.dumps(row, ensure_ascii=False)}")
                    between = ","
                file.write("[]" if between == "[" else "]")
            else:
                json.dump(value, file, ensure_ascii=False)
        file.write("\n}\n")


def _pin_version(after: str, into: Path, console: "Console") -> None:
    """Pin the new version with DVC if there is a project; print how to share it, or how to start a project."""
    from metavox.cli.corpus_versions import dvc_add

    print_line = _plain_printer(console)
    try:
        version = dvc_add(into)
    except UserError as error:
        print_line(f"{into}: version {after}, not pinned ({error})")
        print_line(f"To pin it, run git init && dvc init once, then dvc add {into}; dvc push shares it")
        return
    print_line(f"{into}: version {version}, pinned in {into}.dvc")
    print_line(f"Share it with: dvc push {into}.dvc")
