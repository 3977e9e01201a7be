"""`metavox fewshot`, `adapt`, `score`, `transcribe`: what a few recordings teach, and how well."""

import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

import typer

from metavox.errors import UserError
from metavox.files import write_json, written_aside

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import torch

    from metavox.cli.listening import Listener
    from metavox.learn.adapt import AdaptConfig
    from metavox.model.delta import Delta
    from metavox.recognize.transcribe import Transcript

Manifest = Annotated[Path, typer.Argument(metavar="MANIFEST", help="A CSV: path,text,voice,language.")]
Model = Annotated[
    str | None, typer.Option(help="A model folder; without it the base model that comes with metavox.")
]
Deltas = Annotated[
    list[Path], typer.Option("--delta", help="A folder that `metavox adapt` made; may be repeated.")
]
Json = Annotated[Path | None, typer.Option("--json", dir_okay=False, help="Write the figures here.")]
T = TypeVar("T")

SHORT_S, SHORT_WORDS = 3.0, 3  # what counts as a word rather than an utterance
TRIED = 5  # unreadable recordings before the whole manifest is taken to be wrong


def fewshot(
    manifest: Manifest,
    way: Annotated[int, typer.Option(min=2, help="Words in an episode.")] = 10,
    shot: Annotated[int, typer.Option(min=1, help="Recordings that teach each word.")] = 5,
    queries: Annotated[int, typer.Option(min=1, help="Recordings of each word that are asked about.")] = 5,
    episodes: Annotated[int, typer.Option(min=1, help="Draws; intervals are over them.")] = 600,
    pairing: Annotated[
        Literal["same-voice", "cross-voice", "any"], typer.Option(help="Who is asked about.")
    ] = "same-voice",
    seed: Annotated[int, typer.Option(min=0)] = 0,
    json_file: Json = None,
    model: Model = None,
    method: Annotated[
        Literal["head", "prototypes"], typer.Option(help="What is learned from the recordings.")
    ] = "head",
    views: Annotated[int, typer.Option(min=0, max=64, help="Perturbed copies of each recording.")] = 4,
    mix_languages: Annotated[bool, typer.Option(help="Let an episode hold several languages.")] = False,
) -> None:
    """N-way K-shot recognition of the words of any labelled recordings, with 95% intervals."""
    from metavox.cli.listening import load
    from metavox.corpus.episodes import EpisodeShape
    from metavox.corpus.manifest import read_manifest
    from metavox.evaluate import fewshot as protocol

    rows = _labelled(read_manifest(manifest), manifest)
    if pairing == "cross-voice" and rows["voice"].str.strip().nunique() < 2:
        voice = rows["voice"].iloc[0] or "no name"
        raise UserError(
            f"{manifest}: all {len(rows)} recordings have one voice ({voice}), so none can be asked across; "
            "fill the column voice, or use --pairing any"
        )
    _check_readable(rows, manifest)
    loaded = load(model)
    shape = EpisodeShape(way, shot, queries, pairing)
    result = _waiting(
        f"{episodes} episodes of {way} words",
        lambda: protocol.fewshot(loaded.model, manifest, shape, episodes, seed, method, views, mix_languages),
    )
    _warn_unreadable(list(result.unreadable))
    rates = {name: getattr(result, name) for name in ("accuracy", "precision", "recall", "f1")}
    _table(
        f"{way}-way {shot}-shot, {pairing}, {episodes} episodes, {method}", ("", "%"),
        [(name, str(value)) for name, value in rates.items()]
        + [("adaptation", "{p50:.0f} ms (95 in 100 under {p95:.0f})".format(**result.adaptation_ms))],
    )  # fmt: skip
    if json_file:
        about = {
            "way": way, "shot": shot, "queries": queries, "pairing": pairing, "seed": seed,
            "method": method, "views": views, "mix_languages": mix_languages, "model": loaded.digest,
        }  # fmt: skip
        write_json(json_file, {**result.as_dict(), **about})


