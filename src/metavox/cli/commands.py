"""`metavox commands`: intents and slots of spoken commands."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from metavox.cli.options import Base, Deltas, Json, Language
from metavox.cli.tables import is_table, read_table
from metavox.errors import UserError

if TYPE_CHECKING:
    from metavox.recognition.commands import Command
    from metavox.recognition.grammar import Grammar
    from metavox.session import Session


def commands(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...|MANIFEST", help="Recordings, or a table with the columns path,intent,slots."
        ),
    ],
    grammar: Annotated[
        Path,
        typer.Option(exists=True, dir_okay=False, help="Sentence templates in Home Assistant's form (YAML)."),
    ],
    delta: Deltas = [],  # noqa: B006
    base: Base = None,
    language: Language = "",
    threshold: Annotated[
        float | None,
        typer.Option(help="The least score of a command; by default -8, or what --other-speech gives."),
    ] = None,
    other_speech: Annotated[
        Path | None,
        typer.Option(
            exists=True, help="A table of recordings that are no commands, to choose the threshold by."
        ),
    ] = None,
    false_accepts: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="The share of --other-speech that may be accepted.")
    ] = 0.01,
    actions: Annotated[
        Path | None,
        typer.Option(
            exists=True, dir_okay=False, help="What to do for each intent: a webhook or a Python function."
        ),
    ] = None,
    run: Annotated[
        bool, typer.Option("--run", help="Carry the actions out; by default they are printed.")
    ] = False,
    json_file: Json = None,
) -> None:
    """Understand spoken commands: the intent and slots of a grammar, or no command."""
    from metavox.cli.sessions import opened, with_deltas
    from metavox.files import write_json
    from metavox.recognisers.delta import load_delta
    from metavox.recognition.actions import load_actions
    from metavox.recognition.commands import THRESHOLD
    from metavox.recognition.grammar import load_grammar

    deltas = [load_delta(folder) for folder in delta]
    session = with_deltas(opened(base, language, deltas=deltas), delta, deltas)
    compiled = load_grammar(grammar, session.words)
    doing = load_actions(actions, compiled.intents) if actions else {}
    if other_speech:
        threshold = _threshold(session, compiled, other_speech, false_accepts)
    least = THRESHOLD if threshold is None else threshold
    if len(files) == 1 and is_table(files[0]):
        result = _score(session, compiled, files[0], least)
    else:
        found = understood(session, compiled, files, least)
        result = {str(path): command.as_dict() for path, command in zip(files, found, strict=True)}
        for path, command in zip(files, found, strict=True):
            typer.echo(line(command) if len(files) == 1 else f"{path}: {line(command)}")
            if command.intent is not None and command.intent in doing:
                action = doing[command.intent]
                typer.echo(f"  {action.run(command) if run else 'would do: ' + action.describe(command)}")
    if json_file:
        write_json(json_file, result)


def understood(
    session: "Session", grammar: "Grammar", files: list[Path], threshold: float
) -> "list[Command]":
    """The command in each file. An enrolled word that is a whole command is recognised by its recordings."""
    from metavox.audio.read import read_audio
    from metavox.progress import track
    from metavox.recognition.commands import Command, understand
    from metavox.recognition.speech import spoken_part

    out: list[Command] = []
    for path in track(files, "understanding", unit="files"):
        samples = read_audio(path, session.rate)
        longest_s = session.recogniser.spec.longest_s
        if len(samples) > longest_s * session.rate:
            raise UserError(
                f"{path}: {len(samples) / session.rate:.0f} s; a command lasts up to {longest_s:.0f} s; cut it, or use "
                "metavox spot or listen for a stream"
            )
        word = session.recognise_word(samples) if session.words else None
        meaning = grammar.meaning(word.word) if word and word.word else None
        if meaning is not None and word is not None:
            out.append(Command(meaning.intent, meaning.slots, str(word.word), word.similarities[0][1]))
        elif (part := spoken_part(samples, session.rate)) is None:
            out.append(Command(None))
        else:
            out += understand(session.recogniser, [part.samples], grammar, session.options, threshold)
    return out


def line(command: "Command") -> str:
    """A command on one line."""
    if command.intent is None:
        nearest = f" (nearest: {command.text!r}, score {command.score:.1f})" if command.text else ""
        return f"no command{nearest}"
    slots = " ".join(f"{name}={value!r}" for name, value in command.slots.items())
    return f"{command.intent} {slots}".strip() + f"  (score {command.score:.1f})"


def _slots(manifest: Path, text: str) -> dict[str, Any]:
    try:
        slots = json.loads(text or "{}")
    except ValueError:
        slots = None
    if not isinstance(slots, dict):
        raise UserError(f'{manifest}: slots {text[:40]!r}; expected JSON such as {{"area": "kitchen"}}')
    return slots


def _threshold(session: "Session", grammar: "Grammar", manifest: Path, false_accepts: float) -> float:
    from metavox.cli.manifests import labelled, read
    from metavox.recognition.commands import threshold_for, understand
    from metavox.recognition.speech import spoken_part

    recordings = read(labelled(manifest), manifest, session.rate)
    longest = session.recogniser.spec.longest_s * session.rate
    parts = (spoken_part(samples, session.rate) for samples in recordings.samples if len(samples) <= longest)
    clips = [part.samples for part in parts if part is not None]
    if not clips:
        raise UserError(
            f"{manifest}: no speech in recordings of up to {session.recogniser.spec.longest_s:.0f} s; cut them into sentences"
        )
    scores = [
        command.score
        for command in understand(session.recogniser, clips, grammar, session.options, -float("inf"))
    ]
    chosen = threshold_for(scores, false_accepts)
    typer.echo(
        f"threshold {chosen:.2f}: {false_accepts:.1%} of {len(clips)} recordings of other speech reach it"
    )
    return chosen


def _score(session: "Session", grammar: "Grammar", manifest: Path, threshold: float) -> dict[str, Any]:
    """Compare the commands of a table's recordings with its columns `intent` and `slots`, and print the shares."""
    from metavox.intervals import wilson

    rows = read_table(manifest, ("path", "intent"))
    slots = [_slots(manifest, text) for text in rows["slots"]] if "slots" in rows else [{}] * len(rows)
    files = [manifest.parent / path for path in rows["path"]]
    found = understood(session, grammar, files, threshold)
    right = []
    for command, intent, wanted in zip(found, rows["intent"], slots, strict=True):
        none = not intent.strip()
        right.append(
            command.intent is None if none else (command.intent, dict(command.slots)) == (intent, wanted)
        )
    rejected = sum(command.intent is None for command in found)
    typer.echo(
        f"accepted and right: {wilson(sum(right), len(right))}% of {len(right)} recordings; {rejected} were "
        "rejected"
    )
    return {
        "recordings": len(right),
        "right": sum(right),
        "rejected": rejected,
        "commands": {str(path): command.as_dict() for path, command in zip(files, found, strict=True)},
    }
