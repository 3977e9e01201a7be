"""A served champion: its own deltas are always in use, answers name the model, and a promotion is served at once."""

import json
import shutil
from pathlib import Path

import httpx
import pytest
from clips_to_send import RATE, Clip, tone

from metavox.files import content_digest, written_aside
from metavox.recognisers.bases.find import find_base
from metavox.recognisers.delta import save_delta
from metavox.serve.engine import Engine, Selection
from metavox.serve.process import FOLLOW, Target, free_port, model_target, serving
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


def test_a_promotion_is_served_at_once(champion: Path, clip: Clip, tmp_path: Path) -> None:
    target = model_target(champion)
    target = Target(target.identifier, {**target.environment, FOLLOW: "1"})
    first = content_digest(champion)[:16]
    with serving(target, "127.0.0.1", free_port(), tmp_path / "store") as server:

        def answer() -> httpx.Response:
            url = f"{server.address}/v1/audio/transcriptions"
            return httpx.post(url, files={"file": ("a.wav", clip(300.0))}, timeout=60, trust_env=False)

        before = answer()
        assert (before.json()["text"], before.headers["x-metavox-model"]) == ("low", first)
        with written_aside(champion) as aside:
            shutil.copytree(champion, aside)
            (aside / "always.json").write_text(json.dumps([]))
        second = content_digest(champion)[:16]
        until(lambda: answer().headers["x-metavox-model"] == second, "the new model to answer")
        assert answer().json()["text"] != "low"
