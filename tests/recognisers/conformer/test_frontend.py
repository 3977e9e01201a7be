"""The front end: each technique compared with a reference, streaming, padding, and degenerate signals."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import scipy.linalg
import torch

from metavox.audio.features import FLOOR, make_transform
from metavox.audio.levinson import levinson
from metavox.audio.streaming import StreamingFeatures
from metavox.config import FeatureConfig, FrontEndConfig
from metavox.errors import UserError
from metavox.recognisers.conformer.frontend import FrontEnd
from metavox.recognisers.conformer.frontend.enhance import Enhance
from metavox.recognisers.conformer.frontend.envelope import envelope
from metavox.recognisers.conformer.frontend.extras import ProsodyStream
from metavox.recognisers.conformer.frontend.pcen import Pcen
from metavox.recognisers.conformer.frontend.running import decayed_sum
from metavox.recognisers.conformer.frontend.warp import Warp
from tests.audio.voiced import SOUNDS, VOWELS, vowel

FEATURES = FeatureConfig(mels=16, extras=("prosody", "formants"))
EVERY = ("mel", "pcen", "envelope", "prosody", "formants")
ALL = FrontEndConfig(EVERY, "wiener", "running", True)
CONFIGS = [
    FrontEndConfig(streams, enhance, statistics, warp)  # type: ignore[arg-type]
    for streams, enhance, statistics, warp in product(
        (("mel",), ("pcen",), ("formants", "prosody"), EVERY),
        ("none", "wiener", "subtraction"),
        ("utterance", "running"),
        (False, True),
    )
]


def speechlike(frames: int, mels: int = 16, seed: int = 0) -> torch.Tensor:
    """Log-mels (frames, mel)."""
    random = torch.Generator().manual_seed(seed)
    slow = torch.nn.functional.interpolate(
        torch.randn(1, mels, frames // 8 + 2, generator=random), size=frames, mode="linear"
    )[0].T
    return (3 * slow - 7 + 0.3 * torch.randn(frames, mels, generator=random)).clamp_min(float(np.log(FLOOR)))


def with_extras(frames: int, seed: int = 0) -> torch.Tensor:
    """Log-mels, log f0, voicing, energy, formants: (frames, width)."""
    mels, random = speechlike(frames, seed=seed), torch.Generator().manual_seed(seed)
    prosody = torch.stack(
        [
            0.3 * torch.randn(frames, generator=random) + 0.5,
            torch.rand(frames, generator=random),
            mels.mean(1),
        ],
        dim=1,
    )
    return torch.cat([mels, prosody, 0.3 * torch.randn(frames, 6, generator=random)], dim=1)


def randomised(config: FrontEndConfig, seed: int = 0) -> FrontEnd:
    """A front end whose parameters differ from their initial values."""
    frontend = FrontEnd(config, FEATURES)
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in frontend.parameters():
            value.add_(0.1 * torch.randn(value.shape, generator=random))
    return frontend


def test_a_decayed_sum_equals_the_loop_with_state_and_gradient() -> None:
    x = torch.randn(2, 71, 3, dtype=torch.float64)
    decay = torch.tensor([0.5, 0.97, 0.999], dtype=torch.float64, requires_grad=True)
    before = torch.randn(2, 3, dtype=torch.float64)
    y, expected = before, []
    for t in range(71):
        y = decay * y + x[:, t]
        expected.append(y)
    result, final_state = decayed_sum(x, decay, before)
    torch.testing.assert_close(result, torch.stack(expected, dim=1))
    torch.testing.assert_close(final_state, expected[-1])
    (ours,) = torch.autograd.grad(result.square().sum(), decay)
    (theirs,) = torch.autograd.grad(torch.stack(expected, dim=1).square().sum(), decay)
    torch.testing.assert_close(ours, theirs)


def test_pcen_matches_the_published_formula() -> None:
    mels = speechlike(90)
    ours, _ = Pcen(16)(mels.unsqueeze(0), torch.ones(1, 90, dtype=torch.bool))
    energy = mels.double().exp().numpy() / FLOOR
    smooth = np.zeros_like(energy)
    for t in range(90):
        smooth[t] = energy[0] if t == 0 else 0.975 * smooth[t - 1] + 0.025 * energy[t]
    expected = (energy / (1 + smooth) ** 0.98 + 2) ** 0.5 - 2**0.5
    np.testing.assert_allclose(ours[0].detach().numpy(), expected, rtol=2e-4, atol=2e-4)


def test_pcen_is_almost_invariant_to_the_level() -> None:
    mels, mask = speechlike(200).clamp_min(-12).unsqueeze(0), torch.ones(1, 200, dtype=torch.bool)
    pcen = Pcen(16)
    quiet, loud = pcen(mels - 2.0, mask)[0], pcen(mels + 2.0, mask)[0]
    loud, quiet = loud.detach(), quiet.detach()
    assert float((loud - quiet).abs().mean()) < 0.1 * float(loud.abs().mean())


def test_levinson_solves_the_toeplitz_equations() -> None:
    signal = np.random.default_rng(0).normal(size=(5, 400)).cumsum(axis=1)
    r = np.stack([[np.dot(s[: 400 - k], s[k:]) for k in range(11)] for s in signal])
    a, error = levinson(torch.from_numpy(r))
    for i in range(5):
        theirs = scipy.linalg.solve_toeplitz(r[i, :10], -r[i, 1:])
        np.testing.assert_allclose(a[i, 1:], theirs, rtol=1e-6, atol=1e-8)
        np.testing.assert_allclose(error[i, 0], r[i, 0] + r[i, 1:] @ theirs, rtol=1e-6)


def test_an_envelope_keeps_formants_and_removes_harmonics() -> None:
    bands = torch.arange(64.0)
    formants = 4 * torch.exp(-(((bands - 14) / 4) ** 2)) + 3 * torch.exp(-(((bands - 38) / 5) ** 2)) - 9
    ripple = torch.where(bands % 4 < 2, 0.7, -0.7)
    smooth = envelope(formants + ripple)
    peaks = [i for i in range(1, 63) if smooth[i] > smooth[i - 1] and smooth[i] > smooth[i + 1]]
    assert any(abs(p - 14) <= 2 for p in peaks)
    assert any(abs(p - 38) <= 2 for p in peaks)
    assert len(peaks) <= 6
    rough = (formants + ripple).diff().diff().abs().mean()
    assert float(smooth.diff().diff().abs().mean()) < 0.3 * float(rough)


def test_warp_is_the_identity_at_zero_and_moves_peaks() -> None:
    warp, mels = Warp(), torch.full((1, 1, 64), -10.0)
    mels[..., 30] = 0.0
    torch.testing.assert_close(warp(mels), mels)
    with torch.no_grad():
        warp.warp.fill_(0.1)
    up = int(warp(mels)[0, 0].argmax())
    assert up < 30  # band i now reads what was above it
    warp(mels).square().sum().backward()
    assert torch.isfinite(warp.warp.grad).all()  # type: ignore[arg-type]


@pytest.mark.parametrize("running", [False, True])
@pytest.mark.parametrize("method", ["wiener", "subtraction"])
def test_enhancement_attenuates_steady_noise_and_keeps_clean_speech(method: str, running: bool) -> None:
    random = torch.Generator().manual_seed(3)
    gaps = torch.zeros(400, 1)
    for start in range(40, 400, 80):
        gaps[start : start + 40] = 1
    clean = (speechlike(400).exp() * gaps + FLOOR).log()
    level = float(clean.exp()[gaps[:, 0] > 0].mean()) / 10  # 10 dB
    noise = level * -torch.rand(6, 400, 16, generator=random).log().mean(dim=0)  # mean of several bins
    noisy = (clean.exp() + noise).log()
    mask = torch.ones(1, 400, dtype=torch.bool)
    enhance = Enhance(method, running).eval()  # type: ignore[arg-type]
    out = enhance(noisy.unsqueeze(0), mask)[0][0].detach()
    silent = gaps[:, 0] == 0
    silent[:20] = False  # the noise estimate needs some frames
    attenuation_db = 10 * float(torch.log10(noise[silent].mean() / out.exp()[silent].mean()))
    assert attenuation_db > (8.0 if method == "wiener" else 4.0)
    loud = clean > clean.max() - 3
    assert float((out - clean)[loud].abs().mean()) < 0.4
    enhanced_clean = enhance(clean.unsqueeze(0), mask)[0][0].detach()
    assert float((enhanced_clean - clean)[loud].abs().mean()) < 0.1


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_padding_never_changes_a_result(config: FrontEndConfig) -> None:
    frontend = randomised(config).eval()
    items = [with_extras(n, seed=n) for n in (5, 90, 33)]
    padded = torch.nn.utils.rnn.pad_sequence(items, batch_first=True, padding_value=3.0)
    combined = frontend(padded, torch.tensor([5, 90, 33]))
    for i, item in enumerate(items):
        alone = frontend(item.unsqueeze(0), torch.tensor([len(item)]))
        torch.testing.assert_close(combined[i, :, : len(item)], alone[0], atol=1e-4, rtol=1e-4)
        assert not combined[i, :, len(item) :].any()


@pytest.mark.parametrize("config", [c for c in CONFIGS if c.statistics == "running"], ids=str)
def test_chunks_of_any_size_give_the_same_frames(config: FrontEndConfig) -> None:
    frontend, features = randomised(config).eval(), with_extras(400)
    expected_streams = frontend(features.unsqueeze(0), torch.tensor([400]))[0]
    random = np.random.default_rng(1)
    for _ in range(3):
        cuts = np.sort(random.choice(np.arange(401), 9))
        stream = frontend.stream()
        parts = [stream.push(part) for part in torch.tensor_split(features, cuts.tolist())]
        torch.testing.assert_close(torch.cat(parts, dim=1), expected_streams, atol=1e-4, rtol=1e-4)


def test_statistics_of_an_utterance_cannot_be_streamed() -> None:
    with pytest.raises(ValueError, match="running"):
        FrontEnd(FrontEndConfig(), FEATURES).stream()


@pytest.mark.parametrize("sound", SOUNDS)
def test_degenerate_signals_give_finite_streams_and_gradients(sound: str) -> None:
    features = make_transform(FEATURES)(torch.from_numpy(SOUNDS[sound].astype(np.float32)))
    for config in (ALL, replace(ALL, statistics="utterance", enhance="subtraction")):
        frontend = FrontEnd(config, FEATURES)
        out = frontend(features.unsqueeze(0), torch.tensor([len(features)]))
        assert torch.isfinite(out).all()
        out.square().sum().backward()
        assert all(torch.isfinite(p.grad).all() for p in frontend.parameters() if p.grad is not None)


def test_samples_in_chunks_give_the_same_streams() -> None:
    """From samples to channels, no step looks ahead further than a window, and the chunk size has no effect."""
    frontend, samples = randomised(ALL).eval(), torch.from_numpy(vowel(VOWELS["a"], 123, 2.0))
    features = make_transform(FEATURES)
    expected_streams = frontend(features(samples).unsqueeze(0), torch.tensor([201]))[0]
    for size in (1600, 777, 20_000):
        audio_stream, stream = StreamingFeatures(features), frontend.stream()
        parts = [stream.push(audio_stream.push(part)) for part in samples.split(size)]
        combined = torch.cat([*parts, stream.push(audio_stream.end())], dim=1)
        torch.testing.assert_close(combined, expected_streams, atol=2e-3, rtol=1e-3)


@pytest.mark.parametrize("running", [False, True])
def test_prosody_is_invariant_to_pitch_and_level(running: bool) -> None:
    """This holds after the running mean has settled, in voiced speech."""
    stream, mask = ProsodyStream(16, running), torch.ones(1, 400, dtype=torch.bool)
    melody = torch.sin(torch.arange(400) / 9)
    columns = torch.stack([0.4 + 0.2 * melody, torch.full((400,), 0.9), -6 + melody], dim=1).unsqueeze(0)
    out = stream(columns, mask)[0]
    other = stream(columns + torch.tensor([0.5, 0.0, 1.5]), mask)[0]
    torch.testing.assert_close(out[:, 100:], other[:, 100:], atol=0.02, rtol=0)


def test_pitch_of_unvoiced_frames_has_no_effect() -> None:
    stream, mask = ProsodyStream(16), torch.ones(1, 50, dtype=torch.bool)
    columns = torch.rand(1, 50, 3)
    columns[:, 20:30, 1] = 0.0
    other = columns.clone()
    other[:, 20:30, 0] += 1.0
    torch.testing.assert_close(stream(columns, mask)[0], stream(other, mask)[0])


def test_a_stream_without_stored_features_is_a_one_line_error() -> None:
    with pytest.raises(
        UserError, match=r"stream formants: the features hold mel, prosody; set features\.extras to"
    ):
        FrontEnd(FrontEndConfig(("mel", "formants")), FeatureConfig(extras=("prosody",)))


def test_a_repeated_stream_is_rejected() -> None:
    with pytest.raises(ValueError, match="each once"):
        FrontEndConfig(("mel", "mel"))
    assert FrontEndConfig(["mel", "pcen"]).streams == ("mel", "pcen")  # type: ignore[arg-type]
