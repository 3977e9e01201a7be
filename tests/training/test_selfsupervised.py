"""Self-supervised objectives: each learns, its targets never reach the encoder, and unusual audio has a finite loss."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest
import torch

from metavox.config import EncoderConfig, FeatureConfig, FrontEndConfig
from metavox.dataset.store import Store
from metavox.errors import UserError
from metavox.recognisers.conformer.encoders import make_encoder
from metavox.recognisers.conformer.frames import frame_mask
from metavox.recognisers.conformer.network import Network
from metavox.training.device import CPU, Compute, Precision
from metavox.training.loop import Training, step_if_finite
from metavox.training.selfsupervised import Masking, Objective, PretrainTask, make_objective, store_batches
from metavox.training.selfsupervised.apc import PREDICTED_FRAMES, AutoregressivePrediction
from metavox.training.selfsupervised.bestrq import CODES, MaskedCodes

OBJECTIVES = get_args(Objective)


def batch(seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    mels = torch.randn(4, 90, 16, generator=torch.Generator().manual_seed(seed)) * 2 - 7
    lengths = torch.tensor([90, 61, 40, 9])
    return mels * frame_mask(lengths, 90).unsqueeze(2), lengths


@pytest.mark.parametrize("name", OBJECTIVES)
def test_steps_lower_the_loss(
    name: Objective, make_store: Callable[..., Store], make_model: Callable[..., Network]
) -> None:
    store = dev = make_store(seed=0)  # codes depend on the words, so both sets need the same words
    torch.manual_seed(0)
    objective = make_objective(name, make_model().encoder.train(), Masking())
    task = PretrainTask(objective, store_batches(store, 1500, seed=0))
    before = task.evaluate(dev, 1500)
    assert task.evaluate(dev, 1500) == before
    optimizer = torch.optim.AdamW(task.model.parameters(), 0.005)
    for step in range(25):
        optimizer.zero_grad()
        task(step, torch.Generator().manual_seed(step)).backward()
        optimizer.step()
    assert task.evaluate(dev, 1500) < 0.95 * before
    assert task.model.training


@pytest.mark.parametrize("name", OBJECTIVES)
def test_padding_does_not_change_the_loss(name: Objective, make_model: Callable[..., Network]) -> None:
    objective = make_objective(name, make_model().encoder, Masking()).eval()
    mels, lengths = batch()
    garbage = mels + 30.0 * ~frame_mask(lengths, 90).unsqueeze(2)
    losses = [
        float(objective(x, lengths, torch.Generator().manual_seed(5)).detach()) for x in (mels, garbage)
    ]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


def with_extras(name: Objective, masking: Masking) -> torch.nn.Module:
    torch.manual_seed(0)
    features = FeatureConfig(mels=16, extras=("prosody", "formants"))
    frontend = FrontEndConfig(("mel", "prosody", "formants"))
    return make_objective(
        name,
        make_encoder(EncoderConfig(channels=4, dim=16, layers=1, heads=2, kernel=5), frontend, features),
        masking,
    ).eval()


@pytest.mark.parametrize("name", OBJECTIVES)
def test_extras_contribute_to_the_loss(name: Objective) -> None:
    mels, lengths = batch()
    objective = with_extras(name, Masking())
    extras = torch.rand(4, 90, 9, generator=torch.Generator().manual_seed(2))
    loss = objective(torch.cat([mels, extras], dim=2), lengths, torch.Generator().manual_seed(5))
    loss.backward()
    for part in ("prosody", "formants"):
        gradient = getattr(objective.encoder.frontend, part).spread.weight.grad
        assert torch.isfinite(gradient).all()
        assert gradient.any()


@pytest.mark.parametrize("name", ["masked", "bestrq"])
def test_extras_of_masked_frames_are_masked(name: Objective) -> None:
    """With all frames masked, the loss depends on the extras only through their means and standard deviations."""
    mels, lengths = batch()
    objective = with_extras(name, Masking(time=1.0, frequency=0.0))
    extras = torch.rand(4, 90, 9, generator=torch.Generator().manual_seed(2))
    losses = [
        float(objective(torch.cat([mels, x], dim=2), lengths, torch.Generator().manual_seed(5)).detach())
        for x in (extras, reverse_frames(extras, lengths))
    ]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


def reverse_frames(x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Each item's frames in reverse, which keeps their means and standard deviations."""
    out = x.clone()
    for item, length in zip(out, lengths.tolist(), strict=True):
        item[:length] = item[:length].flip(0)
    return out


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("sound", ["silence", "click", "short", "constant"])
def test_unusual_audio_has_a_finite_loss_and_gradient(
    name: Objective, sound: str, make_model: Callable[..., Network]
) -> None:
    mels = {
        "silence": torch.full((2, 60, 16), -18.4),
        "short": torch.full((2, 2, 16), -5.0),
        "constant": torch.cat([torch.full((2, 60, 1), 3.0), torch.full((2, 60, 15), -18.4)], dim=2),
        "click": torch.full((2, 60, 16), -18.4).index_fill(1, torch.tensor([30]), 2.0),
    }[sound]
    objective = make_objective(name, make_model().encoder.train(), Masking())
    loss = objective(mels, torch.full((2,), mels.shape[1]), torch.Generator().manual_seed(0))
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(p.grad).all() for p in objective.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_bfloat16_has_the_same_targets_and_nearly_the_same_loss(
    name: Objective, make_store: Callable[..., Store], make_model: Callable[..., Network]
) -> None:
    store, losses = make_store(), []
    for precision in get_args(Precision):
        torch.manual_seed(0)
        objective = make_objective(name, make_model().encoder.train(), Masking())
        task = PretrainTask(objective, store_batches(store, 1500, seed=0), Compute(CPU, precision))
        losses.append(task.evaluate(store, 1500))
    assert losses[1] == pytest.approx(losses[0], rel=0.01)
    assert losses[1] != losses[0]


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_batch_with_non_finite_values_is_skipped(
    name: Objective, value: float, tmp_path: Path, make_model: Callable[..., Network]
) -> None:
    objective = make_objective(name, make_model().encoder.train(), Masking())
    run = training_with_bad_steps(objective, {1, 3}, value, steps=6, folder=tmp_path)
    history = run.run()
    assert run.skipped == 2
    assert history["loss"].isna().tolist() == [False, True, False, True, False, False]
    assert all(torch.isfinite(x).all() for x in objective.state_dict().values())
    with pytest.raises(UserError, match="4 of 4 steps had a loss that is not finite"):
        training_with_bad_steps(objective, {0, 1, 2, 3}, value, steps=6, folder=tmp_path / "more").run()


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_run_that_diverges_is_stopped(
    name: Objective, tmp_path: Path, make_model: Callable[..., Network]
) -> None:
    objective = make_objective(name, make_model().encoder.train(), Masking())
    with pytest.raises(UserError, match="lower the stage's learning_rate"):
        training_with_bad_steps(objective, set(), 0.0, steps=40, folder=tmp_path, rate=1e30).run()


