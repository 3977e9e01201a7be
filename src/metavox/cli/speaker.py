"""`metavox speaker`: enrol, verify and identify speakers, and tell who speaks when."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from metavox.cli.options import Base, output
from metavox.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from metavox.recognisers.recogniser import Recogniser
    from metavox.recognition.speakers import SpeakerModel

app = typer.Typer(no_args_is_help=True, help="Speakers: enrol, verify, identify, and who speaks when.")
PROFILES = Path(".metavox/speakers")

Profiles = Annotated[Path, typer.Option(file_okay=False, help="Where enrolled speakers are kept.")]
Model = Annotated[
    Path | None,
    typer.Option(
        "--model", exists=True, help="A folder that `metavox speaker learn` wrote; by default the base's own."
    ),
]
Files = Annotated[list[Path], typer.Argument(metavar="FILE...", help="Recordings of one speaker.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def enroll(
    name: Annotated[str, typer.Argument(help="The name of the speaker.")],
    files: Files,
    base: Base = None,
    model: Model = None,
    profiles: Profiles = PROFILES,
) -> None:
    """Enrol a speaker from recordings, of which a few seconds of speech are enough."""
    from metavox.recognition.speakers import enrol, save_speaker
    from metavox.serve.store import check_name

    check_name(name)
    recogniser, speakers = _opened(base, model)
    speaker = enrol(speakers, recogniser, name, _read(files, recogniser))
    typer.echo(f"{name}: enrolled from {len(files)} recordings in {save_speaker(speaker, profiles)}")


@app.command()
def verify(
    name: Annotated[str, typer.Argument(help="The name of an enrolled speaker.")],
    files: Files,
    base: Base = None,
    model: Model = None,
    profiles: Profiles = PROFILES,
    threshold: Annotated[
        float | None, typer.Option(help="The least score; by default 1% of other speakers reach it.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Decide whether recordings are of an enrolled speaker. The exit status is 1 if one is not."""
    recogniser, speakers = _opened(base, model)
    scores = _scores(recogniser, speakers, profiles, files, [name])
    least = speakers.threshold if threshold is None else threshold
    results = [(path, row[name], row[name] >= least) for path, row in zip(files, scores, strict=True)]
    for path, score, accepted in results:
        value = {"file": str(path), "speaker": name, "score": _number(score), "accepted": bool(accepted)}
        verdict = f"{name}" if accepted else f"not {name}"
        typer.echo(
            json.dumps(value) if as_json else f"{path}: {verdict} (score {score:.2f}, threshold {least:.2f})"
        )
    if not all(accepted for *_, accepted in results):
        raise typer.Exit(1)


