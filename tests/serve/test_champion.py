"""A served champion: its own deltas are always in use, answers name the model, and a promotion is served at once."""

import json
import shutil
from pathlib import Path

import httpx
import pytest
from clips_to_send import RATE, Clip, tone

from metavox.files import content_digest, written_aside
from metavox.ingest.labelled import read_labelled
from metavox.recognisers.bases.find import find_base
from metavox.recognisers.delta import save_delta
from metavox.serve.engine import Engine, Selection
from metavox.serve.identity import Canary
from metavox.serve.process import FOLLOW, INBOX, REQUEST_LOG, Target, free_port, model_target, serving
from metavox.session import session_with
from metavox.teaching import TeachConfig, TeachingSet, teach
from tests.flows.small_project import until


@pytest.fixture(scope="module")
def champion(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small model with a vocabulary of two tones that every request uses."""
    folder = tmp_path_factory.mktemp("champion") / "champion"
    shutil.copytree(model_folder, folder)
    clips = [tone(hz, 0.6, seed) for seed in range(3) for hz in (300.0, 1200.0)]
    words = TeachingSet(clips, ["low", "high"] * 3)
    taught = teach(session_with(find_base(str(folder))), words, TeachConfig("words"))
    save_delta(taught.delta, folder / "deltas/field")
    (folder / "always.json").write_text('["field"]')
    return folder


def test_the_deltas_of_a_champion_are_always_in_use(champion: Path, tmp_path: Path) -> None:
    engine = Engine(str(champion), tmp_path / "store")
    assert engine.select([], None) == Selection((), "field")
    assert engine.transcribe(tone(300.0, 0.6, 9), engine.select([], None), engine.base.options).text == "low"
    engine.teach("vocabularies", "mine", [tone(500.0, 0.6, s) for s in range(2)], ["middle"] * 2)
    assert engine.select([], "mine") == Selection((), "mine"), "a vocabulary of the request takes its place"
    assert engine.rate == RATE


def test_promotions_canaries_feedback_and_the_request_log(champion: Path, clip: Clip, tmp_path: Path) -> None:
    log, inbox = tmp_path / "requests.jsonl", tmp_path / "inbox"
    inbox.mkdir()
    target = model_target(champion)
    own = {FOLLOW: "1", REQUEST_LOG: str(log), INBOX: str(inbox)}
    target = Target(target.identifier, {**target.environment, **own})
    first = content_digest(champion)[:16]
    with serving(target, "127.0.0.1", free_port(), tmp_path / "store") as server:

        def answer(**headers: str) -> httpx.Response:
            url = f"{server.address}/v1/audio/transcriptions"
            files = {"file": ("a.wav", clip(300.0))}
            return httpx.post(url, files=files, headers=headers, timeout=60, trust_env=False)

        before = answer(**{"x-request-id": "my-own-request"})
        assert (before.json()["text"], before.headers["x-metavox-model"]) == ("low", first)
        assert before.headers["x-request-id"] == "my-own-request"
        _feedback(server.address, clip, inbox, "my-own-request")

        # A canary without the vocabulary answers some of the requests, a given one always or never.
        canary = champion.with_name("canary")
        canary.with_suffix(".json").write_text('{"share": 0.5}')
        with written_aside(canary) as aside:
            shutil.copytree(champion, aside)
            (aside / "always.json").write_text("[]")
        of_canary = content_digest(canary)[:16]
        until(lambda: answer().headers["x-metavox-model"] == of_canary, "the canary to answer")
        models = {name: answer(**{"x-request-id": name}) for name in map("request-{}".format, range(12))}
        assert {reply.headers["x-metavox-model"] for reply in models.values()} == {first, of_canary}
        for name, reply in models.items():
            is_canary = reply.headers["x-metavox-model"] == of_canary
            assert is_canary == Canary(None, 0.5).answers(name)  # type: ignore[arg-type]
            assert (reply.json()["text"] == "low") != is_canary
        shutil.rmtree(canary)
        champions = [name for name, reply in models.items() if reply.headers["x-metavox-model"] == of_canary]
        until(
            lambda: answer(**{"x-request-id": champions[0]}).headers["x-metavox-model"] == first,
            "the champion to answer alone",
        )

        with written_aside(champion) as aside:
            shutil.copytree(champion, aside)
            (aside / "always.json").write_text(json.dumps([]))
        second = content_digest(champion)[:16]
        until(lambda: answer().headers["x-metavox-model"] == second, "the new model to answer")
        assert answer().json()["text"] != "low"
    lines = {line["id"]: line for line in map(json.loads, log.read_text().splitlines())}
    logged = lines["my-own-request"]
    assert (logged["status"], logged["model"], logged["vocabulary"], logged["words"]) == (
        200,
        first,
        "field",
        1,
    )
    assert "low" not in log.read_text(), "what was said is not logged"


def _feedback(address: str, clip: Clip, inbox: Path, request: str) -> None:
    """Send corrections, and read the inbox as `metavox corpus add` does."""

    def send(hz: float, text: str) -> httpx.Response:
        files, data = {"file": ("b.wav", clip(hz))}, {"text": text, "speaker": "ann", "request": request}
        return httpx.post(f"{address}/v1/feedback", files=files, data=data, timeout=60, trust_env=False)

    assert [send(300.0, "law").json()["recordings"], send(900.0, "mid").json()["recordings"]] == [1, 2]
    assert send(300.0, "low").status_code == 201, "the later text of a recording replaces the earlier one"
    rows = read_labelled(inbox / "manifest.csv", lambda line: None)
    assert sorted(zip(rows["text"], rows["speaker"], strict=True)) == [("low", "ann"), ("mid", "ann")]
    assert all((inbox / path).is_file() for path in rows["path"])
    assert send(300.0, " ").json()["error"]["param"] == "text"
    refused = httpx.post(
        f"{address}/v1/feedback", files={"file": ("b.wav", b"x")}, data={"text": "a"}, trust_env=False
    )
    assert refused.json()["error"]["code"] == "invalid_audio"
    assert len(list(inbox.iterdir())) == 3


def test_without_an_inbox_feedback_is_refused(web: httpx.Client, clip: Clip) -> None:
    reply = web.post("/v1/feedback", files={"file": ("a.wav", clip(300.0))}, data={"text": "low"})
    assert (reply.status_code, reply.json()["error"]["code"]) == (403, "feedback_off")
