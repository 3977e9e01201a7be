"""`metavox demo`: serve the built bundle for a moment and call it as an application would."""

import hashlib
import json
import signal
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from metavox.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx
    import pandas as pd

BUNDLE, MANIFEST = Path("artifacts/bundle/metavox.tar"), Path("artifacts/validated/manifest.parquet")
DELTAS, EVALUATION = Path("artifacts/deltas"), Path("artifacts/metrics/evaluate.json")
REPORT = Path("artifacts/report/report.html")
STORE, OUT = Path(".metavox/demo-store"), Path(".metavox/demo")
MAX_TELEPHONE_CLIPS = 20
TRANSCRIPTIONS = "/v1/audio/transcriptions"


def demo() -> None:
    """Serve artifacts/bundle, transcribe and enrol over HTTP, and show what adaptation gains."""
    for path, stage in (
        (BUNDLE, "package"),
        (MANIFEST, "validate"),
        (DELTAS / "support.json", "adapt"),
        (EVALUATION, "evaluate"),
    ):
        if not path.is_file():
            raise UserError(f"{path}: no such file yet; run `make demo`, or `metavox stage {stage}`")
    import httpx

    from metavox.cli.demo_choice import choose_speaker, sentences_of, shared_words
    from metavox.dataset.manifest import read_manifest
    from metavox.serve.client import running_service

    rows = read_manifest(MANIFEST)
    rows["said"] = rows["text"].str.strip(' .,;:!?…"')
    support = json.loads((DELTAS / "support.json").read_text(encoding="utf-8"))
    evaluation = json.loads(EVALUATION.read_text(encoding="utf-8"))
    speaker = choose_speaker(rows, support)
    queries, shared = sentences_of(rows, speaker, support[speaker]), shared_words(rows)
    support_rows = rows[rows["path"].isin(support[speaker])]
    _write_examples(support_rows, queries, shared)
    typer.echo(f"serving {BUNDLE} to this machine only ...")
    with (
        _ended_by_sigterm(),
        running_service(BUNDLE, STORE, [DELTAS / speaker]) as address,
        httpx.Client(base_url=address, timeout=300, trust_env=False) as client,
    ):
        _speaker(client, speaker, queries, len(support[speaker]))
        _words(client, shared)
        _telephone(client, support_rows.head(MAX_TELEPHONE_CLIPS), queries)
    _headline(evaluation["headline"])
    _next_steps()


def _speaker(client: "httpx.Client", speaker: str, queries: "pd.DataFrame", support: int) -> None:
    """Transcribe a held-out speaker without and with the delta that the adapt stage learned from other recordings."""
    typer.echo(f"\n1. A held-out speaker ({speaker}), and a delta learned from {support} of their recordings")
    typer.echo(f"   POST {TRANSCRIPTIONS} with model=metavox, then with model=metavox:{speaker}")
    before, after = (
        _transcripts(client, [_audio(path) for path in queries["path"]], model)
        for model in ("metavox", f"metavox:{speaker}")
    )
    _show(queries["said"].tolist(), before, after, shown=3)


def _words(client: "httpx.Client", shared: "pd.DataFrame") -> None:
    """Enrol words of an unseen language from one speaker and recognise them from another."""
    from metavox.cli.demo_choice import some_words

    enroller, other = shared["speaker"].unique()
    language, words = shared["language"].iloc[0], some_words(shared)
    clips = {(row.speaker, row.word): row for row in shared.itertuples()}
    typer.echo(
        f"\n2. {len(words)} new words ({language}, a language without training data): POST /v1/vocabularies\n"
        f"   one recording of each word by {enroller} enrols it, one by {other} tests it"
    )
    enrolled = [clips[enroller, word] for word in words]
    _post(
        client,
        "/v1/vocabularies/demo-words",
        files=[("files", _audio(str(row.path))) for row in enrolled],
        data={"labels": [row.said for row in enrolled]},
    )
    accepted = nearest = 0
    for word in words:
        file = _audio(str(clips[other, word].path))
        answer = _post(client, "/v1/vocabularies/demo-words/recognitions", files={"file": file})
        said, best = clips[enroller, word].said, answer["similarities"][0]["word"]
        accepted, nearest = accepted + (answer["word"] == said), nearest + (best == said)
        shown = answer["word"] or f"none above the threshold, nearest {best}"
        typer.echo(f"   said {said:26.26s} recognised {shown}")
    typer.echo(
        f"   accepted and right: {accepted} of {len(words)}; nearest word right: {nearest} of {len(words)} "
        f"(by chance {1 / len(words):.0%}). More recordings of each word, by several speakers, raise both."
    )


