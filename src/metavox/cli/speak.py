"""`metavox corpus speak`: texts spoken by espeak-ng into a folder that `metavox corpus add` takes."""

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
    from metavox.sources.synthetic.espeak import SynthesisConfig
    from metavox.sources.synthetic.texts import Texts

SHOWN = 10  # refused texts that are printed; --json has all

Languages = Annotated[
    list[str], typer.Option("--language", help="it, sw, en-us ...; may be repeated; see --list.")
]
Voices = Annotated[
    list[str], typer.Option(help="How many voice variants, or the name of one; may be repeated.")
]


def speak(
    language: Languages = [],  # noqa: B006
    words: Annotated[
        Path | None, typer.Option(help="A text a line, UTF-8; or language<TAB>text. Without: CLDR words.")
    ] = None,
    texts: Annotated[
        Path | None, typer.Option(help="A manifest or corpus: its training texts, each once.")
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="CLDR words of each language.")] = 85,
    renditions: Annotated[int, typer.Option(min=1, help="How often each text is said.")] = 6,
    voices: Voices = [],  # noqa: B006
    rate: Annotated[str, typer.Option(help="Words a minute, lowest:highest.")] = "125:210",
    pitch: Annotated[str, typer.Option(help="lowest:highest of 0..99.")] = "30:70",
    pitch_range: Annotated[str, typer.Option(help="How lively, lowest:highest of 0..99.")] = "25:75",
    license: Annotated[str, typer.Option(help="The licence of your --words, noted in each row.")] = "",
    seed: Annotated[int, typer.Option(help="Draws voices, rates and pitches.")] = 1,
    workers: Annotated[int, typer.Option(min=1, help="Processes; the result is the same.")] = 2,
    out: Annotated[Path, typer.Option(help="The folder to make.", callback=output)] = Path("synthetic"),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say how much it would be, write none.")] = False,
    listing: Annotated[bool, typer.Option("--list", help="Show languages and voice variants.")] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", dir_okay=False, help="Write the summary here.", callback=output)
    ] = None,
) -> None:
    """Speak words or texts with espeak-ng, for training only; the same options give the same bytes."""
    from metavox.sources.synthetic.espeak import plan
    from metavox.sources.synthetic.folder import check_out, estimate_s, speak_folder

    if listing:
        _list(json_file)
        return
    config = _synthesis_config(voices, rate, pitch, pitch_range, renditions, seed)
    found = _texts(language, words, texts, count, seed, license)
    _tell(found)
    if not found.accepted:
        raise UserError(f"nothing to say: {_why_none(found)}")
    planned = plan(found.accepted, config)
    summary: dict[str, Any] = {
        "texts": len(found.accepted),
        "inferred": sum(text.text_kind == "inferred" for text in found.accepted),
        "repeated": found.repeated,
        "blank": found.blank,
        "left_out": dict(found.left_out),
        "refused": [vars(refused) for refused in found.refused],
    }
    check_out(out)
    if dry_run:
        about_s = estimate_s(planned, workers)
        summary = {"dry_run": True, "utterances": len(planned), "duration_s": round(about_s, 1), **summary}
        typer.echo(f"{len(planned):,} utterances of {len(found.accepted):,} texts, about {_time(about_s)}")
    else:
        with _progress("speaking", len(planned)) as told:
            spoken = speak_folder(planned, out, workers, told)
        summary = {**_figures(out, spoken.rows), **summary}
        for text in spoken.silent:
            reason = f"espeak-ng has no sound for it in {text.language}"
            summary["refused"].append({"line": None, "text": text.text, "reason": reason})
            typer.echo(f"refused: {text.text[:60]!r}: {reason}", err=True)
        _say_done(out, summary)
    if json_file:
        write_json(json_file, summary)


def _texts(
    languages: list[str], words: Path | None, texts: Path | None, count: int, seed: int, license: str
) -> "Texts":
    from metavox.sources.synthetic.texts import of_cldr, of_list, of_manifest

    if words and texts:
        raise UserError("--words and --texts: expected one of them")
    if license and not words:
        raise UserError(f"--license {license}: expected with --words only; a manifest names its own")
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
    numbers = {name: _range(name.replace("_", "-"), value) for name, value in ranges.items()}
    if len(voices) == 1 and voices[0].isdecimal():
        chosen = some_variants(int(voices[0]), seed)
    else:
        chosen = tuple(name.strip() for voice in voices for name in voice.split(","))
    return SynthesisConfig(**numbers, voices=chosen, renditions=renditions, seed=seed)


def _range(name: str, value: str) -> tuple[int, int]:
    low, _, high = value.partition(":")
    try:
        return int(low), int(high or low)
    except ValueError:
        raise UserError(f"--{name} {value}: expected lowest:highest, such as 120:210") from None


def _tell(found: "Texts") -> None:
    for refused in found.refused[:SHOWN]:
        place = f"line {refused.line}: " if refused.line else ""
        typer.echo(f"refused: {place}{refused.text[:60]!r}: {refused.reason}", err=True)
    if len(found.refused) > SHOWN:
        typer.echo(f"refused: {len(found.refused) - SHOWN} more; --json FILE names all", err=True)
    for reason, number in sorted(found.left_out.items()):
        typer.echo(f"left out: {number:,} of {reason}", err=True)


def _why_none(found: "Texts") -> str:
    if found.refused:
        return f"all {len(found.refused)} texts were refused, the first because {found.refused[0].reason}"
    if found.left_out:
        return "every row was left out: " + ", ".join(found.left_out)
    return "there is no text in it"


def _figures(out: Path, rows: Any) -> dict[str, Any]:
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


def _say_done(out: Path, summary: dict[str, Any]) -> None:
    from metavox.params import Validate

    if summary["inferred"]:
        typer.echo(
            f"{summary['inferred']:,} texts have figures or symbols: text_kind is inferred, write them out to be sure",
            err=True,
        )
    if summary["too_long"]:
        typer.echo(
            f"{summary['too_long']:,} utterances are longer than {Validate().max_duration_s:g} s, "
            f"the longest {summary['longest_s']:g} s: raise validate.max_duration_s, or break the texts up",
            err=True,
        )
    typer.echo(
        f"{out}: {summary['utterances']:,} utterances, {_time(summary['duration_s'])}, "
        f"{summary['voices']} voices in {', '.join(summary['languages'])}, digest {summary['digest']}"
    )
    typer.echo(f"next: metavox corpus add {out}")


def _time(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _progress(what: str, total: int) -> AbstractContextManager[Callable[[int], None]]:
    from contextlib import contextmanager

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    @contextmanager
    def shown() -> Any:
        columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
            task = bars.add_task(what, total=total)
            yield lambda done: bars.update(task, completed=done)

    return shown()


def _list(json_file: Path | None) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from metavox.sources.synthetic.espeak import variants
    from metavox.sources.synthetic.languages import languages

    if json_file:
        known = [vars(language) for language in languages().values()]
        write_json(json_file, {"languages": known, "voices": variants()})
    table = Table("code", "also", "language", box=box.SIMPLE, pad_edge=False)
    for language in languages().values():
        table.add_row(language.code, " ".join(language.aliases), language.name)
    console = Console()
    console.print(table)
    console.print(f"{len(variants())} voice variants: {', '.join(variants())}", highlight=False)
