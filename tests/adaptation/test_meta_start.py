"""Meta-learned adapter starts: meta-gradients computed by hand, and starts that help their speakers."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from metavox.adaptation.adapter import Adapter, AdapterConfig
from metavox.adaptation.fine_tune import FineTuneConfig, Recordings, fine_tune
from metavox.adaptation.inner_loop import FactorLoss, adapted, directions
from metavox.adaptation.meta_start import learn_start
from metavox.adaptation.start_learners import StartConfig, initial_log_rates, task_gradient
from metavox.dataset.store import Store
from metavox.recognisers import registry
from metavox.recognisers.conformer.kind import ConformerRecogniser
from metavox.recognisers.conformer.network import Network
from metavox.recognisers.recogniser import Recogniser
from tests.small_whisper import save_small_whisper

STEP = 1e-3  # of finite differences: the likelihoods are float32
SMALL = StartConfig("reptile", steps=4, shots=2, inner_steps=2, inner_learning_rate=0.01, rank=2, alpha=2.0)


class UnperturbedRecogniser(ConformerRecogniser):
    """Does not perturb recordings, so that a gradient can be computed twice."""

    def perturb(self, audio, random):  # type: ignore[no-untyped-def]
        return list(audio)


@pytest.fixture
def base(make_model: Callable[..., Network]) -> UnperturbedRecogniser:
    return UnperturbedRecogniser(make_model().requires_grad_(False), "small", "0" * 64)


@pytest.fixture
def speakers(make_store: Callable[..., Store]) -> list[Recordings]:
    store = make_store(sentences=30)
    rows = store.rows[store.rows["unit"] == "sentence"]
    return [
        Recordings([store[i] for i in group.index], group["text"].tolist())
        for _, group in rows.groupby("speaker")
    ]


def lora_adapter(base: UnperturbedRecogniser) -> Adapter:
    return Adapter(base, AdapterConfig("lora", 2, 2.0))


def test_without_inner_steps_fomaml_is_the_query_gradient(
    base: UnperturbedRecogniser, speakers: list[Recordings]
) -> None:
    config = StartConfig("fomaml", shots=2, inner_steps=0, rank=2, alpha=2.0)
    adapter, random = lora_adapter(base), np.random.default_rng(0)
    start = adapter.state()
    found = task_gradient(adapter, speakers, config, np.random.default_rng(0))
    speaker = speakers[int(random.integers(len(speakers)))]
    query = speaker.subset(random.permutation(len(speaker))[2:4])
    expected = adapter.recogniser.loss(query.audio, query.texts)
    expected.backward()
    assert found.loss == pytest.approx(float(expected.detach()), rel=1e-5)
    for name, weight in adapter.parameters.items():
        expected_gradient = torch.zeros_like(weight) if weight.grad is None else weight.grad
        torch.testing.assert_close(found.factors[name], expected_gradient)
        assert torch.equal(weight.detach(), start[name])


def test_reptile_moves_towards_the_weights_adapted_to_a_speaker(
    base: UnperturbedRecogniser, speakers: list[Recordings]
) -> None:
    adapter = lora_adapter(base)
    start = adapter.state()
    gradients = task_gradient(adapter, speakers, SMALL, np.random.default_rng(1)).factors
    assert all(torch.equal(adapter.state()[name], value) for name, value in start.items())
    adapter.restore({name: start[name] - gradient for name, gradient in gradients.items()})
    improved = 0
    for speaker in speakers:
        before = float(base.loss(speaker.audio, speaker.texts).detach())
        improved += float(adapter.recogniser.loss(speaker.audio, speaker.texts).detach()) < before
    assert improved >= 2


@pytest.mark.parametrize("learner", ["joint", "reptile", "fomaml", "metasgd"])
def test_learning_a_start_is_bitwise_reproducible(
    base: UnperturbedRecogniser, speakers: list[Recordings], tmp_path: Path, learner: str
) -> None:
    config = StartConfig(learner, steps=3, shots=2, inner_steps=1, rank=2, alpha=2.0)  # type: ignore[arg-type]
    one, two = (learn_start(base, speakers, config, tmp_path / name, "key") for name in ("a", "b"))
    assert one.lora.targets == base.adapter_targets("lora")
    assert any(bool(b.any()) for _, b in one.lora.factors.values())
    assert bool(one.rates) == (learner == "metasgd")
    assert one.rates == two.rates
    for name, (a, b) in one.lora.factors.items():
        assert torch.equal(a, two.lora.factors[name][0])
        assert torch.equal(b, two.lora.factors[name][1])


def test_speakers_with_too_little_speech_are_refused(
    base: UnperturbedRecogniser, speakers: list[Recordings], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="no speaker has 200 recordings"):
        learn_start(base, speakers, StartConfig(shots=100), tmp_path, "key")


@pytest.fixture
def whisper(tmp_path: Path) -> Recogniser:
    """A small Whisper whose network computes in float64, for finite differences."""
    recogniser = registry.load(save_small_whisper(tmp_path / "small"))
    network = recogniser.network.double()
    network.get_submodule("encoder").register_forward_pre_hook(lambda _, inputs: (inputs[0].double(),))
    return recogniser.with_network(network)


@pytest.fixture
def clips() -> list[Recordings]:
    random = np.random.default_rng(3)
    audio = [0.1 * random.normal(size=16_000).astype(np.float32) for _ in range(4)]
    return [Recordings(audio, ["one", "two", "three", "four"])]


def whisper_adapter(whisper: Recogniser) -> Adapter:
    """An adapter of the decoder alone, with a start that is not zero: at zero, half of the gradients vanish."""
    adapter = Adapter(whisper, AdapterConfig("lora-decoder", 1, 1.0))
    generator = torch.Generator().manual_seed(5)
    state = {n: 0.3 * torch.randn(w.shape, generator=generator) for n, w in adapter.parameters.items()}
    for name, weight in adapter.parameters.items():
        weight.data = state[name].double()
    return adapter


def query_loss_after(adapter: Adapter, clips: list[Recordings], config: StartConfig) -> float:
    """The query loss after the inner steps, without any derivative, for the draw of seed 0."""
    random = np.random.default_rng(0)
    random.integers(1)
    order = random.permutation(4)
    batches = [clips[0].subset(order[:2])] * config.inner_steps
    rates = {name: value.exp() for name, value in initial_log_rates(adapter, config).items()}
    loss = FactorLoss(adapter)
    factors = adapted(loss, adapter.parameters, rates, batches, second_order=False)
    return float(loss.of(factors, clips[0].subset(order[2:])).detach())


def test_the_gradient_of_maml_is_that_of_the_loss_after_adaptation(
    whisper: Recogniser, clips: list[Recordings]
) -> None:
    config = StartConfig("maml", shots=2, inner_steps=2, inner_learning_rate=0.05, perturb=False)
    adapter = whisper_adapter(whisper)
    found = task_gradient(adapter, clips, config, np.random.default_rng(0))
    generator = torch.Generator().manual_seed(1)
    direction = {n: torch.randn(w.shape, generator=generator) for n, w in adapter.parameters.items()}
    expected = sum(float((found.factors[n] * d).sum()) for n, d in direction.items())
    state, losses = adapter.state(), []
    for sign in (1, -1):
        adapter.restore({n: state[n] + sign * STEP * d for n, d in direction.items()})
        losses.append(query_loss_after(adapter, clips, config))
    assert (losses[0] - losses[1]) / (2 * STEP) == pytest.approx(expected, rel=0.02)


def test_first_order_ignores_how_the_steps_depend_on_the_start(
    whisper: Recogniser, clips: list[Recordings]
) -> None:
    first = StartConfig("fomaml", shots=2, inner_steps=1, inner_learning_rate=0.05, perturb=False)
    adapter = whisper_adapter(whisper)
    fomaml, maml = (
        task_gradient(adapter, clips, config, np.random.default_rng(0)).factors
        for config in (first, replace(first, learner="maml"))
    )
    still = replace(first, inner_learning_rate=1e-12)
    without_steps = [
        task_gradient(adapter, clips, config, np.random.default_rng(0)).factors
        for config in (still, replace(still, learner="maml"))
    ]
    for name in fomaml:
        torch.testing.assert_close(without_steps[0][name], without_steps[1][name])
    assert any(not torch.allclose(fomaml[name], maml[name], rtol=0.01) for name in fomaml)


def test_rates_follow_the_derivative_of_the_query_loss(whisper: Recogniser, clips: list[Recordings]) -> None:
    config = StartConfig("metasgd", shots=2, inner_steps=1, inner_learning_rate=0.05, perturb=False)
    adapter = whisper_adapter(whisper)
    found = task_gradient(adapter, clips, config, np.random.default_rng(0))
    losses = [
        query_loss_after(adapter, clips, replace(config, inner_learning_rate=0.05 * np.exp(sign * STEP)))
        for sign in (1, -1)
    ]
    total = sum(float(value) for value in found.log_rates.values())
    assert (losses[0] - losses[1]) / (2 * STEP) == pytest.approx(total, rel=0.02)


def test_factors_that_do_not_move_are_learned_by_the_outer_loop(
    whisper: Recogniser, clips: list[Recordings]
) -> None:
    config = StartConfig("fomaml", shots=2, inner_steps=1, moving="decoder.layers.0.fc", perturb=False)
    adapter = whisper_adapter(whisper)
    rates = {n: v.exp() for n, v in initial_log_rates(adapter, config).items()}
    moved = adapted(FactorLoss(adapter), adapter.parameters, rates, [clips[0].subset([0, 1])], False)
    for name, weight in adapter.parameters.items():
        assert torch.equal(moved[name], weight) == (not name.startswith("decoder.layers.0.fc"))
    gradients = task_gradient(adapter, clips, config, np.random.default_rng(0)).factors
    assert bool(gradients["decoder.layers.0.encoder_attn.q_proj.weight.a"].any())


def test_a_step_is_of_the_size_of_the_rate_whatever_the_gradient() -> None:
    large, small = torch.full((3, 4), 100.0), torch.full((5,), 50.0)
    found = directions({"large": large, "small": small, "none": torch.zeros(2)})
    assert found["large"].square().mean().sqrt() == pytest.approx(1.0, abs=0.01)
    assert found["small"].square().mean().sqrt() == pytest.approx(1.0, abs=0.01)
    assert not found["none"].any()


@pytest.mark.parametrize("learner", ["maml", "fomaml", "metasgd", "reptile", "joint"])
def test_all_learners_work_through_ctc(
    base: UnperturbedRecogniser, speakers: list[Recordings], learner: str
) -> None:
    config = replace(SMALL, learner=learner)
    found = task_gradient(lora_adapter(base), speakers, config, np.random.default_rng(0))
    assert np.isfinite(found.loss)
    assert any(bool(gradient.any()) for gradient in found.factors.values())


def test_second_order_through_ctc_is_that_of_finite_differences(
    base: UnperturbedRecogniser, speakers: list[Recordings]
) -> None:
    config = StartConfig("maml", shots=2, inner_steps=1, inner_learning_rate=0.1, rank=2, alpha=2.0)
    adapter = lora_adapter(base)
    generator = torch.Generator().manual_seed(2)
    for weight in adapter.parameters.values():
        weight.data = 0.3 * torch.randn(weight.shape, generator=generator)
    found = task_gradient(adapter, speakers[:1], config, np.random.default_rng(0)).factors
    random = np.random.default_rng(0)
    random.integers(1)
    order = random.permutation(len(speakers[0]))
    support, query = speakers[0].subset(order[:2]), speakers[0].subset(order[2:4])
    rates = {name: value.exp() for name, value in initial_log_rates(adapter, config).items()}
    loss, state, losses = FactorLoss(adapter), adapter.state(), []
    size = sum(float(g.square().sum()) for g in found.values()) ** 0.5
    for sign in (1, -1):
        adapter.restore({name: state[name] + sign * 0.01 * found[name] / size for name in state})
        factors = adapted(loss, adapter.parameters, rates, [support], second_order=False)
        losses.append(float(loss.of(factors, query).detach()))
    assert (losses[0] - losses[1]) / 0.02 == pytest.approx(size, rel=0.05)


def test_fine_tuning_uses_the_rates_of_the_start_of_the_base(
    base: UnperturbedRecogniser, speakers: list[Recordings]
) -> None:
    lora = lora_adapter(base).delta({}).lora
    name = base.adapter_targets("lora")[0]
    base.start, base.start_rates = lora, {f"{name}.a": 0.0, f"{name}.b": 0.0}
    delta = fine_tune(base, speakers[0], FineTuneConfig(preset="lora", steps=2))
    assert lora is not None
    assert delta.lora is not None
    for (a, b), (start_a, start_b) in zip(delta.lora.factors.values(), lora.factors.values(), strict=True):
        still = torch.equal(a, start_a) and torch.equal(b, start_b)
        assert still == (a is delta.lora.factors[name][0])


def test_shrinking_moves_back_towards_a_learned_start(base: UnperturbedRecogniser) -> None:
    adapter = lora_adapter(base)
    ones = {name: torch.ones_like(weight) for name, weight in adapter.parameters.items()}
    adapter.restore(ones)
    later = Adapter(base, AdapterConfig("lora", 2, 2.0), start=adapter.delta({}).lora)
    later.restore({name: 3 * one for name, one in ones.items()})
    later.shrink(0.5)
    for weight in later.parameters.values():
        assert torch.equal(weight, torch.full_like(weight, 2.0))