def adapt(
    manifest: Manifest,
    out: Annotated[Path, typer.Option(file_okay=False, help="The folder of the delta to make.")],
    kind: Annotated[
        Literal["auto", "words", "utterances"],
        typer.Option(help="words: a vocabulary; utterances: a voice, room or language."),
    ] = "auto",
    model: Model = None,
    steps: Annotated[int, typer.Option(min=1, max=10_000, help="Utterances only.")] = 30,
    learning_rate: Annotated[float, typer.Option(min=1e-6, max=1.0, help="Utterances only.")] = 3e-3,
    part: Annotated[
        Literal["norms", "head", "frontend", "all"],
        typer.Option(
            help="Of the weights; utterances only. frontend: what is before the encoder, a delta of bytes."
        ),
    ] = "norms",
) -> None:
    """Learn a vocabulary, or a voice, from a few recordings; the model itself stays as it is."""
    from metavox.audio.features import extract, make_transform
    from metavox.cli.listening import load
    from metavox.corpus.manifest import read_manifest
    from metavox.learn.adapt import AdaptConfig
    from metavox.model.delta import save_delta

    _check_out(out)
    rows = _labelled(read_manifest(manifest), manifest)
    loaded = load(model)
    texts, clips = _clips(rows, manifest, loaded)
    rate = loaded.model.config.features.sample_rate_hz
    if kind == "auto":
        kind, why = _kind(texts, [len(clip) / rate for clip in clips])
        typer.echo(f"{manifest}: taken as {kind}, because {why} (--kind says otherwise)")
    transform = make_transform(loaded.model.config.features)
    mels = [
        extract(clip, transform).clone() for clip in clips
    ]  # cloned: inference tensors cannot be learned from
    if kind == "words":
        made = _enrol(loaded, mels, texts)
        what = f"{len(made.words)} words from {len(mels)} recordings"
    else:
        made, first, last = _adapt_utterances(loaded, mels, texts, AdaptConfig(steps, learning_rate, part))
        what = f"{made.about['shots']} recordings, {steps} steps, loss {first:.2f} -> {last:.2f}"
    save_delta(made, out)
    size = sum(path.stat().st_size for path in out.iterdir())
    typer.echo(f"{out}: {what}; {size / 1000:.1f} kB for model {loaded.digest[:12]}")
    named = f" --model {model}" if model else ""
    typer.echo(f"next, on recordings that did not teach it: metavox score OTHERS.csv --delta {out}{named}")


def score(
    manifest: Manifest, delta: Deltas = [], model: Model = None, json_file: Json = None  # noqa: B006
) -> None:  # fmt: skip
    """Word and character errors, and accuracy on enrolled words, before and after deltas."""
    from metavox.cli.listening import before_and_after, load
    from metavox.corpus.manifest import read_manifest

    rows = _labelled(read_manifest(manifest), manifest)
    base = load(model)
    ears = {"before": base, **({"after": base.with_deltas(delta)} if delta else {})}
    texts, clips = _clips(rows, manifest, base)
    heard = {
        when: [one.hear(clip).text for clip in _track(clips, f"listening, {when}")]
        for when, one in ears.items()
    }
    vocabulary = ears["after"].words if delta else ()
    figures = before_and_after(texts, heard, vocabulary)
    title = f"{len(texts)} recordings" + (f", {', '.join(map(str, delta))}" if delta else ", no delta")
    lines = [(f"{name} %", *(str(by[when]) for when in ears)) for name, by in figures.rates.items()]
    _table(title, ("", *ears), lines)
    if vocabulary:
        typer.echo(f"accuracy, precision, recall, f1: {figures.enrolled} recordings whose text is enrolled")
    if json_file:
        about = {"model": base.digest, "deltas": list(map(str, delta)), "recordings": len(texts)}
        write_json(json_file, {**about, **figures.as_dict()})


def transcribe(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Sound or video files.")],
    form: Annotated[
        Literal["text", "json", "verbose_json", "srt", "vtt"],
        typer.Option("--format", help="How to write it."),
    ] = "text",
    delta: Deltas = [],  # noqa: B006
    model: Model = None,
    out: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Write it here, not to the screen.")
    ] = None,
) -> None:
    """What is said in recordings."""
    from metavox.audio.read import read_audio
    from metavox.cli.listening import load, written

    if form in ("srt", "vtt") and len(files) > 1:
        raise UserError(f"--format {form} with {len(files)} files; expected one file, or another --format")
    base = load(model)
    listener = base.with_deltas(delta) if delta else base
    heard: dict[str, Transcript] = {}
    failed = 0
    for path in files:
        try:
            heard[str(path)] = listener.hear(read_audio(path, base.rate))
        except UserError as error:
            if len(files) == 1:
                raise
            failed += 1
            print(f"metavox: {error}", file=sys.stderr)
    text = written(heard, form, alone=len(files) == 1)
    if out:
        with written_aside(out) as aside:
            aside.write_text(text, encoding="utf-8")
    else:
        typer.echo(text, nl=False)
    if failed:
        raise UserError(f"{failed} of {len(files)} files could not be read; the others are written")


