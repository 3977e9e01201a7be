"""Deltas made elsewhere are pushed, listed, pulled and removed over HTTP and by `metavox deltas`, or served from a folder."""

import json
from pathlib import Path

import httpx
import pytest
import torch
from clips_to_send import Clip, encoded, tone
from general_speech import write_general_speech
from safetensors.torch import load_file, save_file
from small_whisper import save_small_whisper
from spoken import spoken
from test_refusals import refused
from typer.testing import CliRunner, Result

from metavox.adaptation.rehearsal import MIN_RECORDINGS
from metavox.cli.main import app
from metavox.recognisers.delta import Delta, load_delta, save_delta
from metavox.serve.client import running_service
from metavox.session import Session, open_session
from metavox.teaching import TeachConfig, TeachingSet, teach

TONES = {"low": 200, "mid": 600, "high": 1500}


@pytest.fixture(scope="module")
def session(model_folder: Path) -> Session:
    return open_session(str(model_folder))


@pytest.fixture(scope="module")
def words(session: Session, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a vocabulary of tones."""
    clips = [(word, tone(hz, seed=seed)) for word, hz in TONES.items() for seed in range(3)]
    taught = teach(session, TeachingSet([c for _, c in clips], [w for w, _ in clips]), TeachConfig("words"))
    folder = tmp_path_factory.mktemp("deltas") / "pitches"
    save_delta(taught.delta, folder)
    return folder


@pytest.fixture(scope="module")
def voice(session: Session, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a delta with which the network transcribes everything as the letter a."""
    weight = session.recogniser.network.get_parameter("ctc.bias")
    letter = torch.zeros_like(weight)
    letter[1 + session.recogniser.network.config.alphabet.index("a")] = 100.0  # type: ignore[union-attr, operator]
    folder = tmp_path_factory.mktemp("deltas") / "only-a"
    save_delta(Delta(session.recogniser.spec.digest, {"ctc.bias": letter}), folder)
    return folder


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["deltas", *map(str, arguments)])


def one_line(result: Result) -> str:
    assert result.exit_code == 2, (result.output, result.exception)
    assert result.stderr.count("\n") == 1, result.stderr
    return result.stderr


def put(web: httpx.Client, name: str, folder: Path) -> httpx.Response:
    files = {file: (file, (folder / file).read_bytes()) for file in ("delta.json", "delta.safetensors")}
    return web.put(f"/v1/deltas/{name}", files=files)


def transcribe(web: httpx.Client, clip: bytes, model: str) -> str:
    answer = web.post("/v1/audio/transcriptions", files={"file": clip}, data={"model": model})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["text"])


@pytest.mark.parametrize("where", ["server", "store"])
def test_a_delta_is_pushed_and_pulled_unchanged(
    address: str, words: Path, tmp_path: Path, where: str
) -> None:
    target = ("--server", address) if where == "server" else ("--store", tmp_path / "store")
    pushed = run("push", words, "--name", "pitches-1", *target)
    assert pushed.exit_code == 0, (pushed.output, pushed.exception)
    assert "pitches-1: a vocabulary, " in pushed.output
    assert "pitches-1" in run("list", *target).output
    listed = {one["id"]: one for one in json.loads(run("list", "--json", *target).output)}
    one = listed["pitches-1"]
    assert (one["object"], one["sections"], one["words"]) == (
        "vocabulary",
        {"vocabulary": {"words": 3}},
        sorted(TONES),
    )
    assert one["expected"]["clips"] == 9
    assert one["base_name"] == "recogniser"
    shown = run("show", "pitches-1", *target)
    assert "high, low, mid" in shown.output
    assert "right (" in shown.output
    pulled = run("pull", "pitches-1", "--out", tmp_path / "back", *target)
    assert pulled.exit_code == 0, pulled.output
    original, received = load_delta(words), load_delta(tmp_path / "back")
    assert received.words == original.words
    assert original.vocabulary is not None
    assert received.vocabulary is not None
    assert torch.equal(received.vocabulary.prototypes, original.vocabulary.prototypes)
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/chapter").touch()
    assert "exists and is not a delta" in one_line(
        run("pull", "pitches-1", "--out", tmp_path / "thesis", *target)
    )
    assert run("remove", "pitches-1", *target).exit_code == 0
    assert "pitches-1" in one_line(run("show", "pitches-1", *target))
    assert "pitches-1" in one_line(run("remove", "pitches-1", *target))
    assert "not allowed" in one_line(run("show", "../up", *target))


