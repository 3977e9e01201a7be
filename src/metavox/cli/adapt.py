"""`metavox adapt`: learn a delta from a few labelled recordings, and predict how well it will do."""

import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from metavox.cli.options import Base, Language, Manifest, output
from metavox.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from metavox.adaptation.fine_tune import Record
    from metavox.adaptation.rehearsal import Rehearsal
    from metavox.cli.manifests import Labelled
    from metavox.recognisers.recogniser import Preset
    from metavox.session import Session
    from metavox.teaching import Taught, TeachConfig, TeachingSet

BUDGET_S, BUDGET_S_PER_RECORDING = 25.0, 3.0


def adapt(
    manifest: Manifest,
    out: Annotated[Path, typer.Option(file_okay=False, help="The folder of the new delta.", callback=output)],
    kind: Annotated[
        Literal["auto", "words", "utterances"],
        typer.Option(help="words: enrol a vocabulary; utterances: adapt to a speaker, room or language."),
    ] = "auto",
    base: Base = None,
    language: Language = "",
    method: Annotated[
        Literal["prototypes", "head", "fine-tune"],
        typer.Option(help="The method that learns words. Words only."),
    ] = "head",
    false_accepts: Annotated[
        float,
        typer.Option(min=0.0001, max=0.5, help="Share of other words to accept as one of these. Words only."),
    ] = 0.05,
    spelling: Annotated[
        bool, typer.Option(help="Let recognised letters count as far as they prove right. Words only.")
    ] = True,
    preset: Annotated[
        Literal["lora", "lora-encoder", "lora-decoder", "norms", "head", "last", "frontend", "all"] | None,
        typer.Option(help="The weights to train; by default the base's own choice. Utterances only."),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(
            min=1, max=10_000, help="Training steps; by default the base's own choice. Utterances only."
        ),
    ] = None,
    learning_rate: Annotated[
        float | None,
        typer.Option(min=1e-6, max=1.0, help="By default the base's own choice. Utterances only."),
    ] = None,
    budget: Annotated[
        float | None,
        typer.Option(
            min=1.0,
            metavar="SECONDS",
            help="Time to choose a recipe and to learn; by default 25 s plus 3 s per recording. Utterances only.",
        ),
    ] = None,
    folds: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=20,
            help="Folds of cross-validation, which chooses the recipe and predicts the result; 0 for none. By default 5 "
            "for words, 2 for utterances.",
        ),
    ] = None,
    l2_sp_weight: Annotated[
        float,
        typer.Option(
            min=0.0,
            max=1000.0,
            help="Weight of the penalty on the distance to the base's weights. Utterances only.",
        ),
    ] = 0.0,
    learned_rates: Annotated[
        bool,
        typer.Option(
            help="Train each weight at the rate that Meta-SGD learned, relative to --learning-rate. Conformer only."
        ),
    ] = False,
    general: Annotated[
        Path | None,
        typer.Option(
            metavar="MANIFEST",
            help="General speech to rehearse, which must not get worse; by default some that metavox finds. Utterances only.",
        ),
    ] = None,
    environment: Annotated[
        Path | None,
        typer.Option(
            help="A folder that `metavox augment learn` made, to augment some of the recordings. Only for bases that read "
            "samples."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Learn a vocabulary or adapt to a speaker from a few recordings. The base model itself never changes."""
    from metavox.cli.manifests import labelled, languages_of, read
    from metavox.cli.sessions import opened
    from metavox.session import open_for_words
    from metavox.teaching import kind_of, teach

    _check_out(out)
    rows = labelled(manifest)
    spoken = [language] if language else languages_of(rows)
    session = open_for_words(base) if kind != "utterances" else opened(base, language, spoken)
    recordings = read(rows, manifest, session.rate)
    teaching_set = as_teaching_set(recordings, spoken)
    if kind == "auto":
        kind, why = kind_of(session, teaching_set)
        typer.echo(f"{manifest}: treated as {kind}, because {why} (--kind overrides this)")
        sys.stdout.flush()
        if kind == "utterances":
            previous_rate, session = session.rate, opened(base, language, spoken)
            if session.rate != previous_rate:
                recordings = read(rows, manifest, session.rate)
                teaching_set = as_teaching_set(recordings, spoken)
    if kind == "words":
        config, rehearsal = _for_words(method, false_accepts, spelling, folds, seed), None
    else:
        rates = _learned_rates(session, base, learning_rate) if learned_rates else {}
        seconds = (
            budget if budget is not None else BUDGET_S + BUDGET_S_PER_RECORDING * len(recordings.samples)
        )
        config = _for_utterances(preset, learning_rate, steps, seconds, folds, l2_sp_weight, rates, seed)
        if environment:
            config = _with_environment(environment, config, session)
        rehearsal = _rehearsal(general, session, spoken)
    with _progress() as record:
        taught = teach(session, teaching_set, config, rehearsal, record)
    _finish(taught, out, len(recordings.samples), session, base)


def as_teaching_set(recordings: "Labelled", spoken: list[str]) -> "TeachingSet":
    """The readable recordings; those that name no language get the one in `spoken`, if it is the only one."""
    from metavox.cli.manifests import NO_LANGUAGE
    from metavox.teaching import TeachingSet

    default = spoken[0] if len(spoken) == 1 else ""
    languages = [default if language in NO_LANGUAGE else language for language in recordings.languages]
    return TeachingSet(recordings.samples, recordings.texts, recordings.speakers, recordings.paths, languages)


def _for_words(
    method: Literal["prototypes", "head", "fine-tune"],
    false_accepts: float,
    spelling: bool,
    folds: int | None,
    seed: int,
) -> "TeachConfig":
    from dataclasses import replace

    from metavox.teaching import TeachConfig

    default = TeachConfig("words")
    words = replace(
        default.words,
        method=method,
        false_accepts=false_accepts,
        spelling=spelling,
        folds=default.words.folds if folds is None else folds or 1,
        seed=seed,
    )
    return replace(default, words=words)


def _for_utterances(
    preset: "Preset | None",
    learning_rate: float | None,
    steps: int | None,
    budget_s: float,
    folds: int | None,
    l2_sp_weight: float,
    rates: dict[str, float],
    seed: int,
) -> "TeachConfig":
    from dataclasses import replace

    from metavox.teaching import TeachConfig

    default = TeachConfig("utterances")
    utterances = replace(
        default.utterances,
        preset=preset,
        learning_rate=learning_rate,
        steps=steps,
        budget_s=budget_s,
        folds=default.utterances.folds if folds is None else folds,
        l2_sp_weight=l2_sp_weight,
        rates=rates,
        seed=seed,
    )
    return replace(default, utterances=utterances)


def _with_environment(folder: Path, config: "TeachConfig", session: "Session") -> "TeachConfig":
    """Add the environment. Raises UserError for one of another sample rate, and for a base that does not read samples."""
    from dataclasses import replace

    from metavox.recognisers.bases.catalogue import CONFORMER
    from metavox.training.gan import SampleEnvironments, load_generator

    generator, spec = load_generator(folder), session.recogniser.spec
    rate = generator.config.features.sample_rate_hz
    if rate != session.rate or spec.kind == CONFORMER:
        raise UserError(
            f"--environment {folder}: it changes samples at {rate} Hz; {spec.name} reads "
            + (
                f"samples at {session.rate} Hz"
                if rate != session.rate
                else "log-mels, see metatrain.environment"
            )
        )
    return replace(config, utterances=replace(config.utterances, environment=SampleEnvironments(generator)))


def _learned_rates(session: "Session", base: str | None, learning_rate: float | None) -> dict[str, float]:
    """The learning rate of each weight that Meta-SGD stored with the base. Raises UserError if there are none."""
    from metavox.recognisers.bases.catalogue import CONFORMER
    from metavox.recognisers.bases.find import find_base
    from metavox.training.meta.metasgd import relative_rates

    spec = session.recogniser.spec
    if spec.kind != CONFORMER:
        raise UserError(
            f"--learned-rates: {spec.name} is of the kind {spec.kind}, which has none; leave the option out"
        )
    basis = learning_rate or session.recogniser.recipes(1)[0].learning_rate
    return {name: basis * rate for name, rate in relative_rates(find_base(base).folder).items()}


def _rehearsal(manifest: Path | None, session: "Session", spoken: list[str]) -> "Rehearsal | None":
    """General speech that must not get worse: the manifest's, else some in a language that the base knows."""
    from metavox.adaptation.rehearsal import Rehearsal, general_speech
    from metavox.cli.console import waiting
    from metavox.cli.manifests import labelled, read

    if manifest is None:
        known = session.recogniser.spec.languages
        language = session.options.language or next(
            (code for code in spoken if session.understands(code)),
            "en" if not known or "en" in known else known[0],
        )
        return waiting(f"general speech ({language})", lambda: general_speech(language, session.rate))
    recordings = read(labelled(manifest), manifest, session.rate)
    held_out = _held_out(recordings.speakers)
    if not any(held_out) or all(held_out):
        raise UserError(f"--general {manifest}: {len(held_out)} recordings; expected at least two")
    indices = [i for i, is_held_out in enumerate(held_out) if is_held_out]
    return Rehearsal(
        [samples for i, samples in enumerate(recordings.samples) if not held_out[i]],
        [recordings.samples[i] for i in indices],
        [recordings.texts[i] for i in indices],
        f"recordings of {manifest}",
    )


def _held_out(speakers: list[str]) -> list[bool]:
    """Which recordings to evaluate on, while the others are rehearsed: those of every other speaker, if there are several."""
    names = sorted(set(speakers))
    if len(names) > 1:
        return [names.index(speaker) % 2 == 1 for speaker in speakers]
    return [i % 2 == 1 for i in range(len(speakers))]


@contextmanager
def _progress() -> "Iterator[Record]":
    """Show a bar; yields the callback that updates it after every training step."""
    from metavox.progress import bar

    with bar("learning") as progress:
        yield lambda what, step, steps, loss: progress.advance(
            0, f"{what}, step {step} of {steps}, loss {loss:.2f}"
        )


def _finish(taught: "Taught", out: Path, recordings: int, session: "Session", base: str | None) -> None:
    """Save the delta; print what is wrong with the recordings, the predicted result, and what to do next."""
    from metavox.recognisers.delta import save_delta

    for remark in taught.warnings:
        print(f"metavox: {remark}", file=sys.stderr)
    delta = taught.delta
    if taught.kind == "words":
        what = f"{len(delta.words)} words from {recordings} recordings"
    else:
        used, steps, preset = (delta.about[name] for name in ("recordings", "steps", "preset"))
        learned = (
            f"{steps} steps of {preset}"
            if delta.changes_recogniser
            else "no change is kept, because of the checks below"
            if steps
            else "no change, because the base itself does better on held-out recordings"
        )
        what = f"{used} recordings, {learned}"
    save_delta(delta, out)
    size = sum(path.stat().st_size for path in out.iterdir())
    typer.echo(f"{out}: {what}; {size / 1000:.1f} kB for {delta.about['base_name']} ({delta.base[:12]})")
    for line in taught.expectations:
        typer.echo(line)
    option = f" --base {base}" if base else ""
    typer.echo(
        f"next, on recordings that it did not learn from: metavox score OTHERS.csv --delta {out}{option}"
    )


def _check_out(out: Path) -> None:
    if out.is_dir() and any(out.iterdir()) and not (out / "delta.json").is_file():
        raise UserError(f"--out {out}: exists and is not a delta; choose a new folder")
