"""GAN training: both networks learn, and collapse or divergence is reported."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch

from metavox.training.gan import Crops, Environment, GanConfig, GanData, learn_environments
from metavox.training.gan.monitor import COLLAPSED, GanMonitor, spread
from metavox.training.gan.statistics import statistics
from metavox.training.gan.training import EnvironmentGan
from tests.training.gan.conftest import CONFIG, Speech

HEALTHY = {"generator": 1.0, "discriminator": 0.7, "content": 0.1}


def test_steps_are_finite_and_train_both_networks(
    generator: Environment, speech: Speech, sites: Speech
) -> None:
    gan = EnvironmentGan(generator)
    gan.initialise(speech(1, 64), sites(2, 64))
    before = [p.clone() for net in (gan.generator, gan.discriminator) for p in net.parameters()]
    random = torch.Generator().manual_seed(0)
    for step in range(6):
        losses = gan.step(speech(step), sites(step + 50), random)
        assert losses.keys() == {"generator", "discriminator", "content"}
        assert all(np.isfinite(list(losses.values())))
    after = [p for net in (gan.generator, gan.discriminator) for p in net.parameters()]
    assert all(torch.isfinite(p).all() for p in after)
    changed = [not torch.equal(a, b) for a, b in zip(before, after, strict=True)]
    assert sum(changed) >= len(changed) - 1  # the last bias of a relativistic discriminator has no gradient


def test_a_batch_with_nan_changes_no_weight(generator: Environment, speech: Speech, sites: Speech) -> None:
    gan = EnvironmentGan(generator)
    gan.initialise(speech(1, 64), sites(2, 64))
    before = copy.deepcopy(gan.generator.state_dict())
    broken = sites(3)
    broken[0] = torch.nan
    gan.step(speech(2), broken, torch.Generator().manual_seed(0))
    assert all(torch.equal(value, before[name]) for name, value in gan.generator.state_dict().items())


def test_the_discriminator_learns_to_detect_noise(generator: Environment, speech: Speech) -> None:
    gan = EnvironmentGan(generator, penalty=1.0)
    noisy = torch.logaddexp(speech(1), torch.tensor(-5.0))
    gan.discriminator.initialise(statistics(noisy))
    fake, real = (gan.discriminator.scaled(statistics(mels)) for mels in (speech(0), noisy))
    losses = [gan._discriminate(fake, real) for _ in range(40)]
    assert losses[-1] < 0.7 * losses[0]


def test_the_penalty_keeps_the_discriminator_flat(generator: Environment, speech: Speech) -> None:
    noisy = torch.logaddexp(speech(1), torch.tensor(-5.0))
    squared_gradient = {}
    for penalty in (0.0, 100.0):
        torch.manual_seed(0)
        gan = EnvironmentGan(generator, penalty=penalty)
        gan.discriminator.initialise(statistics(noisy))
        fake, real = (gan.discriminator.scaled(statistics(mels)) for mels in (speech(0), noisy))
        for _ in range(40):
            gan._discriminate(fake, real)
        points = real.detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(gan.discriminator(points).sum(), points)
        squared_gradient[penalty] = float(gradient.square().sum(dim=1).mean())
    assert squared_gradient[100.0] < 0.3 * squared_gradient[0.0]


def gan_data(speech: Speech, sites: Speech) -> GanData:
    def crops(make: Speech, seed: int) -> Crops:
        return Crops(list(make(seed, 60, 48)), [np.arange(i, i + 10) for i in range(0, 60, 10)], 64)

    return GanData(crops(speech, 1), crops(sites, 2), crops(speech, 3), crops(sites, 4))


def test_training_approaches_the_sites_and_is_reproducible(
    speech: Speech, sites: Speech, tmp_path: Path
) -> None:
    data = gan_data(speech, sites)
    runs = [
        learn_environments(data, CONFIG, GanConfig(30, 8, 0.001, 20.0, 3, tmp_path / name, "key"))
        for name in ("a", "b")
    ]
    evaluation = runs[0].evaluation
    distance = evaluation["distance"]
    assert isinstance(distance, dict)
    assert not evaluation["collapsed"]
    assert sum(distance["learned"].values()) < 0.5 * sum(distance["clean"].values())
    assert distance["recordings"]["floor"] < distance["learned"]["floor"] < distance["clean"]["floor"]
    assert set(runs[0].history) == {"step", "generator", "discriminator", "content", "distance"}
    assert evaluation == runs[1].evaluation
    first, second = (run.generator.state_dict() for run in runs)
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_environments_differ_unless_the_generator_has_collapsed(
    generator: Environment, speech: Speech
) -> None:
    mels = speech(time=400)
    initial = spread(generator, mels)
    assert spread(generator, mels) == initial
    flatten(generator)
    assert 0 <= spread(generator, mels) < 0.2 * initial


def test_a_collapse_is_reported_once_and_the_best_generator_is_kept(
    generator: Environment, speech: Speech, sites: Speech, capsys: pytest.CaptureFixture[str]
) -> None:
    monitor = GanMonitor(generator, copy.deepcopy(generator), speech(1, 40), sites(2, 40), interval=2)
    for step in range(4):
        assert np.isfinite(monitor(step, HEALTHY)["distance"])
    assert monitor.trouble == ""
    best = copy.deepcopy(monitor.best.state_dict())
    flatten(generator)
    assert spread(generator, speech(1, 40)) < COLLAPSED
    for step in range(4, 8):
        monitor(step, HEALTHY)
    output = capsys.readouterr().out
    assert output.count("the generator has collapsed") == 1
    assert "step 6" in output
    monitor.restore_best()
    assert all(torch.equal(value, best[name]) for name, value in generator.state_dict().items())


def test_the_best_generator_is_kept_and_not_the_last(
    generator: Environment, speech: Speech, sites: Speech
) -> None:
    clean, adverse = speech(1, 64), sites(2, 64)
    monitor = GanMonitor(generator, copy.deepcopy(generator), clean, adverse, interval=1)
    first = monitor(0, HEALTHY)["distance"]
    generator.initialise(clean, adverse)
    best = copy.deepcopy(generator.state_dict())
    assert monitor(1, HEALTHY)["distance"] < first
    with torch.no_grad():
        generator.clusters += 5.0
    assert monitor(2, HEALTHY)["distance"] > monitor.best_distance
    monitor.restore_best()
    assert all(torch.equal(value, best[name]) for name, value in generator.state_dict().items())


def test_a_discriminator_that_has_won_is_reported(
    generator: Environment, speech: Speech, sites: Speech, capsys: pytest.CaptureFixture[str]
) -> None:
    monitor = GanMonitor(generator, copy.deepcopy(generator), speech(1, 40), sites(2, 40), interval=1)
    monitor(0, {"generator": 9.0, "discriminator": 0.001, "content": 0.1})
    assert "the discriminator has won" in capsys.readouterr().out


def test_crops_draw_speakers_equally_and_concatenate_their_clips() -> None:
    clips = [torch.full((10, 4), float(number)) for number in range(11)]
    crops = Crops(clips, [np.arange(10), np.array([10])], 64)
    drawn = crops(200, torch.Generator().manual_seed(0))
    assert drawn.shape == (200, 64, 4)
    from_second = (drawn == 10).flatten(1)
    assert set(from_second.float().mean(dim=1).tolist()) == {0.0, 1.0}, "no crop mixes two speakers"
    assert float(from_second.all(dim=1).float().mean()) == pytest.approx(0.5, abs=0.12)


def flatten(generator: Environment) -> None:
    """Make the generator produce the same environment for every latent."""
    with torch.no_grad():
        for weight in generator.parameters():
            weight.zero_()
        generator.spread.bias[generator.config.mels : 2 * generator.config.mels] = -30.0
