"""The environment GAN: the words stay, the room changes."""

import copy
import pickle
from pathlib import Path

import pytest
import torch

from metavox.audio.perturb import LOG_FLOOR, Perturb
from metavox.errors import UserError
from metavox.learn.gan import (
    COLLAPSED,
    Discriminator,
    Environment,
    EnvironmentGan,
    Environments,
    GeneratorConfig,
    Watch,
    content_loss,
    distance,
    load_generator,
    save_generator,
    spread,
)

CONFIG = GeneratorConfig(mels=32, latent=4, hidden=16)


@pytest.fixture
def generator() -> Environment:
    torch.manual_seed(0)
    return Environment(CONFIG).eval()


def speech(seed: int = 0, batch: int = 6, time: int = 80) -> torch.Tensor:
    """Syllables: loud stretches of random bands over a floor."""
    random = torch.Generator().manual_seed(seed)
    loud = torch.rand(batch, time // 8, 32, generator=random).repeat_interleave(8, dim=1)
    return 10 * loud - 14 + torch.randn(batch, time, 32, generator=random) * 0.2


@pytest.mark.parametrize("time", [1, 5, 80])
def test_it_keeps_the_shape_and_intensity_0_is_the_identity(generator: Environment, time: int) -> None:
    mels = speech(time=80)[:, :time]
    latent = torch.randn(6, 4)
    assert torch.equal(generator(mels, latent, intensity=0.0), mels)
    out = generator(mels, latent)
    assert out.shape == mels.shape
    assert torch.isfinite(out).all()
    assert out.min() >= LOG_FLOOR
    assert not torch.allclose(out, mels)


def test_what_was_said_stays_where_it_was(generator: Environment) -> None:
    mels = speech()
    out = generator(mels, torch.randn(6, 4, generator=torch.Generator().manual_seed(0))).detach()
    assert float(content_loss(mels, out)) < 0.5 * float(content_loss(mels, out.flip(1)))


def test_silence_and_very_loud_input_stay_numbers(generator: Environment) -> None:
    for value in (LOG_FLOOR, 20.0):
        assert torch.isfinite(generator(torch.full((2, 40, 32), value), torch.randn(2, 4))).all()


def test_content_is_blind_to_a_channel_and_sees_other_words() -> None:
    clean = speech()
    curve = torch.linspace(-6, 6, 32)
    assert float(content_loss(clean, clean)) == pytest.approx(0, abs=1e-5)
    assert float(content_loss(clean, clean + curve)) == pytest.approx(0, abs=1e-5)
    assert float(content_loss(clean, clean + 5.0)) == pytest.approx(0, abs=1e-5)
    assert float(content_loss(clean, speech(seed=1))) > 0.7
    assert float(content_loss(clean, clean.roll(20, dims=1))) > 0.5


def test_steps_are_finite_and_move_both_networks() -> None:
    torch.manual_seed(0)
    gan = EnvironmentGan(Environment(CONFIG), Discriminator(32, 4))
    before = [p.clone() for net in (gan.generator, gan.discriminator) for p in net.parameters()]
    random = torch.Generator().manual_seed(0)
    for step in range(6):
        noisy = torch.logaddexp(speech(step + 50), torch.full((6, 80, 32), -7.0))
        losses = gan.step(speech(step), noisy, random)
        assert losses.keys() == {"generator", "discriminator", "content"}
        assert all(torch.isfinite(torch.tensor(list(losses.values()))))
    after = [p for net in (gan.generator, gan.discriminator) for p in net.parameters()]
    assert all(torch.isfinite(p).all() for p in after)
    moved = [not torch.equal(a, b) for a, b in zip(before, after, strict=True)]
    assert sum(moved) >= len(moved) - 1


def test_the_discriminator_learns_to_tell_noise_from_none() -> None:
    torch.manual_seed(0)
    gan = EnvironmentGan(Environment(CONFIG), Discriminator(32, 4), learning_rate=0.005)
    noisy = torch.logaddexp(speech(1), torch.full((6, 80, 32), -5.0))
    losses = [gan._discriminate(speech(0), noisy.clone()) for _ in range(40)]
    assert losses[-1] < 0.7 * losses[0]


def test_environments_differ_unless_it_has_collapsed(generator: Environment) -> None:
    # Many frames, so that what flickers averages out.
    mels = speech(time=400)
    assert spread(generator, mels) == pytest.approx(spread(generator, mels), rel=0.2)
    wide = spread(generator, mels)
    first = generator.chain[0]
    assert isinstance(first, torch.nn.Linear)
    for part in (first, generator.style):
        torch.nn.init.zeros_(part.weight)
    assert 0 < spread(generator, mels) < 0.2 * wide


def test_a_share_of_the_items_is_moved_and_the_rest_left(generator: Environment, unchanged: Perturb) -> None:
    mels, lengths = speech(batch=200, time=40), torch.full((200,), 40)

    before = mels.clone()
    out, _ = Environments(generator, 0.3, unchanged)(mels, lengths, torch.Generator().manual_seed(0))
    moved = (out != before).flatten(1).any(dim=1).float().mean()
    assert float(moved) == pytest.approx(0.3, abs=0.1)
    assert torch.equal(mels, before)


def test_what_pads_a_batch_does_not_change_an_environment(generator: Environment, unchanged: Perturb) -> None:
    """Zero is louder than speech, and the noise floor follows the loudest frame."""
    lengths = torch.tensor([80, 40, 40, 40, 40, 40])
    inside = (torch.arange(80)[None, :] < lengths[:, None]).unsqueeze(2)
    outs = []
    for fill in (0.0, -18.0):
        torch.manual_seed(0)
        moved = Environments(generator, 1.0, unchanged)
        out, _ = moved(speech().masked_fill(~inside, fill) - 4, lengths, torch.Generator().manual_seed(0))
        outs.append(out * inside)
    # The detail convolution looks one frame ahead and one back.
    torch.testing.assert_close(outs[0], outs[1])


def test_written_and_read_it_is_the_same(generator: Environment, tmp_path: Path) -> None:
    save_generator(generator, tmp_path)
    loaded = load_generator(tmp_path)
    assert loaded.config == CONFIG
    assert not loaded.training
    state = loaded.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in generator.state_dict().items())


