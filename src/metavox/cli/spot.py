"""`metavox spot`: enrolled words in a stream."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from metavox.cli.options import Deltas, Embedder
from metavox.errors import UserError

if TYPE_CHECKING:
    from metavox.recognisers.delta import Vocabulary
    from metavox.recognisers.recogniser import WordEmbedder
    from metavox.recognition.spotting import Spotted


def spot(
    source: Annotated[
        str, typer.Argument(metavar="FILE|-|mic", help="A recording, - for PCM on standard input, or mic.")
    ],
    delta: Deltas,
    embedder: Embedder = None,
    threshold: Annotated[
        float | None, typer.Option(help="The least score of a word; by default the vocabulary's own.")
    ] = None,
    other_speech: Annotated[
        Path | None,
        typer.Option(
            exists=True, help="A table of recordings without the words, to choose the threshold by."
        ),
    ] = None,
    false_accepts: Annotated[
        float, typer.Option(min=0.0, help="False accepts an hour that --other-speech may give.")
    ] = 1.0,
    pace: Annotated[
        Literal["real", "fast"], typer.Option(help="Play a recording in real time, or fast.")
    ] = "fast",
    rate: Annotated[int, typer.Option(help="Samples a second on standard input (signed 16-bit).")] = 16000,
    events: Annotated[bool, typer.Option("--json", help="Print one JSON object for each word.")] = False,
) -> None:
    """Find enrolled words in continuous audio: wake words and keywords."""
    from metavox.cli.listen import checked_rate, chunks
    from metavox.recognisers.delta import load_delta
    from metavox.recognisers.delta import vocabulary as words_of
    from metavox.recognition.spotting import BATCH_S, HOP_S, Spotter
    from metavox.session import open_for_words

    checked_rate(rate)
    words = words_of([load_delta(folder) for folder in delta])
    if words is None:
        raise UserError(
            "no vocabulary among the deltas; enrol words with metavox adapt, and give it with --delta"
        )
    session = open_for_words(embedder)
    network = session.embedder_of(words)
    if network is None:
        raise UserError(
            f"the words were enrolled with the embedder {words.embedder[:12]}, which is not here; select it with --embedder"
        )
    if other_speech:
        threshold = _chosen(network, words, other_speech, false_accepts)
    live = source in ("-", "mic") or pace == "real"
    spotter = Spotter(network, words, threshold, every_s=HOP_S if live else BATCH_S)
    count = 0
    for samples, _ in chunks(source, network.spec.sample_rate_hz, rate, pace):
        for found in spotter.push(samples):
            count += 1
            _show(found, events)
    for found in spotter.end():
        count += 1
        _show(found, events)
    if not events:
        typer.echo(f"{count} words in {spotter.heard_s:.0f} s")


def _show(found: "Spotted", events: bool) -> None:
    if events:
        typer.echo(
            json.dumps({k: round(v, 3) if isinstance(v, float) else v for k, v in vars(found).items()})
        )
    else:
        typer.echo(f"{found.start_s:8.2f} s  {found.word}  (score {found.score:.2f})")


def _chosen(embedder: "WordEmbedder", words: "Vocabulary", manifest: Path, false_accepts: float) -> float:
    from metavox.cli.manifests import labelled, read
    from metavox.recognition.spotting import BATCH_S, Spotter, best_scores, threshold_for

    recordings = read(labelled(manifest), manifest, embedder.spec.sample_rate_hz)
    hours = sum(map(len, recordings.samples)) / embedder.spec.sample_rate_hz / 3600
    scores = best_scores(Spotter(embedder, words, every_s=BATCH_S), recordings.samples)
    chosen = threshold_for(scores, hours, false_accepts)
    typer.echo(
        f"threshold {chosen:.3f}: {false_accepts:g} false accepts an hour in {hours:.2f} hours of other speech"
        + ("; less than an hour says little about rarer ones" if hours * false_accepts < 1 else "")
    )
    return chosen
