"""Perturbations of log-mels: seeded, in range, and independent of the padding."""

import math

import pytest
import torch

from metavox.audio.perturb import LOG_FLOOR, LogMelsOnly, Perturb, Perturbation, for_features
from metavox.config import FeatureConfig

NOTHING = Perturbation(
    stretch=0.0,
    warp=0.0,
    tilt_db=0.0,
    noise_chance=0.0,
    reverberation_chance=0.0,
    bandlimit_chance=0.0,
    mask_chance=0.0,
)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def speech(batch: int = 6, time: int = 90, bands: int = 32) -> tuple[torch.Tensor, torch.Tensor]:
    mels = torch.randn(batch, time, bands, generator=seeded(9)) * 2 - 8
    lengths = torch.linspace(time, 11, batch).long()
    inside = torch.arange(time)[None, :] < lengths[:, None]
    return mels * inside.unsqueeze(2), lengths


def test_the_seed_determines_the_perturbation() -> None:
    mels, lengths = speech()
    first, again, other = (Perturbation()(mels, lengths, seeded(s)) for s in (1, 1, 2))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert first[0].shape != other[0].shape or not torch.allclose(first[0], other[0])


@pytest.mark.parametrize("seed", range(20))
def test_values_are_finite_padding_is_zero_and_lengths_follow_the_rate(seed: int) -> None:
    mels, lengths = speech()
    out, out_lengths = Perturbation(stretch=0.25)(mels, lengths, seeded(seed))
    assert torch.isfinite(out).all()
    assert (out >= LOG_FLOOR).all()
    assert out.shape == (len(mels), int(out_lengths.max()), mels.shape[2])
    for item, length in zip(out, out_lengths, strict=True):
        assert (item[length:] == 0).all()
        assert (item[:length] != 0).any()
    ratio = out_lengths / lengths
    assert (out_lengths >= torch.minimum(lengths / 1.25 - 1, lengths)).all()
    assert ((out_lengths <= lengths * 1.25 + 1) | (out_lengths == 8)).all()
    assert ratio.std() > 0


