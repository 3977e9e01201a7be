"""Meta-learned adapter starts: meta-gradients computed by hand, and starts that help their speakers."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from metavox.adaptation.adapter import Adapter, AdapterConfig
from metavox.adaptation.fine_tune import Recordings
from metavox.adaptation.meta_start import StartConfig, learn_start, task_gradient
from metavox.dataset.store import Store
from metavox.recognisers.conformer.kind import ConformerRecogniser
from metavox.recognisers.conformer.network import Network

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
    loss, gradients = task_gradient(adapter, speakers, config, np.random.default_rng(0))
    speaker = speakers[int(random.integers(len(speakers)))]
    query = speaker.subset(random.permutation(len(speaker))[2:4])
    expected = adapter.recogniser.loss(query.audio, query.texts)
    expected.backward()
    assert loss == pytest.approx(float(expected.detach()), rel=1e-5)
    for name, weight in adapter.parameters.items():
        expected_gradient = torch.zeros_like(weight) if weight.grad is None else weight.grad
        torch.testing.assert_close(gradients[name], expected_gradient)
        assert torch.equal(weight.detach(), start[name])


def test_reptile_moves_towards_the_weights_adapted_to_a_speaker(
    base: UnperturbedRecogniser, speakers: list[Recordings]
) -> None:
    adapter = lora_adapter(base)
    start = adapter.state()
    _, gradients = task_gradient(adapter, speakers, SMALL, np.random.default_rng(1))
    assert all(torch.equal(adapter.state()[name], value) for name, value in start.items())
    adapter.restore({name: start[name] - gradient for name, gradient in gradients.items()})
    improved = 0
    for speaker in speakers:
        before = float(base.loss(speaker.audio, speaker.texts).detach())
        improved += float(adapter.recogniser.loss(speaker.audio, speaker.texts).detach()) < before
    assert improved >= 2


@pytest.mark.parametrize("learner", ["joint", "reptile", "fomaml"])
def test_learning_a_start_is_bitwise_reproducible(
    base: UnperturbedRecogniser, speakers: list[Recordings], tmp_path: Path, learner: str
) -> None:
    config = StartConfig(learner, steps=3, shots=2, inner_steps=1, rank=2, alpha=2.0)  # type: ignore[arg-type]
    one, two = (learn_start(base, speakers, config, tmp_path / name, "key") for name in ("a", "b"))
    assert one.targets == base.adapter_targets("lora")
    assert any(bool(b.any()) for _, b in one.factors.values())
    for name, (a, b) in one.factors.items():
        assert torch.equal(a, two.factors[name][0])
        assert torch.equal(b, two.factors[name][1])


def test_speakers_with_too_little_speech_are_refused(
    base: UnperturbedRecogniser, speakers: list[Recordings], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="no speaker has 200 recordings"):
        learn_start(base, speakers, StartConfig(shots=100), tmp_path, "key")
