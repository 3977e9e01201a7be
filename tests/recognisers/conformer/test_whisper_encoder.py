"""The encoder of a Whisper model inside the network that embeds words: its input, its states, and its frozen weights."""

import copy
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from small_whisper import save_small_whisper

from metavox.audio.features import extract, make_transform
from metavox.config import EncoderConfig, FeatureConfig
from metavox.errors import UserError
from metavox.params import load_params
from metavox.recognisers.bases.find import add_base, find_base
from metavox.recognisers.conformer.artifact import load_model, save_model
from metavox.recognisers.conformer.encoders import attach
from metavox.recognisers.conformer.encoders.whisper import WhisperEncoder, _scaled
from metavox.recognisers.conformer.network import ModelConfig, Network
from metavox.recognisers.whisper import load_encoder, load_network, log_mels
from metavox.session import open_for_words, open_session

FEATURES = FeatureConfig(kind="whisper", mels=80)
SMALL = EncoderConfig(kind="whisper", channels=4, dim=16, layers=1, heads=2, embedding=24)


def speech(seconds: float, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return np.convolve(0.1 * random.standard_normal(round(16000 * seconds)), np.hanning(9), "same").astype(
        np.float32
    )


def mels(seconds: float, seed: int = 0) -> torch.Tensor:
    return extract(speech(seconds, seed), make_transform(FEATURES)).clone()


@pytest.fixture(scope="module")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_small_whisper(tmp_path_factory.mktemp("bases") / "small-whisper")


@pytest.fixture
def network(whisper: Path) -> Network:
    torch.manual_seed(0)
    model = Network(ModelConfig(FEATURES, SMALL, " abc")).eval()
    attach(model.encoder, whisper)
    return model


@pytest.fixture
def base(network: Network, whisper: Path, tmp_path: Path) -> Path:
    """A base folder with an embedder beside its weights."""
    folder = tmp_path / "with-embedder"
    shutil.copytree(whisper, folder)
    save_model(network, folder / "embedder", "# untrained\n")
    return folder


def test_features_in_its_scale_are_those_of_whisper() -> None:
    clip = speech(1.0)
    ours = _scaled(mels(1.0)[None], torch.tensor([100]), 200)[0].T
    theirs = log_mels([clip], 2 * 16000, 80)[0]
    assert ours.shape == theirs.shape == (80, 200)
    # The windows at both ends of the clip see silence here, and the mirrored clip there.
    torch.testing.assert_close(ours[:, 2:98], theirs[:, 2:98], atol=2e-3, rtol=0)
    torch.testing.assert_close(ours[:, 110:], theirs[:, 110:], atol=0.05, rtol=0)


def test_acoustic_frames_hold_the_states_of_the_base(network: Network, whisper: Path) -> None:
    item = mels(0.8)[:80]
    frames, lengths = network.encoder.acoustic(item[None], torch.tensor([80]))
    context = _scaled(item[None], torch.tensor([80]), 150).transpose(1, 2)
    states = load_network(whisper).encoder.hidden(context)[0, :40]
    expected = torch.nn.functional.layer_norm(states, (16,)).unflatten(0, (20, 2)).mean(1)
    assert lengths.tolist() == [20]
    torch.testing.assert_close(frames[0, :, :16], expected)


def test_the_first_layers_of_an_encoder_are_loaded_alone(whisper: Path) -> None:
    own, whole = load_encoder(whisper, 1), load_network(whisper).encoder
    state = whole.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in own.state_dict().items())
    with pytest.raises(UserError, match=r"its encoder has 1 layers, fewer than 2; set encoder\.layers"):
        load_encoder(whisper, 2)


def test_the_weights_of_the_base_are_neither_trained_nor_saved(network: Network, base: Path) -> None:
    names = {*network.state_dict(), *dict(network.named_parameters())}
    assert not any("layers" in name or "conv1" in name for name in names)
    view = copy.deepcopy(network)
    assert isinstance(view.encoder, WhisperEncoder)
    assert isinstance(network.encoder, WhisperEncoder)
    assert view.encoder._frozen is network.encoder._frozen
    again, item = load_model(base / "embedder"), mels(0.7)
    lengths = torch.tensor([len(item)])
    with torch.inference_mode():
        torch.testing.assert_close(again.embed(item[None], lengths), network.embed(item[None], lengths))


def test_an_embedder_without_its_own_base_is_refused(base: Path, tmp_path: Path) -> None:
    other = save_small_whisper(tmp_path / "other", seed=1)
    shutil.copytree(base / "embedder", other / "embedder")
    with pytest.raises(UserError, match=r"these words were learned on the encoder of the base"):
        load_model(other / "embedder")
    alone = tmp_path / "elsewhere" / "embedder"
    shutil.copytree(base / "embedder", alone)
    with pytest.raises(UserError, match="there is none in"):
        load_model(alone)


def test_another_shape_of_base_or_other_features_are_refused(whisper: Path) -> None:
    wide = Network(ModelConfig(FEATURES, EncoderConfig(kind="whisper", channels=4, dim=32, layers=1), " a"))
    with pytest.raises(UserError, match="80 mel bands and 16 dimensions; set"):
        attach(wide.encoder, whisper)
    with pytest.raises(UserError, match=r"expected features\.kind whisper"):
        Network(ModelConfig(FeatureConfig(mels=80), SMALL, " a"))
    with pytest.raises(UserError, match="this network has no base"):
        Network(ModelConfig(FEATURES, SMALL, " a")).embed(mels(0.5)[None], torch.tensor([50]))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("base: whisper-tiny.en\nencoder: {kind: whisper}", "whisper takes whisper"),
        (
            "base: conformer\nencoder: {kind: whisper}\nfeatures: {kind: whisper, mels: 80}",
            "set base to a Whisper model",
        ),
    ],
)
def test_parameters_that_do_not_fit_are_one_line_errors(text: str, line: str, tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(UserError, match=line):
        load_params(tmp_path / "params.yaml")


def test_a_base_with_an_embedder_recognises_words_itself(base: Path) -> None:
    session = open_session(str(base))
    assert session.recogniser.spec.kind == "whisper"
    assert session.embedder.spec.name == "with-embedder"
    words = open_for_words(str(base)).embedder
    assert words.spec.digest == session.embedder.spec.digest
    (one,) = words.embed(words.prepare([speech(0.6)]))
    assert float(one.norm()) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.usefixtures("_own_store")
def test_a_base_is_copied_with_its_embedder(base: Path) -> None:
    digest = find_base(str(base)).embedder.digest  # type: ignore[union-attr]
    stored = add_base(str(base), "mine").embedder
    assert stored is not None
    assert stored.digest == digest
    assert json.loads((stored.folder / "config.json").read_text())["encoder"]["kind"] == "whisper"
    assert stored.load().spec.kind == "conformer"


@pytest.fixture
def _own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METAVOX_BASES", str(tmp_path / "store"))
