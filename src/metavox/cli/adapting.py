"""`metavox adapt`: a few labelled recordings to a delta."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from metavox.cli.labelled import clips, labelled
from metavox.cli.options import Manifest, Model
from metavox.errors import UserError

if TYPE_CHECKING:
    import torch

    from metavox.cli.listening import Listener
    from metavox.learn.adapt import AdaptConfig
    from metavox.model.delta import Delta

SHORT_S, SHORT_WORDS = 3.0, 3  # what counts as a word rather than an utterance


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
    rows = labelled(read_manifest(manifest), manifest)
    loaded = load(model)
    texts, samples = clips(rows, manifest, loaded)
    rate = loaded.model.config.features.sample_rate_hz
    if kind == "auto":
        kind, why = _kind(texts, [len(clip) / rate for clip in samples])
        typer.echo(f"{manifest}: taken as {kind}, because {why} (--kind says otherwise)")
    transform = make_transform(loaded.model.config.features)
    mels = [
        extract(clip, transform).clone() for clip in samples
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