def test_a_pushed_delta_is_used(web: httpx.Client, clip: Clip, words: Path, voice: Path) -> None:
    assert put(web, "used-words", words).status_code == 201
    assert put(web, "used-words", words).status_code == 200
    assert transcribe(web, clip(1500, seed=9), "metavox:used-words") == "high"
    assert put(web, "used-voice", voice).json()["object"] == "voice"
    assert transcribe(web, encoded(spoken("we wrote")), "metavox:used-voice") == "a"
    assert transcribe(web, clip(1500, seed=9), "metavox:used-voice,used-words") == "high"
    refused(put(web, "used-voice", words), 409, "name_taken")
    for name in ("used-words", "used-voice"):
        assert web.delete(f"/v1/deltas/{name}").json() == {"id": name, "deleted": True}


def test_the_first_format_of_deltas_is_still_accepted(
    web: httpx.Client, clip: Clip, words: Path, tmp_path: Path
) -> None:
    vocabulary = load_delta(words).vocabulary
    assert vocabulary is not None
    about = {
        "base": vocabulary.embedder,
        "words": list(vocabulary.words),
        "threshold": vocabulary.threshold,
        "spelling": vocabulary.ctc_weight,
        "sharpness": vocabulary.logit_scale,
        "kind": "words",
        "shots": 9,
    }
    (tmp_path / "delta.json").write_text(json.dumps(about))
    save_file({"enrolled.prototypes": vocabulary.prototypes}, tmp_path / "delta.safetensors")
    created = put(web, "old", tmp_path)
    assert created.status_code == 201, created.text
    assert (created.json()["files"], created.json()["words"]) == (9, sorted(TONES))
    assert transcribe(web, clip(600, seed=9), "metavox:old") == "mid"


def test_invalid_deltas_are_refused(web: httpx.Client, voice: Path, words: Path, tmp_path: Path) -> None:
    def changed(name: str, folder: Path, **described: object) -> Path:
        out = tmp_path / name
        out.mkdir()
        (out / "delta.json").write_text(
            json.dumps({**json.loads((folder / "delta.json").read_text()), **described})
        )
        (out / "delta.safetensors").write_bytes((folder / "delta.safetensors").read_bytes())
        return out

    assert (
        "made with model ffffffffffff"
        in refused(put(web, "x", changed("other", voice, base="f" * 64)), 409)["message"]
    )
    truncated = changed("cut", voice)
    (truncated / "delta.safetensors").write_bytes((voice / "delta.safetensors").read_bytes()[:20])
    message = refused(put(web, "x", truncated), 400, "invalid_value")["message"]
    assert message.startswith("x: not a complete delta")
    nested = changed("nested", voice)
    (nested / "delta.json").write_text("[" * 100_000)
    refused(put(web, "x", nested), 400)
    shapes = changed("shapes", voice)
    save_file({"weights.ctc.bias": torch.zeros(3)}, shapes / "delta.safetensors")
    refused(put(web, "x", shapes), 400)
    infinite = changed("infinite", voice)
    values = load_file(voice / "delta.safetensors")
    save_file({name: value / 0 for name, value in values.items()}, infinite / "delta.safetensors")
    assert "not finite" in refused(put(web, "x", infinite), 400)["message"]
    sections = json.loads((words / "delta.json").read_text())["sections"]
    sections["vocabulary"]["words"][0] = "two\nlines"
    assert "printable" in refused(put(web, "x", changed("lines", words, sections=sections)), 400)["message"]
    large = changed("large", voice)
    (large / "delta.json").write_text(" " * (1 << 20) + "{}")
    refused(put(web, "x", large), 413)
    refused(put(web, "UPPER", voice), 400)
    refused(web.get("/v1/deltas/x"), 404, "not_found")
    refused(web.get("/v1/deltas/x/archive"), 404)
    refused(web.put("/v1/deltas/x", files={"other": b"x"}), 400)


