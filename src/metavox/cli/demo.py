"""`metavox demo`: the built bundle served for a moment, and called as an application would call it."""

import json
import shutil
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

BUNDLE, MANIFEST = Path("artifacts/bundle/metavox.bento"), Path("artifacts/validated/manifest.parquet")
SUPPORT, EVALUATED = Path("artifacts/deltas/support.json"), Path("artifacts/metrics/evaluate.json")
REPORT = Path("artifacts/report/report.html")
STORE, OUT = Path(".metavox/demo-store"), Path(".metavox/demo")
WORDS, LONGEST_WORD_S = 5, 2.0
SENTENCE_S = 3.0
VOICE_S = 30.0  # of support recordings: adapting takes a few seconds


def demo() -> None:
    """Serve artifacts/bundle, transcribe and enrol over HTTP, and show what adaptation was worth."""
    for path, makes in (
        (BUNDLE, "package"),
        (MANIFEST, "validate"),
        (SUPPORT, "adapt"),
        (EVALUATED, "evaluate"),
    ):
        if not path.is_file():
            raise UserError(f"{path}: not made yet; run `make demo`, or `metavox stage {makes}`")
    import httpx

    from metavox.corpus.manifest import read_manifest
    from metavox.serve.client import running_service

    rows = read_manifest(MANIFEST)
    rows["said"] = rows["text"].str.strip(' .,;:!?…"')
    support = json.loads(SUPPORT.read_text(encoding="utf-8"))
    sentence = pick_sentence(rows, support)
    shared = shared_words(rows)
    _write_examples(sentence, shared)
    shutil.rmtree(STORE, ignore_errors=True)
    typer.echo(f"serving {BUNDLE} on this machine only ...")
    with (
        _ended_by_sigterm(),
        running_service(BUNDLE, STORE) as address,
        httpx.Client(base_url=address, timeout=120, trust_env=False) as client,
    ):
        _sentence(client, sentence, rows[rows["path"].isin(support[sentence["voice"]])])
        _words(client, shared)
    shutil.rmtree(STORE, ignore_errors=True)
    _headline(json.loads(EVALUATED.read_text(encoding="utf-8"))["headline"])
    _next()


def pick_sentence(rows: "pd.DataFrame", support: dict[str, list[str]]) -> "pd.Series[Any]":
    """A sentence that a test voice says and was not adapted with, about SENTENCE_S long, the first by path.

    From a language the model was trained on where there is one.
    """
    known = set(rows.loc[(rows["split"] == "train") & ~rows["synthetic"], "language"])
    taught = {path for paths in support.values() for path in paths}
    texts = set(rows.loc[rows["path"].isin(taught), "said"].str.lower())
    test = rows[(rows["split"] == "test") & rows["voice"].isin(support) & (rows["unit"] == "sentence")]
    fresh = test[~test["said"].str.lower().isin(texts)]
    if fresh.empty:
        raise UserError(
            f"{MANIFEST}: no sentence of an adapted test voice is left; expected one to transcribe"
        )
    candidates = fresh[fresh["language"].isin(known)] if fresh["language"].isin(known).any() else fresh
    distance = (candidates["duration_s"] - SENTENCE_S).abs().round(1)
    return candidates.assign(distance=distance).sort_values(["distance", "path"]).iloc[0]


def shared_words(rows: "pd.DataFrame") -> "pd.DataFrame":
    """Short recordings of the words that two test voices of one language both say, one a voice and word.

    The two voices are those that share most words; none is in the training data. The voice with more
    recordings comes first: it teaches.
    """
    test = rows[(rows["split"] == "test") & (rows["text_kind"] != "concept")]
    test = test[(test["duration_s"] <= LONGEST_WORD_S) & (test["said"] != "")]
    usable = test[test["unit"] == "word"] if (test["unit"] == "word").any() else test
    usable = usable.assign(word=usable["said"].str.lower())
    usable = usable.sort_values("path").drop_duplicates(["language", "voice", "word"])
    best: tuple[int, list[str], set[str], str] = (0, [], set(), "")
    for language, own in usable.groupby("language"):
        by_voice = {str(voice): set(part["word"]) for voice, part in own.groupby("voice")}
        voices = sorted(by_voice, key=lambda v: (-len(by_voice[v]), v))
        for i, first in enumerate(voices):
            for second in voices[i + 1 :]:
                both = by_voice[first] & by_voice[second]
                if len(both) > best[0]:
                    best = (len(both), [first, second], both, str(language))
    count, voices, both, language = best
    if count < WORDS:
        raise UserError(f"{MANIFEST}: two test voices share {count} words at most; expected {WORDS} to enrol")
    chosen = usable[
        usable["word"].isin(both) & usable["voice"].isin(voices) & (usable["language"] == language)
    ]
    order = {voice: i for i, voice in enumerate(voices)}
    return chosen.sort_values(["voice", "word"], key=lambda c: c.map(order) if c.name == "voice" else c)


