"""Every kind of encoder, with small bundles: padding, shapes, unusual lengths, adaptation and artifacts."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from metavox.adaptation.fine_tune import FineTuneConfig, Recordings, fine_tune
from metavox.audio.features import extract, make_transform
from metavox.config import EncoderConfig, FeatureConfig, FrontEndConfig
from metavox.enrolment.enrol import EnrolConfig, enrol_words
from metavox.errors import UserError
from metavox.params import load_params
from metavox.recognisers.conformer.artifact import load_model, save_model
from metavox.recognisers.conformer.encoders import attach, load_weights, make_encoder
from metavox.recognisers.conformer.encoders.bundle import BundleEncoder, bundles
from metavox.recognisers.conformer.kind import ConformerRecogniser, trainable
from metavox.recognisers.conformer.network import ModelConfig, Network, pad
from metavox.recognisers.delta import Delta
from tests.recognisers import contract

TEXTS = ["ab", "ca", "bc"]

SMALL = {
    "encoder_num_layers": 2,
    "encoder_embed_dim": 32,
    "encoder_num_heads": 4,
    "encoder_ff_interm_features": 48,
    "encoder_pos_conv_groups": 4,
    "encoder_pos_conv_kernel": 16,
    "encoder_layer_drop": 0.0,
    # The published kernels and strides, with 32 channels instead of 512.
    "extractor_conv_layer_config": [[32, 10, 5], *[[32, 3, 2]] * 4, *[[32, 2, 2]] * 2],
}
KINDS: dict[str, dict[str, Any]] = {
    "conformer": {"kind": "conformer"},
    "cnn": {"kind": "cnn"},
    "recurrent": {"kind": "recurrent"},
    "wav2vec 2.0": {"kind": "bundle", "bundle": "WAV2VEC2_BASE", "overrides": SMALL},
    "hubert": {"kind": "bundle", "bundle": "HUBERT_LARGE", "overrides": SMALL},
    "wavlm": {"kind": "bundle", "bundle": "WAVLM_BASE", "overrides": SMALL},
    "whisper": {"kind": "whisper", "layers": 1, "channels": 0},
    "whisper and a stem": {"kind": "whisper", "layers": 1},
}


@pytest.fixture(scope="module", autouse=True)
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small Whisper model, whose encoder the kind `whisper` uses."""
    folder = tmp_path_factory.mktemp("base") / "whisper"
    folder.mkdir()
    contract.KINDS["whisper"].write(folder)
    bases.append(folder)
    return folder


bases: list[Path] = []


def recogniser(kind: str, frontend: FrontEndConfig | None = None) -> Network:
    torch.manual_seed(1)
    features = {"bundle": FeatureConfig(kind="waveform"), "whisper": FeatureConfig(mels=80, kind="whisper")}
    shape = {"channels": 4, "dim": 16, "layers": 2, "heads": 2, "kernel": 5, "embedding": 24}
    config = EncoderConfig(**(shape | KINDS[kind]))
    stored = features.get(config.kind, FeatureConfig(mels=16))
    model = Network(ModelConfig(stored, config, " abc", frontend or FrontEndConfig()))
    attach(model.encoder, bases[-1])
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm) and module.running_mean is not None:
            module.running_mean.normal_(0, 0.1)
    return model.eval()


def features(model: Network, seconds: float, seed: int = 0) -> torch.Tensor:
    random = torch.Generator().manual_seed(seed)
    samples = 0.1 * torch.randn(round(16000 * seconds), generator=random)
    return extract(samples.numpy(), make_transform(model.config.features)).clone()


def as_recogniser(model: Network) -> ConformerRecogniser:
    return ConformerRecogniser(model.requires_grad_(False), "small", "base")


def fine_tuned(
    model: Network, items: list[torch.Tensor], config: FineTuneConfig, losses: list[float] | None = None
) -> Delta:
    recorded: list[float] = [] if losses is None else losses
    return fine_tune(
        as_recogniser(model), Recordings(items, TEXTS), config, record=lambda *step: recorded.append(step[3])
    )