def test_no_server_at_the_address(tmp_path: Path) -> None:
    assert "no server answers at http://127.0.0.1:9" in one_line(
        run("list", "--server", "http://127.0.0.1:9")
    )
    assert "expected an address" in one_line(run("list", "--server", "ftp://here"))
    assert "not a complete delta" in one_line(run("push", tmp_path, "--store", tmp_path / "store"))


def test_folders_are_served_beside_the_store(
    model_folder: Path, words: Path, voice: Path, clip: Clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with (
        running_service(model_folder, tmp_path / "store", [words, voice]) as url,
        httpx.Client(base_url=url, timeout=60, trust_env=False) as web,
    ):
        assert {"metavox:pitches", "metavox:only-a"} <= {
            model["id"] for model in web.get("/v1/models").json()["data"]
        }
        assert transcribe(web, clip(1500, seed=9), "metavox:pitches") == "high"
        assert transcribe(web, encoded(spoken("we wrote")), "metavox:only-a") == "a"
        assert web.get("/v1/deltas/pitches").json()["read_only"] is True
        refused(web.delete("/v1/deltas/pitches"), 409, "read_only")
        refused(put(web, "pitches", words), 409, "read_only")
    assert not (tmp_path / "store/vocabularies/pitches").exists()


def test_a_foundation_model_is_served_with_its_embedder_and_deltas(
    model_folder: Path, words: Path, voice: Path, clip: Clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a bundle, `embedder/` and `deltas/` are in the model's folder."""
    monkeypatch.chdir(tmp_path)
    write_general_speech(tmp_path)
    folder = save_small_whisper(tmp_path / "small-whisper")
    (folder / "embedder").symlink_to(model_folder)
    (folder / "deltas").mkdir()
    (folder / "deltas/pitches").symlink_to(words)
    with (
        running_service(folder, tmp_path / "store") as url,
        httpx.Client(base_url=url, timeout=120, trust_env=False) as web,
    ):
        assert transcribe(web, clip(1500, seed=9), "metavox:pitches") == "high"
        url, files = "/v1/audio/transcriptions", {"file": clip(300, seconds=1.5)}
        fields = {"response_format": "verbose_json", "language": "fr", "timestamp_granularities[]": "word"}
        answer = web.post(url, files=files, data=fields)
        assert answer.status_code == 200, answer.text
        assert answer.json()["language"] == "fr"
        unknown = refused(web.post(url, files=files, data={"language": "it"}), 400, "unknown_language")
        assert unknown["message"].startswith("small-whisper does not know it (Italian)")
        refused(web.post(url, files=files, data={**fields, "timestamp_granularities[]": "letter"}), 400)
        refused(put(web, "x", voice), 409, "other_model")
        clips = [("files", (f"{i}.wav", clip(hz, seed=i))) for i, hz in enumerate([300, 320, 340, 360])]
        created = web.post("/v1/voices/whistler", files=clips, data={"texts": ["hello"] * 4})
        assert created.status_code == 201, created.text
        assert created.json()["why"] == "it was requested"
        assert created.json()["expected"]["folds"] == 2
        assert any("word error rate" in line for line in created.json()["expectations"])
        general = created.json()["guards"]["general"]
        assert general["recordings"] == MIN_RECORDINGS
        assert isinstance(transcribe(web, clip(330), "metavox:whistler"), str)
