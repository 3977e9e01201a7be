"""Masked reconstruction: the requested share is masked, and only masked frames are scored."""

from collections.abc import Callable

import pytest
import torch

from metavox.recognisers.conformer.frames import frame_mask
from metavox.recognisers.conformer.network import Network
from metavox.training.selfsupervised.masked import MaskedReconstruction, Masking


@pytest.mark.parametrize("share", [0.0, 0.15, 0.3, 0.6])
def test_masks_cover_about_the_requested_share_in_spans(share: float, random: torch.Generator) -> None:
    times = Masking(time=share, frequency=0.0)((200, 400, 64), random)
    bands = Masking(time=0.0, frequency=share)((400, 50, 64), random)
    assert float(times.float().mean()) == pytest.approx(share, abs=0.03)
    assert float(bands.float().mean()) == pytest.approx(share, abs=0.03)
    assert (times == times[:, :, :1]).all()
    assert (bands == bands[:, :1, :]).all()
    both = Masking(time=share, frequency=share)((200, 400, 64), random)
    assert float(both.float().mean()) == pytest.approx(1 - (1 - share) ** 2, abs=0.04)
    if share:
        inner = times[:, :, 0].float()
        runs = (inner.diff(dim=1) == 1).sum() + inner[:, 0].sum()
        assert float(inner.sum() / runs) >= 15


def test_every_frame_is_equally_likely_to_be_masked(random: torch.Generator) -> None:
    masked = Masking(time=0.3, frequency=0.0)((4000, 60, 16), random)[:, :, 0].float().mean(dim=0)
    assert (masked - 0.3).abs().max() < 0.06


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    mels = torch.randn(4, 61, 16, generator=torch.Generator().manual_seed(1)) * 2 - 7
    lengths = torch.tensor([61, 40, 33, 9])
    return mels * frame_mask(lengths, 61).unsqueeze(2), lengths


def test_the_loss_is_the_mean_error_of_masked_frames_inside_the_utterance(
    make_model: Callable[..., Network],
) -> None:
    task = MaskedReconstruction(make_model().encoder, Masking()).eval()
    mels, lengths = batch()
    outputs: list[torch.Tensor] = []
    task.restore.register_forward_hook(lambda _, __, out: outputs.append(out))
    loss = task(mels, lengths, torch.Generator().manual_seed(5))
    masked = Masking()((4, 61, 16), torch.Generator().manual_seed(5))
    errors = []
    for i, length in enumerate(lengths):
        item = mels[i, :length]
        target = (item - item.mean(dim=0)) / 4
        prediction = outputs[0][i].reshape(-1, 16)[:length]
        errors.append((prediction - target).abs()[masked[i, :length]])
    torch.testing.assert_close(loss, torch.cat(errors).mean())


def test_masked_values_never_reach_the_encoder_and_padding_is_ignored(
    make_model: Callable[..., Network],
) -> None:
    task = MaskedReconstruction(make_model().encoder, Masking()).eval()
    mels, lengths = batch()
    inputs: list[torch.Tensor] = []
    task.encoder.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
    masked = Masking()((4, 61, 16), torch.Generator().manual_seed(5)) & frame_mask(lengths, 61).unsqueeze(2)
    # Noise that sums to zero over the masked frames, so that an item's mean does not change.
    noise = torch.randn(mels.shape) * masked
    count = masked.sum(dim=1, keepdim=True).clamp_min(1)
    noise = (noise - noise.sum(dim=1, keepdim=True) / count) * masked
    garbage = torch.full_like(mels, 30.0).masked_fill(frame_mask(lengths, 61).unsqueeze(2), 0.0)
    losses = [
        float(task(x, lengths, torch.Generator().manual_seed(5)))
        for x in (mels, mels + noise, mels + garbage)
    ]
    inside = frame_mask(lengths, 61)
    torch.testing.assert_close(inputs[0][inside], inputs[1][inside], atol=1e-4, rtol=1e-4)
    assert losses[2] == pytest.approx(losses[0], rel=1e-4)
    assert losses[1] != pytest.approx(losses[0], rel=1e-3)


def test_without_masks_the_loss_is_zero(make_model: Callable[..., Network], random: torch.Generator) -> None:
    task = MaskedReconstruction(make_model().encoder, Masking(0.0, 0.0))
    assert float(task(*batch(), random)) == 0