@app.command()
def identify(
    files: Files,
    base: Base = None,
    model: Model = None,
    profiles: Profiles = PROFILES,
    threshold: Annotated[
        float | None, typer.Option(help="The least score; by default 1% of other speakers reach it.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Name the enrolled speaker of each recording, or nobody."""
    recogniser, speakers = _opened(base, model)
    least = speakers.threshold if threshold is None else threshold
    for path, row in zip(files, _scores(recogniser, speakers, profiles, files), strict=True):
        best = max(row, key=lambda name: row[name])
        who = best if row[best] >= least else None
        ranked = {name: _number(score) for name, score in sorted(row.items(), key=lambda pair: -pair[1])}
        if as_json:
            typer.echo(json.dumps({"file": str(path), "speaker": who, "scores": ranked}))
        else:
            typer.echo(f"{path}: {who or 'nobody enrolled'} (best: {best}, score {row[best]:.2f})")


@app.command()
def diarize(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A recording of several speakers.")],
    speakers: Annotated[
        int | None, typer.Option(min=1, help="How many speakers there are; by default that is estimated.")
    ] = None,
    text: Annotated[bool, typer.Option("--text", help="Also transcribe, and print who says what.")] = False,
    rttm: Annotated[
        Path | None,
        typer.Option(dir_okay=False, help="Write the turns in NIST's RTTM form.", callback=output),
    ] = None,
    base: Base = None,
    model: Model = None,
) -> None:
    """Tell who speaks when in a recording, without knowing the speakers."""
    from dataclasses import replace

    from metavox.audio.read import read_audio
    from metavox.files import written_aside
    from metavox.recognition.diarization import as_rttm, with_speakers
    from metavox.recognition.diarization import diarize as turns_of
    from metavox.recognition.formats import written
    from metavox.session import session_on

    recogniser, speaker_model = _opened(base, model)
    samples = read_audio(file, recogniser.spec.sample_rate_hz)
    turns = turns_of(speaker_model, recogniser, samples, speakers)
    if rttm:
        with written_aside(rttm) as aside:
            aside.write_text(as_rttm(turns, file.stem), encoding="utf-8")
    if not text:
        for turn in turns:
            typer.echo(f"{turn.start_s:8.2f} {turn.end_s:8.2f}  speaker {turn.speaker}")
        return
    session = session_on(recogniser)
    transcript = replace(session, options=replace(session.options, word_times=True)).transcribe(samples)
    typer.echo(written({str(file): with_speakers(transcript, turns)}, "text", alone=True), nl=False)


@app.command()
def learn(
    manifest: Annotated[
        Path, typer.Argument(help="A table with the columns path,speaker; of a corpus, its training part.")
    ],
    out: Annotated[Path, typer.Option(file_okay=False, help="The folder to write.", callback=output)],
    base: Base = None,
    most: Annotated[int, typer.Option(min=2, help="Recordings of each speaker.")] = 60,
) -> None:
    """Learn to tell speakers apart with another base, or from other speakers."""
    import numpy as np

    from metavox.audio.read import read_audio
    from metavox.cli.tables import read_table
    from metavox.progress import track
    from metavox.recognisers.bases.find import find_base
    from metavox.recognition.speakers import check_folder, learn_speakers, pooled, save_speakers

    check_folder(out)
    rows = read_table(manifest, ("path", "speaker"))
    if "split" in rows.columns:
        rows = rows[rows["split"] == "train"]
    rows = rows.sample(frac=1, random_state=0).groupby("speaker").head(most)
    found = find_base(base)
    recogniser = found.load()
    states, names = [], []
    for row in track(list(rows.itertuples()), "listening", unit="recordings"):
        samples = read_audio(manifest.parent / str(row.path), recogniser.spec.sample_rate_hz)
        if 0.7 < len(samples) / recogniser.spec.sample_rate_hz < 30:
            states.append(pooled(recogniser, [samples])[0])
            names.append(str(row.speaker))
    if not states:
        raise UserError(
            f"{manifest}: no recording of 0.7 to 30 s among {len(rows)}; expected some of each speaker"
        )
    learned = learn_speakers(recogniser.spec.digest, np.stack(states), names)
    save_speakers(learned, out)
    typer.echo(
        f"{out}: learned from {len(names)} recordings of {len(set(names))} speakers; threshold {learned.threshold:.2f}"
    )


def _number(score: float) -> float | None:
    """A score for JSON, which has no infinity: None for a recording without speech."""
    return round(score, 3) if score > -float("inf") else None


def _opened(base: str | None, model: Path | None) -> "tuple[Recogniser, SpeakerModel]":
    from metavox.recognisers.bases.find import find_base
    from metavox.recognition.speakers import load_speakers, packaged_speakers

    recogniser = find_base(base).load()
    speakers = load_speakers(model) if model else packaged_speakers(recogniser.spec.digest)
    if speakers is None:
        raise UserError(
            f"{recogniser.spec.name} was not taught to tell speakers apart; run metavox speaker learn, and give its folder "
            "with --model"
        )
    if speakers.base != recogniser.spec.digest:
        raise UserError(
            f"{model}: learned with base {speakers.base[:12]}, but this is {recogniser.spec.name} "
            f"{recogniser.spec.digest[:12]}; learn it again with this base"
        )
    return recogniser, speakers


def _read(files: list[Path], recogniser: "Recogniser") -> "list[np.ndarray]":
    from metavox.audio.read import read_audio

    return [read_audio(path, recogniser.spec.sample_rate_hz) for path in files]


def _scores(
    recogniser: "Recogniser",
    model: "SpeakerModel",
    profiles: Path,
    files: list[Path],
    names: list[str] | None = None,
) -> list[dict[str, float]]:
    """The score of each enrolled speaker, or of those named, for each file."""
    import numpy as np

    from metavox.recognition.speakers import enrolled_speakers, pooled
    from metavox.recognition.speech import spoken_part

    speakers = enrolled_speakers(profiles, model)
    if not speakers:
        raise UserError(f"{profiles}: no speaker is enrolled there; run metavox speaker enroll NAME FILE...")
    if unknown := [name for name in names or [] if name not in {speaker.name for speaker in speakers}]:
        known = ", ".join(speaker.name for speaker in speakers)
        raise UserError(f"{profiles}: no speaker {unknown[0]!r}; expected one of {known}")
    recordings = _read(files, recogniser)
    embeddings = model.embed(pooled(recogniser, recordings))
    scores = model.scores(embeddings, np.stack([speaker.embedding for speaker in speakers]))
    for row, samples in zip(scores, recordings, strict=True):
        if not spoken_part(samples, recogniser.spec.sample_rate_hz):
            row[:] = -np.inf  # nobody
    return [
        {speaker.name: float(score) for speaker, score in zip(speakers, row, strict=True)} for row in scores
    ]