def _labelled(rows: "pd.DataFrame", manifest: Path) -> "pd.DataFrame":
    """Rows with a text. Raises UserError when there is none."""
    found = rows.fillna({"text": "", "voice": "", "language": ""})
    found = found[found["text"].str.strip() != ""]
    if found.empty:
        raise UserError(f"{manifest}: no row with a text among {len(rows)}; expected labelled recordings")
    return found


def _check_readable(rows: "pd.DataFrame", manifest: Path) -> None:
    """A wrong folder is one clear line, not a lack of clips."""
    from metavox.audio.read import read_bytes
    from metavox.corpus.manifest import resolve

    first = ""
    for path in rows["path"].head(TRIED):
        try:
            read_bytes(resolve(manifest, str(path)))
            return
        except UserError as error:
            first = first or str(error)
    raise UserError(f"{first}, nor any of the next ones; a path is absolute or relative to {manifest}")


def _clips(
    rows: "pd.DataFrame", manifest: Path, listener: "Listener"
) -> tuple[list[str], list["np.ndarray"]]:
    """Texts and samples of the rows that can be read; says which cannot. Raises UserError when none can."""
    from metavox.audio.read import read_audio
    from metavox.corpus.manifest import resolve

    texts, clips, failed = [], [], []
    for row in _track(list(rows.itertuples()), "reading"):
        try:
            clips.append(read_audio(resolve(manifest, str(row.path)), listener.rate))
            texts.append(" ".join(str(row.text).split()))
        except UserError as error:
            failed.append(str(error))
    if not clips:
        raise UserError(f"{failed[0]}; none of {len(failed)} recordings can be read")
    _warn_unreadable(failed)
    return texts, clips


def _warn_unreadable(reasons: list[str]) -> None:
    if reasons:
        print(
            f"metavox: {len(reasons)} recordings cannot be read and are left out; the first: {reasons[0]}",
            file=sys.stderr,
        )


def _kind(texts: list[str], durations_s: list[float]) -> tuple[Literal["words", "utterances"], str]:
    """What a set of recordings looks like, and why."""
    from metavox.model.tokenizer import normalise_text

    longest = max(len(text.split()) for text in texts)
    if longest > SHORT_WORDS:
        return "utterances", f"a text has {longest} words"
    said = [normalise_text(text) for text in texts]
    if min(map(said.count, set(said))) > 1:
        return (
            "words",
            f"each of its {len(set(said))} texts, of {longest} words at most, is said more than once",
        )
    if max(durations_s) <= SHORT_S:
        return "words", f"texts have {longest} words at most and recordings {SHORT_S:.0f} s"
    return "utterances", f"a recording of {max(durations_s):.1f} s is too long for a word"


def _enrol(listener: "Listener", mels: list["torch.Tensor"], texts: list[str]) -> "Delta":
    """The first spelling of a word stands for those that differ in case or points only."""
    from metavox.learn.adapt import enrol_words
    from metavox.model.tokenizer import normalise_text

    spelling: dict[str, str] = {}
    labels = [spelling.setdefault(normalise_text(text) or text, text) for text in texts]
    return enrol_words(listener.model, listener.digest, mels, labels)


def _adapt_utterances(
    listener: "Listener", mels: list["torch.Tensor"], texts: list[str], how: "AdaptConfig"
) -> tuple["Delta", float, float]:
    """The delta, and the loss at its first and last step."""
    from rich.console import Console
    from rich.progress import Progress

    from metavox.learn.adapt import adapt_utterances

    losses: list[float] = []
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("adapting", total=how.steps)

        def record(step: int, loss: float) -> None:
            losses.append(loss)
            bar.update(task, completed=step + 1)

        made = adapt_utterances(listener.model, listener.digest, mels, texts, how, record)
    return made, losses[0], losses[-1]


def _check_out(out: Path) -> None:
    if out.is_dir() and any(out.iterdir()) and not (out / "delta.json").is_file():
        raise UserError(f"--out {out}: holds something that is no delta; choose a new folder")


def _track(items: Sequence[T], what: str) -> Iterable[T]:
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    return track(items, what, console=console, transient=True, disable=not console.is_terminal)


def _waiting(what: str, work: Callable[[], T]) -> T:
    from rich.console import Console

    with Console(stderr=True).status(what):
        return work()


def _table(title: str, heads: tuple[str, ...], lines: Sequence[tuple[str, ...]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    typer.echo(title)
    table = Table(box=box.SIMPLE, pad_edge=False)
    for head in heads:
        table.add_column(head)
    for line in lines:
        table.add_row(*line)
    Console().print(table)
