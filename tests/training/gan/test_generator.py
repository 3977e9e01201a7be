"""The generator: intensity, latents, initialisation and saving."""

import pickle
from pathlib import Path

import pytest
import torch

from metavox.audio.perturb import LOG_FLOOR
from metavox.config import FeatureConfig
from metavox.errors import UserError
from metavox.training.gan import Environment, load_generator, save_generator
from metavox.training.gan.monitor import latents
from metavox.training.gan.statistics import content_loss, distances
from tests.training.gan.conftest import Speech


def transformed(
    generator: Environment, mels: torch.Tensor, latent: torch.Tensor, intensity: float = 1.0
) -> torch.Tensor:
    with torch.inference_mode():
        return generator(mels, latent, intensity, torch.Generator().manual_seed(0))


@pytest.mark.parametrize("time", [1, 5, 80])
def test_the_shape_is_kept_and_intensity_0_is_the_identity(
    generator: Environment, speech: Speech, time: int
) -> None:
    mels, latent = speech()[:, :time], torch.randn(6, 4)
    assert torch.equal(transformed(generator, mels, latent, 0.0), mels)
    out = transformed(generator, mels, latent)
    assert out.shape == mels.shape
    assert torch.isfinite(out).all()
    assert out.min() >= LOG_FLOOR
    assert not torch.allclose(out, mels)


def test_intensity_interpolates_monotonically_to_the_environment(
    generator: Environment, speech: Speech
) -> None:
    mels, latent = speech(), torch.randn(6, 4, generator=torch.Generator().manual_seed(1))
    full = transformed(generator, mels, latent)
    from_clean = [
        (transformed(generator, mels, latent, x) - mels).abs().mean() for x in (0.0, 0.25, 0.5, 0.75, 1.0)
    ]
    from_full = [
        (transformed(generator, mels, latent, x) - full).abs().mean() for x in (0.0, 0.25, 0.5, 0.75, 1.0)
    ]
    assert from_clean == sorted(from_clean)
    assert from_full == sorted(from_full, reverse=True)
    assert from_clean[0] == from_full[-1] == 0
    assert float(from_clean[2]) == pytest.approx(float(from_clean[-1]) / 2, rel=0.05)


def test_close_latents_give_similar_environments_and_distant_ones_do_not(
    generator: Environment, speech: Speech
) -> None:
    mels = speech(time=400)
    first, second = (latents(generator, 6, torch.Generator().manual_seed(seed)) for seed in (1, 2))
    reference = transformed(generator, mels, first)
    near = (transformed(generator, mels, first + 0.001 * second) - reference).abs().mean()
    far = (transformed(generator, mels, second) - reference).abs().mean()
    assert 0 < near < 0.1 * far


def test_content_keeps_its_position_in_time(generator: Environment, speech: Speech) -> None:
    mels = speech()
    out = transformed(generator, mels, latents(generator, 6, torch.Generator().manual_seed(0)))
    assert float(content_loss(mels, out)) < 0.5 * float(content_loss(mels, out.flip(1)))


def test_silence_and_very_loud_input_stay_finite(generator: Environment) -> None:
    for value in (LOG_FLOOR, 20.0):
        assert torch.isfinite(generator(torch.full((2, 40, 32), value), torch.randn(2, 4))).all()


def test_an_initialised_generator_is_nearer_to_the_sites_than_clean_speech(
    generator: Environment, speech: Speech, sites: Speech
) -> None:
    torch.manual_seed(0)
    generator.initialise(speech(1, 128), sites(2, 128))
    clean, real = speech(3, 128), sites(4, 128)
    out = transformed(generator, clean, latents(generator, 128, torch.Generator().manual_seed(0)))
    near, far = distances(out, real), distances(clean, real)
    assert all(near[kind] < 0.6 * far[kind] for kind in ("spectrum", "floor"))
    upper = out[:, :, 21:].mean(dim=(1, 2))
    assert {bool(x) for x in upper < -16} == {True, False}, "some are on the line, some in the room"


def test_a_saved_generator_is_the_same_after_loading(generator: Environment, tmp_path: Path) -> None:
    save_generator(generator, tmp_path)
    loaded = load_generator(tmp_path, generator.config.features)
    assert loaded.config == generator.config
    assert not loaded.training
    state = loaded.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in generator.state_dict().items())
    with pytest.raises(UserError, match="train it again"):
        load_generator(tmp_path, FeatureConfig(mels=32, sample_rate_hz=8000))


def test_a_pickle_or_an_incomplete_folder_is_refused(generator: Environment, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no environment generator found"):
        load_generator(tmp_path)
    save_generator(generator, tmp_path)
    (tmp_path / "generator.safetensors").write_bytes(pickle.dumps(generator.state_dict()))
    with pytest.raises(UserError, match="metavox stage augment"):
        load_generator(tmp_path)
    save_generator(generator, tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(UserError, match="no environment generator found"):
        load_generator(tmp_path)