def test_a_pickle_or_half_a_folder_is_refused(generator: Environment, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no environment generator there"):
        load_generator(tmp_path)
    save_generator(generator, tmp_path)
    (tmp_path / "generator.safetensors").write_bytes(pickle.dumps(generator.state_dict()))
    with pytest.raises(UserError, match="metavox stage augment"):
        load_generator(tmp_path)


def test_a_collapse_is_said_once_and_the_last_good_generator_is_kept(
    capsys: pytest.CaptureFixture[str],
) -> None:
    torch.manual_seed(0)
    generator = Environment(GeneratorConfig(16))
    mels = torch.randn(8, 48, 16) - 8
    watch = Watch(generator, copy.deepcopy(generator), mels, every=2)
    healthy = {"generator": 1.0, "discriminator": 0.7, "content": 0.1}
    for step in range(4):
        watch(step, healthy)
    assert watch.trouble == ""
    kept = {name: value.clone() for name, value in generator.state_dict().items()}
    with torch.no_grad():
        for weight in generator.parameters():
            weight.zero_()  # whatever the latent, one environment
    assert spread(generator, mels) < COLLAPSED
    for step in range(4, 8):
        watch(step, healthy)
    said = capsys.readouterr().out
    assert said.count("the generator has collapsed") == 1
    assert "step 6" in said
    watch.settle()
    assert all(torch.equal(value, kept[name]) for name, value in generator.state_dict().items())


def test_a_discriminator_that_has_won_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    generator = Environment(GeneratorConfig(16))
    watch = Watch(generator, copy.deepcopy(generator), torch.randn(8, 48, 16) - 8, every=1)
    watch(0, {"generator": 9.0, "discriminator": 0.001, "content": 0.1})
    assert "nothing fools the discriminator" in capsys.readouterr().out


def test_the_distance_is_nothing_to_itself_and_grows_with_a_channel() -> None:
    random = torch.Generator().manual_seed(0)
    clips = torch.randn(300, 30, 16, generator=random) - 8
    curve = torch.linspace(0, 3, 16)
    assert distance(clips, clips) == pytest.approx(0.0, abs=1e-6)
    near, far = distance(clips + 0.3 * curve, clips), distance(clips + curve, clips)
    assert 0 < near < far
