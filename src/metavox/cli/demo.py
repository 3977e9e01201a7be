"""`metavox demo`: the built bundle served for a moment, and called as an application would call it."""

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
DELTAS, EVALUATED = Path("artifacts/deltas"), Path("artifacts/metrics/evaluate.json")
REPORT = Path("artifacts/report/report.html")
STORE, OUT = Path(".metavox/demo-store"), Path(".metavox/demo")
TELEPHONE = 20  # recordings over the line, at most
TRANSCRIPTIONS = "/v1/audio/transcriptions"


def demo() -> None:
    """Serve artifacts/bundle, transcribe and enrol over HTTP, and show what adaptation was worth."""
    for path, makes in (
        (BUNDLE, "package"),
        (MANIFEST, "validate"),
        (DELTAS / "support.json", "adapt"),
        (EVALUATED, "evaluate"),
    ):
        if not path.is_file():
            raise UserError(f"{path}: not made yet; run `make demo`, or `metavox stage {makes}`")
    import httpx

    from metavox.cli.demo_choice import sentences_of, shared_words, speaker
    from metavox.dataset.manifest import read_manifest
    from metavox.serve.client import running_service

    rows = read_manifest(MANIFEST)
    rows["said"] = rows["text"].str.strip(' .,;:!?…"')
    support = json.loads((DELTAS / "support.json").read_text(encoding="utf-8"))
    evaluated = json.loads(EVALUATED.read_text(encoding="utf-8"))
    who = speaker(rows, support)
    asked, shared = sentences_of(rows, who, support[who]), shared_words(rows)
    taught = rows[rows["path"].isin(support[who])]
    _write_examples(taught, asked, shared)
    typer.echo(f"serving {BUNDLE} on this machine only ...")
    with (
        _ended_by_sigterm(),
        running_service(BUNDLE, STORE, [DELTAS / who]) as address,
        httpx.Client(base_url=address, timeout=300, trust_env=False) as client,
    ):
        _speaker(client, who, asked, len(support[who]))
        _words(client, shared)
        _telephone(client, who, taught.head(TELEPHONE), asked)
    _headline(evaluated["headline"])
    _next()


def _speaker(client: "httpx.Client", who: str, asked: "pd.DataFrame", taught: int) -> None:
    """A held-out speaker before and after the delta that the adapt stage made of other recordings."""
    typer.echo(
        f"\n1. A speaker nobody trained on ({who}), and the delta that {taught} of their recordings made"
    )
    typer.echo(f"   POST {TRANSCRIPTIONS} with model=metavox, then with model=metavox:{who}")
    before, after = (
        _transcripts(client, [_audio(path) for path in asked["path"]], model)
        for model in ("metavox", f"metavox:{who}")
    )
    _show(asked["said"].tolist(), before, after, shown=3)


def _words(client: "httpx.Client", shared: "pd.DataFrame") -> None:
    """New words of a language that was not trained on, taught by one speaker and asked of another."""
    from metavox.cli.demo_choice import some_words

    teacher, other = shared["speaker"].unique()
    language, words = shared["language"].iloc[0], some_words(shared)
    clips = {(row.speaker, row.word): row for row in shared.itertuples()}
    typer.echo(
        f"\n2. {len(words)} new words ({language}, a language it was not trained on): POST /v1/vocabularies\n"
        f"   taught by one recording each of {teacher}, asked of {other}"
    )
    taught = [clips[teacher, word] for word in words]
    _post(
        client,
        "/v1/vocabularies/demo-words",
        files=[("files", _audio(str(row.path))) for row in taught],
        data={"labels": [row.said for row in taught]},
    )
    sure = nearest = 0
    for word in words:
        file = _audio(str(clips[other, word].path))
        heard = _post(client, "/v1/vocabularies/demo-words/recognitions", files={"file": file})
        said, best = clips[teacher, word].said, heard["similarities"][0]["word"]
        sure, nearest = sure + (heard["word"] == said), nearest + (best == said)
        found = heard["word"] or f"none of them for certain, nearest {best}"
        typer.echo(f"   said {said:26.26s} heard {found}")
    typer.echo(
        f"   for certain {sure} of {len(words)}, nearest {nearest} of {len(words)}; by chance {1 / len(words):.0%}. "
        "More recordings of each, by several speakers, make it surer."
    )