def training_with_bad_steps(
    objective: torch.nn.Module, bad: set[int], value: float, steps: int, folder: Path, rate: float = 1e-3
) -> Training:
    """Training on clips in which every other frame is `value` during the steps `bad`."""
    mels, lengths = batch()
    optimizer = torch.optim.SGD(objective.parameters(), rate)

    def speech(step: int) -> tuple[torch.Tensor, torch.Tensor]:
        return (mels.index_fill(1, torch.arange(0, 90, 2), value) if step in bad else mels), lengths

    task, parameters = PretrainTask(objective, speech), list(objective.parameters())

    def update(step: int, random: torch.Generator) -> dict[str, float]:
        return {"loss": step_if_finite(task(step, random), optimizer, parameters)}

    return Training("bad", {"model": objective}, {}, update, steps, 0, folder, "k")


def test_predicted_frames_never_reach_the_encoder(make_model: Callable[..., Network]) -> None:
    objective = AutoregressivePrediction(make_model().encoder).eval()
    mels, _ = batch()
    cut = torch.tensor([50, 30, 17, 5])
    after_cut = ~frame_mask(cut, 90).unsqueeze(2)
    expected = objective.predict(mels, cut)[0]
    torch.testing.assert_close(objective.predict(mels + 9.0 * after_cut, cut)[0], expected)
    assert not torch.allclose(objective.predict(mels + 0.5 * mels.sin() * ~after_cut, cut)[0], expected)


def test_the_prediction_loss_uses_the_frames_after_the_cut(make_model: Callable[..., Network]) -> None:
    objective = AutoregressivePrediction(make_model().encoder).eval()
    ramp = torch.arange(60.0)[None, :, None].expand(1, 60, 16) * 0.01 - 7
    outputs: list[torch.Tensor] = []
    objective.foretell.register_forward_hook(
        lambda _, __, out: outputs.append(torch.zeros_like(out)) or outputs[-1]
    )  # type: ignore[func-returns-value]
    loss = objective(ramp, torch.tensor([60]), torch.Generator().manual_seed(0))
    # The predicted frames of a ramp lie (cut + PREDICTED_FRAMES) / 2 frames above the mean of those before the cut.
    expected_losses = [
        float((0.01 * ((2 * c + PREDICTED_FRAMES - 1) / 2 - (c - 1) / 2)) / 4) for c in range(16, 41)
    ]
    assert min(expected_losses) - 1e-4 <= float(loss) <= max(expected_losses) + 1e-4


def test_codes_depend_on_the_speech_and_not_on_its_level(make_model: Callable[..., Network]) -> None:
    torch.manual_seed(3)
    objective = MaskedCodes(make_model().encoder, Masking())
    mels, lengths = batch()
    inside = frame_mask(lengths, 90).unsqueeze(2)
    codes = objective.codes(mels, lengths)
    valid = frame_mask(-(-lengths // 4), codes.shape[1])
    louder = (mels + 3.0) * inside
    assert float((objective.codes(louder, lengths) == codes)[valid].float().mean()) > 0.99
    assert float((objective.codes(batch(2)[0], lengths) == codes)[valid].float().mean()) < 0.2
    assert 10 < objective.perplexity(mels, lengths) <= CODES


def test_the_quantiser_is_fixed_and_saved_with_the_weights(make_model: Callable[..., Network]) -> None:
    objective = MaskedCodes(make_model().encoder, Masking())
    with torch.autocast("cpu", torch.bfloat16):  # the targets must not depend on the precision
        codes = objective.codes(*batch())
    assert torch.equal(codes, objective.codes(*batch()))
    parameters = {name for name, _ in objective.named_parameters()}
    assert not any(name.startswith("quantise") for name in parameters)
    assert {"quantise.projection", "quantise.codebook"} <= set(objective.state_dict())
