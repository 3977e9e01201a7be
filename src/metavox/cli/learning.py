"""`metavox fewshot`: what a few recordings of any words teach."""

from typing import Annotated, Literal

import typer

from metavox.cli.labelled import check_readable, labelled, warn_unreadable
from metavox.cli.options import Json, Manifest, Model
from metavox.cli.screen import table, waiting
from metavox.errors import UserError
from metavox.files import write_json


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

    rows = labelled(read_manifest(manifest), manifest)
    if pairing == "cross-voice" and rows["voice"].str.strip().nunique() < 2:
        voice = rows["voice"].iloc[0] or "no name"
        raise UserError(
            f"{manifest}: all {len(rows)} recordings have one voice ({voice}), so none can be asked across; "
            "fill the column voice, or use --pairing any"
        )
    check_readable(rows, manifest)
    loaded = load(model)
    shape = EpisodeShape(way, shot, queries, pairing)
    result = waiting(
        f"{episodes} episodes of {way} words",
        lambda: protocol.fewshot(loaded.model, manifest, shape, episodes, seed, method, views, mix_languages),
    )
    warn_unreadable(list(result.unreadable))
    rates = {name: getattr(result, name) for name in ("accuracy", "precision", "recall", "f1")}
    table(
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