def test_with_everything_off_nothing_changes() -> None:
    mels, lengths = speech()
    out, out_lengths = NOTHING(mels, lengths, seeded(0))
    assert torch.equal(out_lengths, lengths)
    torch.testing.assert_close(out, mels, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("time", [1, 3, 8, 40])
def test_a_single_short_item(time: int) -> None:
    mels, _ = speech(1, time)
    for seed in range(10):
        out, out_lengths = Perturbation()(mels, torch.tensor([time]), seeded(seed))
        assert out.shape[1] == int(out_lengths) >= min(time, 8)
        assert torch.isfinite(out).all()


@pytest.mark.parametrize("seed", range(10))
def test_padding_does_not_affect_the_result(seed: int) -> None:
    """Batches are padded with log-mels of zero, louder than most speech."""
    mels, lengths = speech()
    quiet = mels.masked_fill((torch.arange(mels.shape[1])[None, :] >= lengths[:, None]).unsqueeze(2), -18.0)
    everything = Perturbation(noise_chance=1.0, reverberation_chance=1.0, mask_chance=0.0)
    (a, a_lengths), (b, b_lengths) = (everything(x, lengths, seeded(seed)) for x in (mels, quiet))
    assert torch.equal(a_lengths, b_lengths)
    torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


def test_the_noise_level_does_not_depend_on_padding() -> None:
    mels, lengths = speech()
    inside = (torch.arange(mels.shape[1])[None, :] < lengths[:, None]).unsqueeze(2)
    noisy = Perturbation(noise_chance=1.0)
    a, b = (noisy._noise(x, lengths, seeded(0)) for x in (mels, mels.masked_fill(~inside, -18.0)))
    torch.testing.assert_close(a * inside, b * inside)


def test_a_scale_of_one_changes_nothing_and_a_scale_of_zero_turns_the_perturbation_off() -> None:
    mels, lengths = speech()
    assert Perturbation().scaled(1.0) == Perturbation()
    out, out_lengths = Perturbation().scaled(0.0)(mels, lengths, seeded(0))
    assert torch.equal(out_lengths, lengths)
    torch.testing.assert_close(out, mels, atol=1e-4, rtol=1e-4)


def test_a_slower_rate_stretches_the_frames() -> None:
    ramp = torch.linspace(-10, -2, 60)[None, :, None].expand(1, 60, 32).contiguous()
    out, lengths = Perturbation(**{**vars(NOTHING), "stretch": 0.5})(ramp, torch.tensor([60]), seeded(5))
    assert int(lengths) != 60
    assert out[0, :, 0].diff().min() > -1e-4
    torch.testing.assert_close(out[0, [0, -1], 0], ramp[0, [0, -1], 0], atol=0.3, rtol=0)


def test_noise_has_the_requested_ratio_to_the_loudest_frame() -> None:
    mels = torch.full((40, 200, 32), -18.0)
    mels[:, 100] = 0.0
    noisy = Perturbation(**{**vars(NOTHING), "noise_chance": 1.0, "noise_snr_db": (20.0, 20.0)})
    out, _ = noisy(mels, torch.full((40,), 200), seeded(0))
    floor_db = 10 / math.log(10) * out[:, :90].mean()
    assert -23 < float(floor_db) < -17


def test_masks_cover_at_most_a_fifth_of_an_item() -> None:
    mels, lengths = speech(8, 50)
    masked = Perturbation(**{**vars(NOTHING), "mask_chance": 1.0, "mask_bands": 0, "mask_frames": 100})
    out, _ = masked(mels, lengths, seeded(3))
    changed = ((out - mels).abs() > 1e-3).all(dim=2).sum(dim=1)
    assert (changed <= lengths // 5).all()
    assert changed.sum() > 0


EXTRAS = FeatureConfig(mels=32, extras=("prosody",))


def test_extras_keep_their_values_at_a_constant_rate() -> None:
    mels, lengths = speech()
    ramp = torch.arange(90.0)[None, :, None].expand(6, 90, 3)
    features = torch.cat([mels, ramp], dim=2)
    unstretched = for_features(Perturbation(stretch=0.0, warp=0.3, noise_chance=1.0), EXTRAS)
    out, out_lengths = unstretched(features, lengths, seeded(0))
    assert torch.equal(out_lengths, lengths)
    for item, length in zip(out, lengths, strict=True):
        assert torch.equal(item[:length, 32:], ramp[0, :length])
        assert not item[length:].any()


def test_extras_follow_their_log_mels_at_another_rate() -> None:
    """The time that log-mels and extras encode differs by about a frame at most."""
    clock = torch.arange(90.0)[None, :, None].expand(6, 90, 1)
    _, lengths = speech()
    features = torch.cat([(clock / 10 - 10).expand(-1, -1, 32), clock.expand(-1, -1, 3)], dim=2)
    stretched = for_features(Perturbation(**{**vars(NOTHING), "stretch": 0.4}), EXTRAS)
    for seed in range(5):
        out, out_lengths = stretched(features, lengths, seeded(seed))
        for item, length in zip(out, out_lengths, strict=True):
            expected = (item[:length, 16] + 10) * 10
            assert (item[:length, 32] - expected).abs().max() <= 1.25


@pytest.mark.parametrize("config", [FeatureConfig(), FeatureConfig(kind="waveform"), EXTRAS], ids=str)
def test_every_kind_of_features_has_a_perturbation(config: FeatureConfig) -> None:
    perturb: Perturb = for_features(Perturbation(), config)
    assert isinstance(perturb, LogMelsOnly) == bool(config.extras)
    batch = torch.randn(2, 20, config.width, generator=seeded(1))
    out, _ = perturb.scaled(0.5)(batch, torch.tensor([20, 9]), seeded(0))
    assert out.shape[2] == config.width
