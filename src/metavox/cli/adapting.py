"""`metavox adapt`: a few labelled recordings to a delta, and what to expect of it."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from metavox.cli.labelled import clips, labelled
from metavox.cli.options import Manifest, Model
from metavox.errors import UserError

if TYPE_CHECKING:
    import torch

    from metavox.cli.listening import Listener
    from metavox.learn.adapt import AdaptConfig, EnrolConfig
    from metavox.recognisers.conformer.delta import Delta

SHORT_S, SHORT_WORDS = 3.0, 3  # what counts as a word rather than an utterance
WORD_FOLDS, UTTERANCE_FOLDS = 5, 2  # a fold of words takes milliseconds, one of utterances a whole adaptation


def adapt(
    manifest: Manifest,
    out: Annotated[Path, typer.Option(file_okay=False, help="The folder of the delta to make.")],
    kind: Annotated[
        Literal["auto", "words", "utterances"],
        typer.Option(help="words: a vocabulary; utterances: a voice, room or language."),
    ] = "auto",
    model: Model = None,
    method: Annotated[
        Literal["prototypes", "head", "fine-tune"], typer.Option(help="How words are learned; words only.")
    ] = "head",
    false_accepts: Annotated[
        float,
        typer.Option(min=0.0001, max=0.5, help="Share of other words taken for one of these; words only."),
    ] = 0.05,
    spelling: Annotated[
        bool, typer.Option(help="Let letters that are heard count, as far as they are right; words only.")
    ] = True,
    steps: Annotated[int, typer.Option(min=1, max=10_000, help="Utterances only.")] = 30,
    learning_rate: Annotated[float, typer.Option(min=1e-6, max=1.0, help="Utterances only.")] = 3e-3,
    learned_rates: Annotated[
        bool,
        typer.Option(
            help="Each weight at the rate that Meta-SGD learned, in parts of --learning-rate; utterances only."
        ),
    ] = False,
    part: Annotated[
        Literal["norms", "head", "frontend", "all", "lowrank"],
        typer.Option(
            help="Of the weights; utterances only. frontend: what is before the encoder, a delta of bytes."
        ),
    ] = "norms",
    pull: Annotated[
        float, typer.Option(min=0.0, max=1000.0, help="Towards the base model; utterances only.")
    ] = 0.0,
    folds: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=20,
            help="Of cross-validation, which says what to expect; 0: none. Else 5 for words, 2 for utterances.",
        ),
    ] = None,
) -> None:
    """Learn a vocabulary, or a voice, from a few recordings; the model itself stays as it is."""
    from metavox.audio.features import extract, make_transform
    from metavox.cli.listening import load
    from metavox.corpus.manifest import read_manifest
    from metavox.learn.adapt import AdaptConfig, EnrolConfig
    from metavox.learn.adapt.support import remarks, usable_length
    from metavox.learn.meta.metasgd import relative_rates
    from metavox.recognisers.conformer.artifact import find_model
    from metavox.recognisers.conformer.delta import save_delta

    _check_out(out)
    rows = labelled(read_manifest(manifest), manifest)
    loaded = load(model)
    rates = relative_rates(find_model(model)) if learned_rates else {}
    texts, voices, samples = clips(rows, manifest, loaded)
    features = loaded.model.config.features
    if kind == "auto":
        kind, why = _kind(texts, [len(clip) / features.sample_rate_hz for clip in samples])
        typer.echo(f"{manifest}: taken as {kind}, because {why} (--kind says otherwise)")
    transform = make_transform(features)
    mels = [
        extract(clip, transform).clone() for clip in samples
    ]  # cloned: what inference made teaches nothing
    texts = _one_spelling(texts) if kind == "words" else texts
    for remark in remarks(mels, texts, features, kind == "words"):
        print(f"metavox: {remark}", file=sys.stderr)
    mels = [usable_length(m, features, kind == "words") for m in mels]
    if kind == "words":
        how = EnrolConfig(
            method,
            false_accepts=false_accepts,
            folds=WORD_FOLDS if folds is None else folds or 1,
            spelling=spelling,
        )
        made = _enrol(loaded, mels, texts, voices, how)
        what = f"{len(made.words)} words from {len(mels)} recordings"
    else:
        adaptation = AdaptConfig(
            steps,
            learning_rate,
            part,
            pull=pull,
            folds=UTTERANCE_FOLDS if folds is None else folds,
            rates={name: learning_rate * rate for name, rate in rates.items()},
            new_characters=True,
        )
        made, losses = _adapt_utterances(loaded, mels, texts, adaptation)
        ends = f"loss {losses[0]:.2f} -> {losses[-1]:.2f}" if losses else "as the base model does better"
        what = f"{made.about['shots']} recordings, {made.about['steps']} steps, {ends}"
    save_delta(made, out)
    size = sum(path.stat().st_size for path in out.iterdir())
    typer.echo(f"{out}: {what}; {size / 1000:.1f} kB for model {loaded.digest[:12]}")
    for line in _expectations(made):
        typer.echo(line)
    named = f" --model {model}" if model else ""
    typer.echo(f"next, on recordings that did not teach it: metavox score OTHERS.csv --delta {out}{named}")


def _kind(texts: list[str], durations_s: list[float]) -> tuple[Literal["words", "utterances"], str]:
    """What a set of recordings looks like, and why."""
    from metavox.recognisers.conformer.tokenizer import normalise_text

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


def _one_spelling(texts: list[str]) -> list[str]:
    """The first spelling of a word stands for those that differ in case or points only."""
    from metavox.recognisers.conformer.tokenizer import normalise_text

    first: dict[str, str] = {}
    return [first.setdefault(normalise_text(text) or text, text) for text in texts]


def _enrol(
    listener: "Listener", mels: list["torch.Tensor"], labels: list[str], voices: list[str], how: "EnrolConfig"
) -> "Delta":
    from metavox.cli.screen import waiting
    from metavox.learn.adapt import enrol_words

    def work() -> "Delta":
        return enrol_words(listener.model, listener.digest, mels, labels, how, voices)

    return waiting(f"learning {len(set(labels))} words", work)


def _adapt_utterances(
    listener: "Listener", mels: list["torch.Tensor"], texts: list[str], how: "AdaptConfig"
) -> tuple["Delta", list[float]]:
    """The delta, and the loss at each step."""
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
    return made, losses


def _expectations(made: "Delta") -> list[str]:
    """What cross-validation and the threshold promise, and what was new."""
    lines = []
    if made.characters:
        lines.append(f"new characters, which the model lacked: {' '.join(made.characters.alphabet)}")
    expected: Any = made.about.get("expected")
    if expected and "accuracy" in expected:
        lines.append(_words_line("these voices", expected, f"{expected['folds']}-fold on your recordings"))
        if other := made.about.get("expected_voices"):
            lines.append(_words_line("other voices", other, "each of your voices taught by the others"))
    elif expected:
        before, after = (
            "{:.0f} ± {:.0f}%".format(100 * expected[when]["mean"], 100 * expected[when]["ci95"])
            for when in ("cer_before", "cer")
        )
        lines.append(
            f"expected character errors on new recordings: {after}, without the delta {before} "
            f"({expected['folds']}-fold on your recordings)"
        )
    return lines


def _words_line(whose: str, expected: Any, how: str) -> str:
    accuracy, accepted = (
        "{:.0f}% ({:.0f} to {:.0f})".format(*(100 * expected[of][k] for k in ("mean", "low", "high")))
        for of in ("accuracy", "accepted")
    )
    return (
        f"expected accuracy on new clips of {whose}: {accuracy}; with the others rejected as unknown {accepted} "
        f"({how}, {expected['clips']} clips)"
    )


def _check_out(out: Path) -> None:
    if out.is_dir() and any(out.iterdir()) and not (out / "delta.json").is_file():
        raise UserError(f"--out {out}: holds something that is no delta; choose a new folder")
