"""The network: padding never changes a result, and every weight can learn."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from metavox.config import EncoderConfig, FeatureConfig
from metavox.errors import UserError
from metavox.recognisers.conformer.encoders import make_encoder
from metavox.recognisers.conformer.frames import frame_mask, halve
from metavox.recognisers.conformer.network import ModelConfig, Network, pad


def items(seed: int, count: int = 5) -> list[torch.Tensor]:
    random = np.random.default_rng(seed)
    return [
        torch.from_numpy(random.normal(-7, 3, (random.integers(1, 70), 16)).astype(np.float32))
        for _ in range(count)
    ]


@pytest.mark.parametrize("seed", range(8))
def test_padding_does_not_change_an_item(make_model: Callable[..., Network], seed: int) -> None:
    model, clips = make_model(layers=2, position_features=seed % 3), items(seed)
    mels, lengths = pad(clips)
    mels = torch.nn.functional.pad(mels, (0, 0, 0, seed))
    garbage = mels.masked_fill(~frame_mask(lengths, mels.shape[1]).unsqueeze(2), 50.0)
    with torch.inference_mode():
        for padded in (mels, garbage):
            embedded = model.embed(padded, lengths)
            characters, out_lengths = model.characters(padded, lengths)
            for i, clip in enumerate(clips):
                own = torch.tensor([len(clip)])
                torch.testing.assert_close(embedded[i], model.embed(clip[None], own)[0], atol=1e-4, rtol=1e-4)
                alone, alone_lengths = model.characters(clip[None], own)
                assert int(out_lengths[i]) == int(alone_lengths) == alone.shape[1] == -(-len(clip) // 4)
                torch.testing.assert_close(characters[i, : alone.shape[1]], alone[0], atol=1e-3, rtol=1e-3)


def test_embeddings_are_unit_vectors_and_differ(make_model: Callable[..., Network]) -> None:
    model = make_model()
    with torch.inference_mode():
        embedded = model.embed(*pad(items(3)))
    torch.testing.assert_close(embedded.norm(dim=1), torch.ones(5))
    assert (embedded @ embedded.T - torch.eye(5)).max() < 0.9999


def test_the_embedding_depends_on_the_order_of_frames_only_with_position_features(
    make_model: Callable[..., Network],
) -> None:
    mask = torch.ones(1, 9, dtype=torch.bool)
    for count, equal in ((0, True), (3, False)):
        model = make_model(position_features=count)
        word, width = model.word, model.encoder.acoustic_dim
        frames = torch.randn(1, 9, width, generator=torch.Generator().manual_seed(0))
        with torch.inference_mode():
            forward, backward = word(frames, mask), word(frames.flip(1), mask)
        assert torch.allclose(forward, backward, atol=1e-5) == equal


def test_characters_are_log_probabilities_over_alphabet_and_blank(
    make_model: Callable[..., Network],
) -> None:
    model = make_model(alphabet="абв")
    with torch.inference_mode():
        characters, _ = model.characters(*pad(items(4)))
    assert characters.shape[2] == 4
    torch.testing.assert_close(characters.exp().sum(dim=2), torch.ones(characters.shape[:2]))


def test_a_constant_gain_has_no_effect(make_model: Callable[..., Network]) -> None:
    model, (mels, lengths) = make_model(), pad(items(5))
    louder = mels + 3.0
    with torch.inference_mode():
        torch.testing.assert_close(
            model.embed(mels, lengths), model.embed(louder, lengths), atol=1e-3, rtol=1e-3
        )


def test_every_trainable_weight_gets_a_gradient(make_model: Callable[..., Network]) -> None:
    model = make_model(layers=2).train()
    mels, lengths = pad(items(6))
    with_gradient: dict[str, set[str]] = {}
    losses = {
        "embed": lambda: (model.embed(mels, lengths) * torch.randn(5, 24)).sum(),
        "characters": lambda: model.characters(mels, lengths)[0][..., 3].sum(),
    }
    for name, loss in losses.items():
        model.zero_grad(set_to_none=True)
        loss().backward()
        with_gradient[name] = {
            n
            for n, p in model.named_parameters()
            if p.grad is not None and (p.ndim == 1 or p.grad.norm() > 0)
        }
    names = {n for n, _ in model.named_parameters()}
    assert with_gradient["embed"] | with_gradient["characters"] == names
    assert with_gradient["characters"] == {n for n in names if not n.startswith("word.")}
    assert {n for n in names if n.startswith("word.")} <= with_gradient["embed"]
    assert not any(n.startswith("ctc.") for n in with_gradient["embed"])


def test_halve_matches_the_convolutions() -> None:
    for frames in range(1, 40):
        out = torch.nn.Conv1d(1, 1, 3, 2, 1)(torch.zeros(1, 1, frames))
        assert int(halve(torch.tensor(frames))) == out.shape[2]


def test_mel_bands_must_be_a_multiple_of_16() -> None:
    with pytest.raises(ValueError, match="65 mel bands"):
        make_encoder(EncoderConfig(), features=FeatureConfig(mels=65))


def test_the_configuration_of_an_older_artifact_is_read() -> None:
    """The packaged base model has these old keys, and cannot be rewritten because deltas name its digest."""
    old_config = {
        "features": {"sample_rate_hz": 8000, "mels": 32, "window_ms": 32, "hop_ms": 8.0, "kind": "mel"},
        "encoder": {
            "mels": 32,
            "channels": 8,
            "dim": 32,
            "layers": 1,
            "heads": 2,
            "kernel": 5,
            "dropout": 0.1,
        },
        "embedding": 48,
        "places": 4,
        "alphabet": "ab",
        "background": 7,
    }
    config = ModelConfig.from_dict(old_config)
    assert config.features == FeatureConfig(8000, 32, window_s=0.032, hop_s=0.008)
    assert (config.encoder.channels, config.encoder.position_features, config.embedding) == (8, 4, 48)
    assert (config.alphabet, config.cohort) == ("ab", 7)


def test_a_configuration_round_trips_through_json() -> None:
    config = ModelConfig(encoder=EncoderConfig(dim=32), alphabet="яж")
    assert ModelConfig.from_dict(config.as_dict()) == config  # type: ignore[arg-type]


def test_starting_from_a_network_copies_common_characters(
    make_model: Callable[..., Network],
) -> None:
    other, model = make_model(1, " 'abcž"), make_model(2, " 'bczα")
    before = model.ctc.weight.detach().clone()
    model.start_from(other)
    mels, lengths = pad(items(0))
    with torch.inference_mode():
        torch.testing.assert_close(model.embed(mels, lengths), other.embed(mels, lengths))
        torch.testing.assert_close(model.encoder(mels, lengths), other.encoder(mels, lengths))
    blank_space_apostrophe, b_c, z_alpha = [0, 1, 2], [3, 4], [5, 6]
    for ours, theirs in ((blank_space_apostrophe, [0, 1, 2]), (b_c, [4, 5])):
        assert torch.equal(model.ctc.weight[ours], other.ctc.weight[theirs])
        assert torch.equal(model.ctc.bias[ours], other.ctc.bias[theirs])
    assert torch.equal(model.ctc.weight[z_alpha], before[z_alpha])


def test_starting_from_another_architecture_is_rejected(make_model: Callable[..., Network]) -> None:
    with pytest.raises(UserError, match=r"encoder\.layers is 1, but 2 in the model to start from"):
        make_model().start_from(make_model(layers=2))