def _telephone(client: "httpx.Client", support: "pd.DataFrame", queries: "pd.DataFrame") -> None:
    """Measure what a bad telephone line costs, and how much adaptation to that line recovers."""
    from metavox.cli.demo_choice import through_telephone

    support_clips = [through_telephone(path, seed) for seed, path in enumerate(support["path"])]
    query_clips = [through_telephone(path, 1000 + seed) for seed, path in enumerate(queries["path"])]
    typer.echo(
        "\n3. The same speaker over a bad telephone line (GSM, noise, lost packets), and what adaptation to "
        f"{len(support_clips)} recordings over that line recovers\n"
        "   POST /v1/voices/telephone with the recordings and their texts"
    )
    before = _transcripts(client, query_clips, "metavox")
    name = f"telephone-{_digest(BUNDLE.read_bytes(), *(clip for _, clip in support_clips))}"
    existing = client.get(f"/v1/deltas/{name}")
    if existing.is_success:
        typer.echo("   (using the last demo's delta, because nothing has changed since)")
    delta = (
        existing.json()
        if existing.is_success
        else _post(
            client,
            f"/v1/voices/{name}",
            files=[("files", clip) for clip in support_clips],
            data={"texts": support["text"].tolist()},
        )
    )
    after = _transcripts(client, query_clips, f"metavox:{name}")
    _show(queries["said"].tolist(), before, after, shown=2)
    for line in delta.get("expectations", ()):
        typer.echo(f"   {line}")


def _show(said: list[str], before: list[str], after: list[str], shown: int) -> None:
    """Print some of the sentences, evenly spaced rather than hand-picked, and the error rate over all of them."""
    from metavox.metrics.rates import word_errors
    from metavox.text import any_words

    for i in [(2 * k + 1) * len(said) // (2 * shown) for k in range(shown)]:
        typer.echo(f"   said    {said[i]}\n   before  {before[i]}\n   after   {after[i]}\n")
    rates = [word_errors(said, transcripts).interval() for transcripts in (before, after)]
    typer.echo(
        f"   {'word' if any_words(said) else 'character'} error rate in {len(said)} held-out sentences: "
        f"before {rates[0].percent()}, after {rates[1].percent()}"
    )


def _transcripts(client: "httpx.Client", recordings: "list[tuple[str, bytes]]", model: str) -> list[str]:
    from metavox.threads import side_by_side

    def transcribe(recording: tuple[str, bytes]) -> str:
        return str(_post(client, TRANSCRIPTIONS, files={"file": recording}, data={"model": model})["text"])

    return list(side_by_side(transcribe, recordings))


def _digest(*contents: bytes) -> str:
    total = hashlib.sha256()
    for content in contents:
        total.update(hashlib.sha256(content).digest())
    return total.hexdigest()[:12]


def _audio(path: str) -> tuple[str, bytes]:
    from metavox.audio.read import read_bytes

    return Path(path).name, read_bytes(Path("data") / path)


def _post(client: "httpx.Client", url: str, **content: Any) -> dict[str, Any]:
    response = client.post(url, **content)
    if response.is_error:
        raise UserError(
            f"POST {url}: status {response.status_code}, {response.text[:200]}; see .metavox/logs"
        )
    return dict(response.json())


def _headline(headline: dict[str, Any]) -> None:
    """Print the results over all held-out speakers, before and after."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from metavox.intervals import Interval

    typer.echo("\n4. All held-out speakers, % ± 95% interval")
    shots, recordings = headline["shots"], headline["recordings"]
    for title, names, columns in (
        (
            f"Error rates in sentences of held-out speakers ({headline['base']})",
            ("wer", "cer"),
            ("base alone", f"after {recordings} recordings of the speaker"),
        ),
        (
            f"New words ({headline['task']})",
            ("accuracy", "precision", "recall", "f1"),
            ("from the spelling alone", f"with {shots} recording{'s' * (shots > 1)} of each"),
        ),
    ):
        typer.echo(f"   {title}")
        table = Table(box=box.SIMPLE, pad_edge=False)
        for head in ("", *columns):
            table.add_column(head)
        for name in names:
            cells = [str(Interval.of(headline[name][when])) for when in ("before", "after")]
            table.add_row({"wer": "words", "cer": "characters"}.get(name, name), *cells)
        Console().print(table)


def _write_examples(support: "pd.DataFrame", queries: "pd.DataFrame", shared: "pd.DataFrame") -> None:
    """Write files for the commands that `_next_steps` suggests."""
    import soundfile

    from metavox.audio.read import read_audio
    from metavox.dataset.manifest import write_manifest

    OUT.mkdir(parents=True, exist_ok=True)
    soundfile.write(OUT / "sentence.wav", read_audio(Path("data") / queries["path"].iloc[0]), 16000)
    for name, rows in (
        ("adaptation", support),  # the names that the README gives
        ("evaluation", queries),
        ("words", shared.assign(text=shared["word"])),
    ):
        paths = rows["path"].map(lambda path: str((Path("data") / path).absolute()))
        write_manifest(rows.assign(path=paths)[["path", "text", "speaker", "language"]], OUT / f"{name}.csv")


def _next_steps() -> None:
    metavox = ".venv/bin/metavox" if Path(".venv/bin/metavox").is_file() else "metavox"
    typer.echo(f"Report: {REPORT.absolute()}\n\nNext:")
    typer.echo(f"  {metavox} transcribe {OUT}/sentence.wav --format srt")
    typer.echo(f"  {metavox} adapt {OUT}/adaptation.csv --out my-speaker")
    typer.echo(f"  {metavox} score {OUT}/evaluation.csv --delta my-speaker")
    typer.echo(f"  {metavox} serve --delta my-speaker")


@contextmanager
def _ended_by_sigterm() -> "Iterator[None]":
    """Make SIGTERM unwind the stack, so that the server is stopped as on Ctrl-C."""

    def end(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
