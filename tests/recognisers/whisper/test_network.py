"""The network matches transformers; its cache, views with adapters, and loading."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import WhisperForConditionalGeneration

from metavox.errors import UserError
from metavox.recognisers.lora import set_lora, shared_view
from metavox.recognisers.whisper.features import log_mels
from metavox.recognisers.whisper.weights import load_network
from tests.recognisers.whisper.conftest import MakeFolder


@pytest.mark.parametrize("mels", [80, 128])
def test_outputs_match_transformers(make_folder: MakeFolder, clips: list[np.ndarray], mels: int) -> None:
    folder = make_folder(mels=mels)
    theirs = WhisperForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    ours = load_network(folder)
    mels_of_clips, ids = (
        log_mels(clips[:2], 480_000, mels),
        torch.tensor([[257, 5, 9, 30], [257, 70, 71, 72]]),
    )
    with torch.inference_mode():
        expected = theirs(input_features=mels_of_clips, decoder_input_ids=ids)
        torch.testing.assert_close(
            ours.encoder(mels_of_clips), expected.encoder_last_hidden_state, atol=1e-4, rtol=1e-4
        )
        torch.testing.assert_close(ours(mels_of_clips, ids), expected.logits, atol=1e-4, rtol=1e-4)


def test_cached_decoding_equals_decoding_at_once(make_folder: MakeFolder, clips: list[np.ndarray]) -> None:
    network = load_network(make_folder())
    ids = torch.tensor([[257, 5, 9, 30, 8], [257, 70, 71, 72, 73]])
    with torch.inference_mode():
        states = network.encoder(log_mels(clips[:2], 64_000, 80))
        assert states.shape == (2, 200, 32)
        at_once = network.decoder(ids, network.decoder.cross_attention(states))
        cached = network.decoder.cross_attention(states, room=5)
        parts = [network.decoder(part, cached) for part in ids.split([2, 1, 1, 1], dim=1)]
        torch.testing.assert_close(torch.cat(parts, 1), at_once, atol=1e-5, rtol=1e-5)


def test_a_view_with_an_adapter_does_not_change_the_base(
    make_folder: MakeFolder, clips: list[np.ndarray]
) -> None:
    network = load_network(make_folder())
    view = shared_view(network)
    set_lora(view, "encoder.layers.0.fc1.weight", torch.ones(2, 32), torch.ones(48, 2), 1.0)
    mels_of_clips, ids = log_mels(clips[:1], 32_000, 80), torch.tensor([[257, 5]])
    with torch.inference_mode():
        before = network(mels_of_clips, ids)
        assert not torch.allclose(view(mels_of_clips, ids), before)
        torch.testing.assert_close(network(mels_of_clips, ids), before)
    assert view.decoder.embed_tokens.weight is network.decoder.embed_tokens.weight


def test_sharded_weights_are_loaded(make_folder: MakeFolder) -> None:
    single_file, parts = make_folder(), make_folder(name="parts", max_shard_size="100KB")
    assert len(list(parts.glob("*.safetensors"))) > 1
    for name, weight in load_network(single_file).state_dict().items():
        torch.testing.assert_close(load_network(parts).state_dict()[name], weight)


def _break(folder: Path, defect: str) -> None:
    weights, config = folder / "model.safetensors", folder / "config.json"
    about = json.loads(config.read_text())
    if defect == "pickled":
        weights.rename(folder / "pytorch_model.bin")
    if defect == "cut":
        weights.write_bytes(weights.read_bytes()[:-100])
    if defect == "shape":
        config.write_text(json.dumps(about | {"d_model": 64}))
    if defect == "type":
        config.write_text(json.dumps(about | {"model_type": "bart"}))
    if defect == "missing":
        del about["encoder_layers"]
        config.write_text(json.dumps(about))


@pytest.mark.parametrize(
    ("defect", "message"),
    [
        ("pickled", "pytorch_model.bin"),
        ("cut", "cut short|not a complete"),
        ("shape", "of another shape"),
        ("type", "'bart', expected 'whisper'"),
        ("missing", "encoder_layers"),
    ],
)
def test_broken_folders_are_one_line_errors(make_folder: MakeFolder, defect: str, message: str) -> None:
    folder = make_folder()
    _break(folder, defect)
    with pytest.raises(UserError, match=message) as caught:
        load_network(folder)
    assert "\n" not in str(caught.value)


def test_half_precision_is_loaded_as_single(make_folder: MakeFolder) -> None:
    folder = make_folder()
    model = WhisperForConditionalGeneration.from_pretrained(folder).half()
    model.save_pretrained(folder)
    assert load_file(folder / "model.safetensors")["model.decoder.layer_norm.weight"].dtype == torch.float16
    assert all(weight.dtype == torch.float32 for weight in load_network(folder).parameters())