@pytest.mark.parametrize("kind", KINDS)
def test_padding_never_changes_a_result(kind: str) -> None:
    model = recogniser(kind)
    items = [features(model, s, seed=i) for i, s in enumerate((0.5, 1.3, 0.1))]
    batch, lengths = pad(items)
    batch = batch + 5.0 * (torch.arange(batch.shape[1])[None, :, None] >= lengths[:, None, None])
    with torch.inference_mode():
        batched, counts = model.characters(batch, lengths)
        words = model.embed(batch, lengths)
        for i, item in enumerate(items):
            alone, count = model.characters(item.unsqueeze(0), lengths[i : i + 1])
            assert int(count) == int(counts[i])
            torch.testing.assert_close(batched[i, : int(count)], alone[0, : int(count)], atol=2e-4, rtol=1e-3)
            torch.testing.assert_close(
                words[i], model.embed(item.unsqueeze(0), lengths[i : i + 1])[0], atol=2e-4, rtol=1e-3
            )


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "whisper"])  # all of it is frozen
def test_padding_has_no_gradient(kind: str) -> None:
    model = recogniser(kind)
    batch, lengths = pad([features(model, 0.6), features(model, 0.3)])
    batch.requires_grad_(True)
    characters, counts = model.characters(batch, lengths)
    (characters[1, : int(counts[1])].exp() ** 2).sum().backward()
    assert batch.grad is not None
    assert batch.grad[1, : int(lengths[1])].any()
    assert not batch.grad[1, int(lengths[1]) :].any()
    assert torch.isfinite(batch.grad).all()


@pytest.mark.parametrize("seconds", [0.001, 0.02, 12.0])
@pytest.mark.parametrize("kind", KINDS)
def test_very_short_and_long_clips_have_frames(kind: str, seconds: float) -> None:
    model = recogniser(kind)
    item = features(model, seconds)
    with torch.inference_mode():
        frames, counts = model.encoder(item.unsqueeze(0), torch.tensor([len(item)]))
    expected = len(item) / model.encoder.subsampling
    assert frames.shape == (1, int(counts), model.encoder.dim)
    assert max(1, expected - 2) <= int(counts) <= expected + 1
    assert torch.isfinite(frames).all()


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_adapts_to_a_few_recordings_and_can_be_saved(
    kind: str, base: Path, tmp_path: Path
) -> None:
    model = recogniser(kind)
    items = [features(model, 0.8, seed=i) for i in range(3)]
    losses: list[float] = []
    before = {name: value.clone() for name, value in model.state_dict().items()}
    delta = fine_tuned(model, items, FineTuneConfig(steps=6, learning_rate=0.02), losses)
    assert losses[-1] < losses[0]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    shutil.copytree(base, tmp_path / "base")
    save_model(model, tmp_path / "base/m", "card")
    again = load_model(tmp_path / "base/m")
    batch, lengths = pad(items)
    with torch.inference_mode():
        torch.testing.assert_close(again.characters(batch, lengths)[0], model.characters(batch, lengths)[0])
        view = as_recogniser(again).using([delta]).network
        assert not torch.allclose(view.characters(batch, lengths)[0], model.characters(batch, lengths)[0])
        torch.testing.assert_close(again.characters(batch, lengths)[0], model.characters(batch, lengths)[0])
    words = enrol_words(model, "base", items, ["a", "b", "c"], EnrolConfig(views=1))
    assert words.words == ("a", "b", "c")


@pytest.mark.parametrize("kind", KINDS)
def test_presets_are_nested_for_every_kind(kind: str) -> None:
    model = recogniser(kind)
    sizes = {
        preset: sum(p.numel() for n, p in model.named_parameters() if n in trainable(model, preset))
        for preset in ("head", "norms", "all")
    }
    assert 0 < sizes["head"] < sizes["norms"] < sizes["all"]


def test_a_delta_of_the_front_end_alone_is_tiny() -> None:
    model = recogniser("conformer", FrontEndConfig(("mel", "pcen"), "wiener", "utterance", True))
    names = set(trainable(model, "frontend"))
    assert "encoder.frontend.warp.warp" in names
    assert all(name.startswith("encoder.frontend.") for name in names)
    items = [features(model, 0.8, seed=i) for i in range(3)]
    delta = fine_tuned(model, items, FineTuneConfig(steps=3, preset="frontend"))
    assert set(delta.weights) == names
    assert delta.bytes < 1000
    assert all(value.any() for value in delta.weights.values())


