"""`metavox adapt`: a few labelled recordings to a delta, and what to expect of it."""

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

BUDGET_S, BUDGET_S_A_RECORDING = 25.0, 3.0


def adapt(
    manifest: Manifest,
    out: Annotated[
        Path, typer.Option(file_okay=False, help="The folder of the delta to make.", callback=output)
    ],
    kind: Annotated[
        Literal["auto", "words", "utterances"],
        typer.Option(help="words: a vocabulary; utterances: a speaker, room or language."),
    ] = "auto",
    base: Base = None,
    language: Language = "",
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
    preset: Annotated[
        Literal["lora", "lora-encoder", "lora-decoder", "norms", "head", "last", "frontend", "all"] | None,
        typer.Option(help="Which weights learn; without it the base's own choice. Utterances only."),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, max=10_000, help="Without it the base's own. Utterances only.")
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(min=1e-6, max=1.0, help="Without it the base's own. Utterances only.")
    ] = None,
    budget: Annotated[
        float | None,
        typer.Option(
            min=1.0,
            metavar="SECONDS",
            help="For learning and for choosing how; without it 25 and 3 a recording. Utterances only.",
        ),
    ] = None,
    folds: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=20,
            help="Of cross-validation, which chooses and says what to expect; 0: none. Else 5 for words, 2 for utterances.",
        ),
    ] = None,
    l2_sp_weight: Annotated[
        float, typer.Option(min=0.0, max=1000.0, help="A pull towards the base; utterances only.")
    ] = 0.0,
    learned_rates: Annotated[
        bool,
        typer.Option(
            help="Each weight at the rate that Meta-SGD learned, in parts of --learning-rate; conformer only."
        ),
    ] = False,
    general: Annotated[
        Path | None,
        typer.Option(
            metavar="MANIFEST",
            help="Other speech, which is rehearsed and must not get worse; without it some that metavox finds. Utterances only.",
        ),
    ] = None,
    environment: Annotated[
        Path | None,
        typer.Option(
            help="A folder that `augment learn` made: a part of the recordings is moved there. Bases that hear samples only."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Learn a vocabulary, or a speaker, from a few recordings; the base itself stays as it is."""
    from metavox.cli.manifests import labelled, languages_of, read
    from metavox.cli.sessions import opened
    from metavox.session import open_for_words
    from metavox.teaching import kind_of, teach

    _check_out(out)
    rows = labelled(manifest)
    spoken = [language] if language else languages_of(rows)
    session = open_for_words(base) if kind != "utterances" else opened(base, language, spoken)
    said = read(rows, manifest, session.rate)
    taught_with = _teaching_set(said, spoken)
    if kind == "auto":
        kind, why = kind_of(session, taught_with)
        typer.echo(f"{manifest}: taken as {kind}, because {why} (--kind says otherwise)")
        sys.stdout.flush()
        if kind == "utterances":
            heard_at, session = session.rate, opened(base, language, spoken)
            if session.rate != heard_at:
                said = read(rows, manifest, session.rate)
                taught_with = _teaching_set(said, spoken)
    if kind == "words":
        config, rehearsal = _for_words(method, false_accepts, spelling, folds, seed), None
    else:
        rates = _learned_rates(session, base, learning_rate) if learned_rates else {}
        seconds = budget if budget is not None else BUDGET_S + BUDGET_S_A_RECORDING * len(said.samples)
        config = _for_utterances(preset, learning_rate, steps, seconds, folds, l2_sp_weight, rates, seed)
        if environment:
            config = _moved_to(environment, config, session)
        rehearsal = _general(general, session, spoken)
    with _shown() as record:
        taught = teach(session, taught_with, config, rehearsal, record)
    _finish(taught, out, len(said.samples), session, base)


def _teaching_set(said: "Labelled", spoken: list[str]) -> "TeachingSet":
    """What the manifest's readable rows teach; `spoken` is the language of those that name none."""
    from metavox.cli.manifests import NO_LANGUAGE
    from metavox.teaching import TeachingSet

    only = spoken[0] if len(spoken) == 1 else ""
    languages = [only if language in NO_LANGUAGE else language for language in said.languages]
    return TeachingSet(said.samples, said.texts, said.speakers, said.paths, languages)


def _for_words(
    method: Literal["prototypes", "head", "fine-tune"],
    false_accepts: float,
    spelling: bool,
    folds: int | None,
    seed: int,
) -> "TeachConfig":
    from dataclasses import replace

    from metavox.teaching import TeachConfig

    usual = TeachConfig("words")
    chosen = usual.words.folds if folds is None else folds or 1
    words = replace(
        usual.words, method=method, false_accepts=false_accepts, spelling=spelling, folds=chosen, seed=seed
    )
    return replace(usual, words=words)


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

    usual = TeachConfig("utterances")
    chosen = usual.utterances.folds if folds is None else folds
    utterances = replace(
        usual.utterances,
        preset=preset,
        learning_rate=learning_rate,
        steps=steps,
        budget_s=budget_s,
        folds=chosen,
        l2_sp_weight=l2_sp_weight,
        rates=rates,
        seed=seed,
    )
    return replace(usual, utterances=utterances)


def _moved_to(folder: Path, config: "TeachConfig", session: "Session") -> "TeachConfig":
    """Raises UserError for an environment of another rate, and for a base that does not hear samples."""
    from dataclasses import replace

    from metavox.recognisers.bases.catalogue import CONFORMER
    from metavox.training.gan import SampleEnvironments, load_generator

    generator, spec = load_generator(folder), session.recogniser.spec
    rate = generator.config.features.sample_rate_hz
    if rate != session.rate or spec.kind == CONFORMER:
        raise UserError(
            f"--environment {folder}: it moves samples at {rate} Hz; {spec.name} hears "
            + (f"{session.rate} Hz" if rate != session.rate else "log-mels, see metatrain.environment")
        )
    return replace(config, utterances=replace(config.utterances, environment=SampleEnvironments(generator)))


def _learned_rates(session: "Session", base: str | None, learning_rate: float | None) -> dict[str, float]:
    """Each weight's own rate, as Meta-SGD left them beside the base. Raises UserError where there are none."""
    from metavox.recognisers.bases.catalogue import CONFORMER
    from metavox.recognisers.bases.find import find_base
    from metavox.training.meta.metasgd import relative_rates

    spec = session.recogniser.spec
    if spec.kind != CONFORMER:
        raise UserError(
            f"--learned-rates: {spec.name} is of the kind {spec.kind}, which has none; leave it out"
        )
    usual = learning_rate or session.recogniser.recipes(1)[0].learning_rate
    return {name: usual * rate for name, rate in relative_rates(find_base(base).folder).items()}


def _general(manifest: Path | None, session: "Session", spoken: list[str]) -> "Rehearsal | None":
    """Speech that is not to get worse: of the manifest, else of a language that the base knows."""
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
    said = read(labelled(manifest), manifest, session.rate)
    judged = _every_other_speaker(said)
    if not any(judged) or all(judged):
        raise UserError(f"--general {manifest}: {len(judged)} recordings; expected two or more")
    by = [i for i, one in enumerate(judged) if one]
    return Rehearsal(
        [s for s, one in zip(said.samples, judged, strict=True) if not one],
        [said.samples[i] for i in by],
        [said.texts[i] for i in by],
        f"recordings of {manifest}",
    )


def _every_other_speaker(said: "Labelled") -> list[bool]:
    """Which recordings are judged by, so that the others can be rehearsed: of every other speaker, where there are several."""
    speakers = sorted(set(said.speakers))
    if len(speakers) > 1:
        return [speakers.index(speaker) % 2 == 1 for speaker in said.speakers]
    return [i % 2 == 1 for i in range(len(said.speakers))]


@contextmanager
def _shown() -> "Iterator[Record]":
    """What is to be told after every step of learning."""
    from metavox.progress import bar

    with bar("learning") as progress:
        yield lambda what, step, steps, loss: progress.advance(
            0, f"{what}, step {step} of {steps}, loss {loss:.2f}"
        )


def _finish(taught: "Taught", out: Path, recordings: int, session: "Session", base: str | None) -> None:
    """Save the delta; say what is wrong with the recordings, what to expect, and what to do next."""
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
            else "nothing is kept, for what the checks below found"
            if steps
            else "nothing, as the base itself does better on recordings that were held out"
        )
        what = f"{used} recordings, {learned}"
    save_delta(delta, out)
    size = sum(path.stat().st_size for path in out.iterdir())
    typer.echo(f"{out}: {what}; {size / 1000:.1f} kB for {delta.about['base_name']} ({delta.base[:12]})")
    for line in taught.expectations:
        typer.echo(line)
    named = f" --base {base}" if base else ""
    typer.echo(f"next, on recordings that did not teach it: metavox score OTHERS.csv --delta {out}{named}")


def _check_out(out: Path) -> None:
    if out.is_dir() and any(out.iterdir()) and not (out / "delta.json").is_file():
        raise UserError(f"--out {out}: holds something that is no delta; choose a new folder")
