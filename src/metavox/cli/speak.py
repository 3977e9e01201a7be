"""metavox corpus speak: synthesises texts with espeak-ng into a folder that `metavox corpus add` reads."""

from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from metavox.cli.options import output
from metavox.errors import UserError
from metavox.files import write_json

if TYPE_CHECKING:
    from metavox.sources.synthetic.espeak import Rendition, SynthesisConfig, Text
    from metavox.sources.synthetic.texts import Texts

REFUSED_SHOWN = 10  # --json lists all refused texts

Languages = Annotated[
    list[str],
    typer.Option("--language", help="A language such as it, sw or en-us; may be repeated; see --list."),
]
Voices = Annotated[
    list[str], typer.Option(help="The number of voice variants, or the name of one; may be repeated.")
]


def speak(
    language: Languages = [],  # noqa: B006
    words: Annotated[
        Path | None, typer.Option(help="One text per line, UTF-8; or language<TAB>text. Default: CLDR words.")
    ] = None,
    texts: Annotated[
        Path | None, typer.Option(help="A manifest or corpus: speak each of its training texts.")
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="How many CLDR words of each language.")] = 85,
    renditions: Annotated[int, typer.Option(min=1, help="How often each text is spoken.")] = 6,
    voices: Voices = [],  # noqa: B006
    rate: Annotated[str, typer.Option(help="Words per minute, lowest:highest.")] = "125:210",
    pitch: Annotated[str, typer.Option(help="Pitch, lowest:highest within 0:99.")] = "30:70",
    pitch_range: Annotated[
        str, typer.Option(help="Variation of the pitch, lowest:highest within 0:99.")
    ] = "25:75",
    license: Annotated[str, typer.Option(help="The licence of your --words, recorded in each row.")] = "",
    seed: Annotated[int, typer.Option(help="Seed for drawing voices, rates and pitches.")] = 1,
    tts: Annotated[
        str,
        typer.Option(
            metavar="MODULE:FUNCTION",
            help="Speak with this function instead of espeak-ng, in each of its --voices.",
        ),
    ] = "",
    workers: Annotated[
        int, typer.Option(min=1, help="Number of processes; the result does not depend on it.")
    ] = 2,
    out: Annotated[Path, typer.Option(help="The folder to write.", callback=output)] = Path("synthetic"),
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Write nothing; report how much speech it would be.")
    ] = False,
    listing: Annotated[bool, typer.Option("--list", help="List the languages and voice variants.")] = False,
    json_file: Annotated[
        Path | None,
        typer.Option("--json", dir_okay=False, help="Write a summary to this file.", callback=output),
    ] = None,
) -> None:
    """Synthesise words or texts with espeak-ng, for training only. The same options give the same bytes."""
    from metavox.sources.synthetic.espeak import plan
    from metavox.sources.synthetic.folder import check_out, speak_folder

    if listing:
        _list_languages(json_file)
        return
    if tts:
        selection = _select_texts(language, words, texts, count, seed, license)
        _speak_with(tts, selection, voices, out, dry_run, json_file)
        return
    config = _synthesis_config(voices, rate, pitch, pitch_range, renditions, seed)
    selection = _select_texts(language, words, texts, count, seed, license)
    _print_left_out(selection)
    if not selection.accepted:
        raise UserError(f"nothing to say: {_why_empty(selection)}")
    planned = plan(selection.accepted, config)
    summary: dict[str, Any] = {
        "texts": len(selection.accepted),
        "inferred": sum(text.text_kind == "inferred" for text in selection.accepted),
        "repeated": selection.repeated,
        "blank": selection.blank,
        "left_out": dict(selection.left_out),
        "refused": [vars(refused) for refused in selection.refused],
    }
    check_out(out)
    if dry_run:
        summary = {**_estimate(planned, len(selection.accepted), workers), **summary}
    else:
        with _progress_bar("speaking", len(planned)) as progress:
            spoken = speak_folder(planned, out, workers, progress)
        summary = {**_totals(out, spoken.rows), **summary}
        summary["refused"] += _report_silent(spoken.silent)
        _print_result(out, summary)
    if json_file:
        write_json(json_file, summary)


def _speak_with(
    tts: str, selection: "Texts", voices: list[str], out: Path, dry_run: bool, json_file: Path | None
) -> None:
    """Speak with the user's own synthesiser."""
    from metavox.sources.synthetic.external import speak_with, synthesiser_named

    _print_left_out(selection)
    if not voices:
        raise UserError(f"--tts {tts}: name its voices with --voices")
    if not selection.accepted:
        raise UserError(f"nothing to say: {_why_empty(selection)}")
    total = len(selection.accepted) * len(voices)
    if dry_run:
        typer.echo(f"{total} utterances of {len(selection.accepted)} texts")
        return
    with _progress_bar("speaking", total) as progress:
        rows = speak_with(synthesiser_named(tts), tts, selection.accepted, voices, out, progress)
    seconds = float(rows["duration_s"].sum())
    typer.echo(f"{out}: {len(rows)} utterances, {seconds:.0f} s, {len(voices)} voices")
    if json_file:
        write_json(json_file, {"utterances": len(rows), "duration_s": round(seconds, 1), "voices": voices})


def _estimate(planned: list["Rendition"], texts: int, workers: int) -> dict[str, Any]:
    from metavox.sources.synthetic.folder import estimate_s

    duration_s = estimate_s(planned, workers)
    typer.echo(f"{len(planned):,} utterances of {texts:,} texts, about {_format_duration(duration_s)}")
    return {"dry_run": True, "utterances": len(planned), "duration_s": round(duration_s, 1)}


