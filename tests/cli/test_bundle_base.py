"""In a folder with a bundle, commands use and announce the bundle's base and word embedder unless --base names another."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from test_learning import rows_of, run

from metavox.cli.serve import serve
from metavox.errors import UserError
from metavox.recognisers import registry
from metavox.recognisers.conformer.artifact import save_model
from metavox.recognisers.conformer.encoders import EncoderConfig
from metavox.recognisers.conformer.network import ModelConfig, Network
from metavox.recognisers.delta import load_delta

LINE = "metavox: using the base in artifacts/bundle/model, because this folder has a bundle; --base NAME chooses another\n"


@pytest.fixture
def bundle(here: Path, model: str) -> Path:
    """A bundle in the folder where the commands run, with a word embedder of its own beside the base."""
    folder = here / "artifacts/bundle/model"
    shutil.copytree(model, folder)
    torch.manual_seed(1)
    small = ModelConfig(encoder=EncoderConfig(channels=8, dim=32, layers=1, heads=2, embedding=32))
    save_model(Network(small), folder / "embedder", "# untrained\n")
    (folder.parent / "metavox.tar").write_bytes(b"not opened here")
    return folder


def test_commands_use_the_bundle_with_a_notice(bundle: Path, words: Path) -> None:
    adapted = run("adapt", words, "--out", "numbers", "--folds", 0)
    assert adapted.exit_code == 0, (adapted.output, adapted.exception)
    assert adapted.stderr.count(LINE) == 1
    vocabulary = load_delta(Path("numbers")).vocabulary
    assert vocabulary is not None
    assert vocabulary.embedder == registry.digest(bundle / "embedder")
    scored = run("score", words, "--json", "found.json")
    assert scored.exit_code == 0, (scored.output, scored.exception)
    assert json.loads(Path("found.json").read_text())["model"] == registry.digest(bundle)


def test_a_named_base_is_used_without_a_notice(
    bundle: Path, words: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapted = run("adapt", words, "--out", "numbers", "--folds", 0, "--base", model)
    assert LINE not in adapted.stderr
    delta = load_delta(Path("numbers"))
    assert delta.vocabulary is not None
    assert delta.vocabulary.embedder == registry.digest(Path(model))
    monkeypatch.setenv("METAVOX_MODEL", model)
    transcribed = run("transcribe", rows_of(words)[0]["path"])
    assert transcribed.exit_code == 0, (transcribed.output, transcribed.exception)
    assert LINE not in transcribed.stderr


def test_words_of_the_packaged_embedder_are_recognised_beside_a_bundle(bundle: Path, words: Path) -> None:
    adapted = run("adapt", words, "--out", "numbers", "--folds", 0, "--base", "conformer")
    assert adapted.exit_code == 0, (adapted.output, adapted.exception)
    transcribed = run("transcribe", rows_of(words)[0]["path"], "--delta", "numbers")
    assert transcribed.exit_code == 0, (transcribed.output, transcribed.exception)


def test_serve_uses_the_bundle_unless_a_base_is_named(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match=r"artifacts/bundle/metavox\.tar: not a complete Bento"):
        serve(store=tmp_path / "store")
    monkeypatch.setenv("METAVOX_MODEL", str(tmp_path / "none/such"))
    with pytest.raises(UserError, match="none/such"):
        serve(store=tmp_path / "store")
