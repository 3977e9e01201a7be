"""Test-time adaptation: episodic and continual mode, and resets."""

import math
from collections.abc import Callable

import pytest
import torch

from metavox.adaptation.test_time import RECENT, TestTime, TestTimeConfig, entropy_confusion_loss
from metavox.config import EncoderConfig, FeatureConfig, FrontEndConfig
from metavox.enrolment.enrol import enrol_words
from metavox.recognisers.conformer.kind import ConformerRecogniser
from metavox.recognisers.conformer.network import ModelConfig, Network
from metavox.recognisers.delta import Delta


def speech(seed: int, level: float = -6.0) -> torch.Tensor:
    return torch.randn(60, 16, generator=torch.Generator().manual_seed(seed)) * 2 + level


def loss(model: Network, mels: torch.Tensor, config: TestTimeConfig) -> float:
    with torch.inference_mode():
        log_probs = model.characters(mels[None], torch.tensor([len(mels)]))[0][0]
        return float(entropy_confusion_loss(log_probs, config.temperature, config.entropy))


def test_the_loss_has_the_limits_of_entropy_and_confusion() -> None:
    uniform, certain = torch.full((7, 4), 0.25).log(), torch.eye(4).repeat(2, 1).clamp_min(1e-9).log()
    assert float(entropy_confusion_loss(uniform, 1.0, 1.0, blank=False)) == pytest.approx(
        math.log(4), abs=1e-4
    )
    assert float(entropy_confusion_loss(uniform, 1.0, 0.0, blank=False)) == pytest.approx(0.75, abs=1e-4)
    for entropy in (0.0, 1.0):
        assert float(entropy_confusion_loss(certain, 1.0, entropy, blank=False)) == pytest.approx(0, abs=1e-4)


def test_an_episode_lowers_the_loss_and_does_not_affect_the_next(make_model: Callable[..., Network]) -> None:
    model, config = make_model(), TestTimeConfig("episodic", 5, 0.01)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    test_time = TestTime(model, config)
    first = test_time.characters(speech(1))
    assert loss(first, speech(1), config) < loss(model, speech(1), config)
    kept = {name: value.clone() for name, value in first.state_dict().items()}
    test_time.characters(speech(2))
    again = test_time.characters(speech(1))
    assert all(torch.equal(value, kept[name]) for name, value in again.state_dict().items())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(again.ctc.weight, model.ctc.weight)


def test_the_whole_front_end_adapts() -> None:
    torch.manual_seed(0)
    features = FeatureConfig(mels=16, extras=("prosody", "formants"))
    streams = FrontEndConfig(("mel", "pcen", "envelope", "prosody", "formants"), "wiener", "running", True)
    encoder = EncoderConfig(channels=4, dim=16, layers=1, heads=2, kernel=5, embedding=24)
    model = Network(ModelConfig(features, encoder, " abc", streams)).eval()
    mels_and_extras = torch.cat(
        [speech(1), torch.rand(60, 9, generator=torch.Generator().manual_seed(2))], dim=1
    )
    adapted = TestTime(model, TestTimeConfig("episodic", 3, 0.01)).characters(mels_and_extras)
    before = dict(model.encoder.frontend.named_parameters())
    unchanged = [
        n for n, value in adapted.encoder.frontend.named_parameters() if torch.equal(value, before[n])
    ]
    assert not unchanged


def test_steps_that_raise_the_loss_are_not_kept(make_model: Callable[..., Network]) -> None:
    model, config = make_model(), TestTimeConfig("episodic", 3, 1.0)
    adapted = TestTime(model, config).characters(speech(1))
    assert loss(adapted, speech(1), config) <= loss(model, speech(1), config) + 1e-6


def test_continual_mode_keeps_the_weights_until_they_get_worse(
    make_model: Callable[..., Network],
) -> None:
    model = make_model()
    test_time = TestTime(model, TestTimeConfig("continual", 2, 0.01, jump=0.5))
    for seed in range(RECENT):
        student = test_time.characters(speech(seed))
    assert test_time.resets == 0
    base = dict(model.named_parameters())
    assert any(not torch.equal(weight, base[name]) for name, weight in student.named_parameters())
    student = test_time.characters(speech(9))
    assert test_time.resets == 1, "the loss is more than half of the recent mean"
    assert all(torch.equal(weight, base[name]) for name, weight in student.named_parameters())


def test_word_recognition_adapts_too(make_model: Callable[..., Network]) -> None:
    model = make_model()
    enrolled = enrol_words(model, "base", [speech(1), speech(2)], ["ab", "cd"]).vocabulary
    assert enrolled is not None
    before = {name: value.clone() for name, value in model.state_dict().items()}
    adapted = TestTime(model, TestTimeConfig("episodic", 5, 0.01)).words(speech(3), enrolled)

    def entropy(network: Network) -> float:
        with torch.inference_mode():
            embedded = network.embed(speech(3)[None], torch.tensor([60]))
        probabilities = (enrolled.logit_scale * embedded @ enrolled.prototypes.T).softmax(1)
        return float(-(probabilities * probabilities.log()).sum())

    assert entropy(adapted) <= entropy(model)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_view_adapts_and_keeps_its_delta(make_model: Callable[..., Network]) -> None:
    base = ConformerRecogniser(make_model().requires_grad_(False), "small", "b" * 64)
    random = torch.Generator().manual_seed(0)
    delta = Delta("b" * 64, {"encoder.project.bias": torch.randn(16, generator=random)})
    view, config = base.using([delta]).network, TestTimeConfig("episodic", 5, 0.01)
    adapted = TestTime(view, config).characters(speech(1))
    assert loss(adapted, speech(1), config) < loss(view, speech(1), config)
    torch.testing.assert_close(
        view.get_parameter("encoder.project.bias"),
        base.network.get_parameter("encoder.project.bias") + delta.weights["encoder.project.bias"],
    )