def some_words(shared: "pd.DataFrame") -> list[str]:
    """WORDS of the shared words, evenly apart in alphabetical order: none is picked for how it does."""
    words = sorted(set(shared["word"]))
    return [words[(2 * i + 1) * len(words) // (2 * WORDS)] for i in range(WORDS)]


def _audio(path: str) -> tuple[str, bytes]:
    from metavox.audio.read import read_bytes

    return Path(path).name, read_bytes(Path("data") / path)


def _post(client: "httpx.Client", url: str, **what: Any) -> dict[str, Any]:
    reply = client.post(url, **what)
    if reply.is_error:
        raise UserError(f"POST {url}: status {reply.status_code}, {reply.text[:200]}; see .metavox/logs")
    return dict(reply.json())


def _sentence(client: "httpx.Client", sentence: "pd.Series[Any]", support: "pd.DataFrame") -> None:
    """A held-out voice before and after a few of its recordings."""
    url = "/v1/audio/transcriptions"
    typer.echo(f"\n1. POST {url}: a voice nobody trained on ({sentence['voice']})")
    recording = {"file": _audio(sentence["path"])}
    typer.echo(f"   said   {sentence['said']}\n   heard  {_post(client, url, files=recording)['text']}")
    support = support[support["duration_s"].cumsum() <= VOICE_S]
    if support.empty:
        return
    files = [("files", _audio(path)) for path in support["path"]]
    _post(client, "/v1/voices/demo-voice", files=files, data={"texts": support["text"].tolist()})
    heard = _post(client, url, files=recording, data={"deltas": "demo-voice"})["text"]
    typer.echo(f"   heard  {heard}   <- after POST /v1/voices with {len(support)} of its other recordings")


def _words(client: "httpx.Client", shared: "pd.DataFrame") -> None:
    """New words, taught by one voice with one recording each and asked of another."""
    teacher, asked = shared["voice"].unique()
    language = shared["language"].iloc[0]
    words = some_words(shared)
    clips = {(row.voice, row.word): row for row in shared.itertuples()}
    taught = [clips[teacher, word] for word in words]
    typer.echo(
        f"\n2. POST /v1/vocabularies: {WORDS} words ({language}), one recording of each by {teacher}; "
        f"asked of {asked}"
    )
    _post(
        client, "/v1/vocabularies/demo-words", files=[("files", _audio(str(row.path))) for row in taught],
        data={"labels": [row.said for row in taught]},
    )  # fmt: skip
    right = 0
    for word in words:
        recording = _audio(str(clips[asked, word].path))
        heard = _post(client, "/v1/vocabularies/demo-words/recognitions", files={"file": recording})
        best, label = heard["similarities"][0], clips[teacher, word].said
        right += heard["word"] == label
        said = f"   said {label:24.24s} heard {heard['word'] or 'none of them':24.24s}"
        typer.echo(
            f"{said} {'right' if heard['word'] == label else 'wrong'} (nearest {best['similarity']:.2f})"
        )
    typer.echo(f"   {right} of {WORDS} right; by chance it would be {1 / WORDS:.0%}")


def _headline(headline: dict[str, Any]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    task = f"{headline['task']}, recordings of each: {headline['shots']}"
    typer.echo(f"\n3. Held-out voices, % ± 95% interval ({task})")
    table = Table(box=box.SIMPLE, pad_edge=False)
    for head in ("", "before adaptation", "after"):
        table.add_column(head)
    for name, value in headline.items():
        if isinstance(value, dict) and {"before", "after"} <= set(value):
            cells = [
                f"{100 * value[w]['mean']:.1f} ± {100 * value[w]['ci95']:.1f}" for w in ("before", "after")
            ]
            better = "lower is better" if name in ("cer", "wer") else ""
            table.add_row(f"{name.upper() if better else name} {f'({better})' if better else ''}", *cells)
    Console().print(table)


def _write_examples(sentence: "pd.Series[Any]", shared: "pd.DataFrame") -> None:
    """Files for the commands that `_next` proposes."""
    import soundfile

    from metavox.audio.read import read_audio
    from metavox.corpus.manifest import write_manifest

    OUT.mkdir(parents=True, exist_ok=True)
    soundfile.write(OUT / "sentence.wav", read_audio(Path("data") / sentence["path"]), 16000)
    paths = shared["path"].map(lambda path: str((Path("data") / path).absolute()))
    rows = shared.assign(path=paths, text=shared["word"])[["path", "text", "voice", "language"]]
    write_manifest(rows, OUT / "words.csv")


def _next() -> None:
    metavox = ".venv/bin/metavox" if Path(".venv/bin/metavox").is_file() else "metavox"
    typer.echo(f"The report: {REPORT.absolute()}\n\nNext:")
    typer.echo(f"  {metavox} transcribe {OUT}/sentence.wav --format srt")
    typer.echo(
        f"  {metavox} fewshot {OUT}/words.csv --way 5 --shot 1 --queries 1 --episodes 100 "
        f"--pairing cross-voice --json {OUT}/fewshot.json"
    )
    typer.echo(f"  {metavox} serve")


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