def test_a_delta_of_the_front_end_includes_prosody_and_formants() -> None:
    torch.manual_seed(1)
    stored = FeatureConfig(mels=16, extras=("prosody", "formants"))
    config = EncoderConfig(channels=4, dim=16, layers=1, heads=2, kernel=5, embedding=24)
    streams = FrontEndConfig(("mel", "prosody", "formants"))
    model = Network(ModelConfig(stored, config, " abc", streams)).eval()
    assert ModelConfig.from_dict(json.loads(json.dumps(model.config.as_dict()))) == model.config
    items = [features(model, 0.8, seed=i) for i in range(3)]
    delta = fine_tuned(model, items, FineTuneConfig(steps=3, preset="frontend"))
    shapes = {name.removeprefix("encoder.frontend."): shape for name, shape in delta.shapes().items()}
    assert shapes == {
        "normalise.scale": (16,),
        "normalise.shift": (16,),
        "prosody.spread.weight": (16, 3),
        "prosody.spread.bias": (16,),
        "formants.spread.weight": (16, 6),
        "formants.spread.bias": (16,),
    }
    assert all(value.any() for value in delta.weights.values())
    assert enrol_words(model, "base", items, ["a", "b", "c"]).words == ("a", "b", "c")


def test_the_cnn_baseline_has_one_convolution_and_two_linear_layers() -> None:
    encoder = make_encoder(EncoderConfig(kind="cnn", dim=100))
    convolutions = [m for m in encoder.modules() if isinstance(m, torch.nn.Conv2d)]
    linears = [m for m in encoder.modules() if isinstance(m, torch.nn.Linear)]
    assert [(m.out_channels, m.kernel_size) for m in convolutions] == [(32, (3, 3))]
    assert len(linears) == 2


def test_a_bundle_has_the_architecture_that_it_names() -> None:
    from torchaudio import pipelines

    ours = BundleEncoder(EncoderConfig(kind="bundle", bundle="WAV2VEC2_BASE"), FeatureConfig(kind="waveform"))
    assert sum(p.numel() for p in ours.model.parameters()) == 94_370_944  # 95 M as published
    assert {"WAV2VEC2_BASE", "HUBERT_BASE", "WAVLM_LARGE"} <= set(bundles())
    assert all(isinstance(getattr(pipelines, name), pipelines.Wav2Vec2Bundle) for name in bundles())


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_weights_from_a_file_reproduce_the_original(suffix: str, tmp_path: Path) -> None:
    original, ours = recogniser("wav2vec 2.0").encoder, recogniser("wav2vec 2.0").encoder
    assert isinstance(original, BundleEncoder)
    with torch.no_grad():
        for weight in original.parameters():
            weight.add_(0.01)
    weights = {k: v.contiguous() for k, v in original.model.state_dict().items()}
    file = tmp_path / f"w{suffix}"
    if suffix == ".pth":
        torch.save({**weights, "aux.weight": torch.zeros(3, 32), "aux.bias": torch.zeros(3)}, file)
    else:
        save_file(weights, file)
    load_weights(ours, str(file))
    samples = 0.1 * torch.randn(1, 16000)
    expected = original.model.extract_features(samples)[0][-1]
    frames, _ = ours(samples.view(1, 100, 160), torch.tensor([100]))
    torch.testing.assert_close(frames, expected, atol=1e-4, rtol=1e-3)


def test_mismatched_weights_are_a_one_line_error(tmp_path: Path) -> None:
    encoder = recogniser("wav2vec 2.0").encoder
    for content in (b"", b"no weights at all", b"\x80\x04N."):
        (tmp_path / "w.pth").write_bytes(content)
        with pytest.raises(UserError, match=r"w\.pth: cannot be used for WAV2VEC2_BASE"):
            load_weights(encoder, str(tmp_path / "w.pth"))
    save_file({"x": torch.zeros(1)}, tmp_path / "w.safetensors")
    with pytest.raises(UserError, match="cannot be used"):
        load_weights(encoder, str(tmp_path / "w.safetensors"))
    with pytest.raises(UserError, match="only kind bundle"):
        load_weights(recogniser("cnn").encoder, "x.pth")


def test_invalid_combinations_are_one_line_errors(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unknown; expected one of HUBERT_ASR_LARGE"):
        make_encoder(EncoderConfig(kind="bundle", bundle="NONE"), features=FeatureConfig(kind="waveform"))
    with pytest.raises(UserError, match=r"expected features\.kind waveform"):
        make_encoder(EncoderConfig(kind="bundle", bundle="WAV2VEC2_BASE"))
    with pytest.raises(UserError, match="expected mel"):
        make_encoder(EncoderConfig(kind="cnn"), features=FeatureConfig(kind="waveform"))
    for invalid in ("encoder: {kind: bundle, bundle: WAV2VEC2_BASE}", "features: {kind: waveform}"):
        (tmp_path / "params.yaml").write_text(invalid)
        with pytest.raises(UserError, match="bundle takes waveform"):
            load_params(tmp_path / "params.yaml")