def _telephone(client: "httpx.Client", who: str, support: "pd.DataFrame", asked: "pd.DataFrame") -> None:
    """What a bad telephone line costs, and what recordings through that line win back."""
    from metavox.cli.demo_choice import through_telephone

    taught = [through_telephone(path, seed) for seed, path in enumerate(support["path"])]
    queries = [through_telephone(path, 1000 + seed) for seed, path in enumerate(asked["path"])]
    typer.echo(
        f"\n3. The same speaker over a bad telephone line (GSM, noise, lost packets), and what {len(taught)} recordings over "
        "that line win back\n   POST /v1/voices/telephone with the recordings and their texts"
    )
    before = _transcripts(client, queries, "metavox")
    name = f"telephone-{_digest(BUNDLE.read_bytes(), *(clip for _, clip in taught))}"
    known = client.get(f"/v1/deltas/{name}")
    if known.is_success:
        typer.echo("   (the last demo's delta: nothing has changed since)")
    learned = (
        known.json()
        if known.is_success
        else _post(
            client,
            f"/v1/voices/{name}",
            files=[("files", clip) for clip in taught],
            data={"texts": support["text"].tolist()},
        )
    )
    after = _transcripts(client, queries, f"metavox:{name}")
    _show(asked["said"].tolist(), before, after, shown=2)
    for line in learned.get("expectations", ()):
        typer.echo(f"   {line}")


def _show(said: list[str], before: list[str], after: list[str], shown: int) -> None:
    """Some of the sentences, evenly apart and not picked for how they went, and the words wrong in all of them."""
    from metavox.metrics.rates import word_errors
    from metavox.text import any_words

    for i in [(2 * k + 1) * len(said) // (2 * shown) for k in range(shown)]:
        typer.echo(f"   said    {said[i]}\n   before  {before[i]}\n   after   {after[i]}\n")
    wrong = [word_errors(said, heard).interval() for heard in (before, after)]
    typer.echo(
        f"   {'words' if any_words(said) else 'characters'} wrong in {len(said)} sentences that taught nothing: "
        f"before {wrong[0].percent()}, after {wrong[1].percent()}"
    )


def _transcripts(client: "httpx.Client", recordings: "list[tuple[str, bytes]]", model: str) -> list[str]:
    from metavox.threads import side_by_side

    def ask(one: tuple[str, bytes]) -> str:
        return str(_post(client, TRANSCRIPTIONS, files={"file": one}, data={"model": model})["text"])

    return list(side_by_side(ask, recordings))


def _digest(*contents: bytes) -> str:
    total = hashlib.sha256()
    for one in contents:
        total.update(hashlib.sha256(one).digest())
    return total.hexdigest()[:12]


def _audio(path: str) -> tuple[str, bytes]:
    from metavox.audio.read import read_bytes

    return Path(path).name, read_bytes(Path("data") / path)


def _post(client: "httpx.Client", url: str, **what: Any) -> dict[str, Any]:
    reply = client.post(url, **what)
    if reply.is_error:
        raise UserError(f"POST {url}: status {reply.status_code}, {reply.text[:200]}; see .metavox/logs")
    return dict(reply.json())


def _headline(headline: dict[str, Any]) -> None:
    """Before and after, over all held-out speakers; each table says what its columns are."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from metavox.intervals import Interval

    typer.echo("\n4. All held-out speakers, % ± 95% interval")
    shots, recordings = headline["shots"], headline["recordings"]
    for title, names, columns in (
        (
            f"Wrong in sentences of speakers nobody trained on ({headline['base']})",
            ("wer", "cer"),
            ("the base alone", f"after {recordings} recordings of the speaker"),
        ),
        (
            f"New words ({headline['task']})",
            ("accuracy", "precision", "recall", "f1"),
            ("told their spelling", f"and {shots} recording{'s' * (shots > 1)} of each"),
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


def _write_examples(taught: "pd.DataFrame", asked: "pd.DataFrame", shared: "pd.DataFrame") -> None:
    """Files for the commands that `_next` proposes."""
    import soundfile

    from metavox.audio.read import read_audio
    from metavox.dataset.manifest import write_manifest

    OUT.mkdir(parents=True, exist_ok=True)
    soundfile.write(OUT / "sentence.wav", read_audio(Path("data") / asked["path"].iloc[0]), 16000)
    for name, rows in (("taught", taught), ("asked", asked), ("words", shared.assign(text=shared["word"]))):
        paths = rows["path"].map(lambda path: str((Path("data") / path).absolute()))
        chosen = rows.assign(path=paths)[["path", "text", "speaker", "language"]]
        write_manifest(chosen, OUT / f"{name}.csv")


def _next() -> None:
    metavox = ".venv/bin/metavox" if Path(".venv/bin/metavox").is_file() else "metavox"
    typer.echo(f"The report: {REPORT.absolute()}\n\nNext:")
    typer.echo(f"  {metavox} transcribe {OUT}/sentence.wav --format srt")
    typer.echo(f"  {metavox} adapt {OUT}/taught.csv --out my-speaker")
    typer.echo(f"  {metavox} score {OUT}/asked.csv --delta my-speaker")
    typer.echo(f"  {metavox} serve --delta my-speaker")


@contextmanager
def _ended_by_sigterm() -> "Iterator[None]":
    """SIGTERM unwinds, so that the server is stopped as on Ctrl-C."""

    def end(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