def _report_silent(silent: list["Text"]) -> list[dict[str, Any]]:
    """Print the texts for which espeak-ng makes no sound; returns them as rows of the summary's `refused`."""
    refused = []
    for text in silent:
        reason = f"espeak-ng makes no sound for it in {text.language}"
        refused.append({"line": None, "text": text.text, "reason": reason})
        typer.echo(f"refused: {text.text[:60]!r}: {reason}", err=True)
    return refused


def _select_texts(
    languages: list[str], words: Path | None, texts: Path | None, count: int, seed: int, license: str
) -> "Texts":
    from metavox.sources.synthetic.texts import of_cldr, of_list, of_manifest

    if words and texts:
        raise UserError("--words and --texts: expected only one of them")
    if license and not words:
        raise UserError(f"--license {license}: expected only with --words; a manifest gives its own licences")
    if words:
        return of_list(words, languages, license)
    if texts:
        return of_manifest(texts, languages)
    if not languages:
        raise UserError("nothing to say; give --language, --words or --texts")
    return of_cldr(languages, count, seed)


def _synthesis_config(
    voices: list[str], rate: str, pitch: str, pitch_range: str, renditions: int, seed: int
) -> "SynthesisConfig":
    from metavox.sources.synthetic.espeak import SynthesisConfig, some_variants

    ranges = {"rate": rate, "pitch": pitch, "pitch_range": pitch_range}
    limits = {name: _parse_range(name.replace("_", "-"), value) for name, value in ranges.items()}
    if len(voices) == 1 and voices[0].isdecimal():
        variants = some_variants(int(voices[0]), seed)
    else:
        variants = tuple(name.strip() for voice in voices for name in voice.split(","))
    return SynthesisConfig(**limits, voices=variants, renditions=renditions, seed=seed)


def _parse_range(name: str, value: str) -> tuple[int, int]:
    low, _, high = value.partition(":")
    try:
        return int(low), int(high or low)
    except ValueError:
        raise UserError(f"--{name} {value}: expected lowest:highest, such as 120:210") from None


def _print_left_out(selection: "Texts") -> None:
    for refused in selection.refused[:REFUSED_SHOWN]:
        line = f"line {refused.line}: " if refused.line else ""
        typer.echo(f"refused: {line}{refused.text[:60]!r}: {refused.reason}", err=True)
    if len(selection.refused) > REFUSED_SHOWN:
        rest = len(selection.refused) - REFUSED_SHOWN
        typer.echo(f"refused: {rest} more; --json FILE lists them all", err=True)
    for reason, count in sorted(selection.left_out.items()):
        typer.echo(f"left out: {count:,} of {reason}", err=True)


def _why_empty(selection: "Texts") -> str:
    if selection.refused:
        first = selection.refused[0].reason
        return f"all {len(selection.refused)} texts were refused, the first because {first}"
    if selection.left_out:
        return "every row was left out: " + ", ".join(selection.left_out)
    return "there is no text in the input"


def _totals(out: Path, rows: Any) -> dict[str, Any]:
    from metavox.dataset.shards import dvc_digest
    from metavox.params import Validate

    return {
        "out": str(out),
        "utterances": len(rows),
        "duration_s": round(float(rows["duration_s"].sum()), 1),
        "longest_s": round(float(rows["duration_s"].max()), 1),
        "too_long": int((rows["duration_s"] > Validate().max_duration_s).sum()),
        "languages": dict(Counter(rows["language"])),
        "voices": int(rows["speaker"].nunique()),
        "digest": dvc_digest(out),
    }


def _print_result(out: Path, summary: dict[str, Any]) -> None:
    from metavox.params import Validate

    if summary["inferred"]:
        typer.echo(
            f"{summary['inferred']:,} texts contain digits or symbols: their text_kind is inferred; spell them out to be sure",
            err=True,
        )
    if summary["too_long"]:
        typer.echo(
            f"{summary['too_long']:,} utterances are longer than {Validate().max_duration_s:g} s, "
            f"the longest {summary['longest_s']:g} s: raise validate.max_duration_s, or shorten the texts",
            err=True,
        )
    typer.echo(
        f"{out}: {summary['utterances']:,} utterances, {_format_duration(summary['duration_s'])}, "
        f"{summary['voices']} voices in {', '.join(summary['languages'])}, digest {summary['digest']}"
    )
    typer.echo(f"next: metavox corpus add {out}")


def _format_duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _progress_bar(description: str, total: int) -> AbstractContextManager[Callable[[int], None]]:
    from contextlib import contextmanager

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    @contextmanager
    def bar() -> Any:
        columns = (TextColumn(description), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
            task = bars.add_task(description, total=total)
            yield lambda done: bars.update(task, completed=done)

    return bar()


def _list_languages(json_file: Path | None) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from metavox.sources.synthetic.espeak import variants
    from metavox.sources.synthetic.languages import languages

    if json_file:
        known = [vars(language) for language in languages().values()]
        write_json(json_file, {"languages": known, "voices": variants()})
    table = Table("code", "aliases", "language", box=box.SIMPLE, pad_edge=False)
    for language in languages().values():
        table.add_row(language.code, " ".join(language.aliases), language.name)
    console = Console()
    console.print(table)
    console.print(f"{len(variants())} voice variants: {', '.join(variants())}", highlight=False)
