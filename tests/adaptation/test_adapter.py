"""Adapters: which weights are trained, the unchanged base, and the delta."""

from collections.abc import Callable

import pytest
import torch

from metavox.adaptation.adapter import ROWS, Adapter, AdapterConfig
from metavox.adaptation.guards import scaled
from metavox.recognisers.conformer.kind import PRESETS, ConformerRecogniser, trainable
from metavox.recognisers.conformer.network import Network
from metavox.recognisers.delta import Delta, LoRA

BASE = "b" * 64


@pytest.fixture
def base(make_model: Callable[..., Network]) -> ConformerRecogniser:
    return ConformerRecogniser(make_model().requires_grad_(False), "small", BASE)


def output(recogniser: ConformerRecogniser) -> torch.Tensor:
    mels = torch.randn(1, 60, 16, generator=torch.Generator().manual_seed(0)) * 2 - 6
    with torch.inference_mode():
        return recogniser.network.characters(mels, torch.tensor([60]))[0][0]


def nudged(adapter: Adapter, by: float = 0.05) -> Adapter:
    random = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in adapter.parameters.values():
            weight.add_(by * torch.randn(weight.shape, generator=random))
    return adapter


@pytest.mark.parametrize("characters", ["", "жя"])
@pytest.mark.parametrize("preset", PRESETS)
def test_an_adapter_starts_at_the_base_and_its_delta_reproduces_it(
    base: ConformerRecogniser, preset: str, characters: str
) -> None:
    before = {name: value.clone() for name, value in base.network.state_dict().items()}
    adapter = Adapter(base, AdapterConfig(preset, rank=3, alpha=6.0), characters)  # type: ignore[arg-type]
    if characters:
        assert torch.equal(output(adapter.recogniser), output(base.with_characters(characters)))
    else:
        torch.testing.assert_close(output(adapter.recogniser), output(base))
    delta = nudged(adapter).delta({"note": "test"})
    assert not torch.allclose(output(adapter.recogniser)[:, :29].log_softmax(1), output(base), atol=1e-3)
    torch.testing.assert_close(output(base.using([delta])), output(adapter.recogniser))
    assert (delta.base, delta.about) == (BASE, {"note": "test"})
    assert all(torch.equal(value, before[name]) for name, value in base.network.state_dict().items())
    assert not any(p.requires_grad for p in base.network.parameters())
    delta_again = delta.shapes()
    nudged(adapter)
    assert delta.shapes() == delta_again
    assert not torch.equal(output(base.using([delta])), output(adapter.recogniser)), (
        "a delta does not follow its adapter"
    )


@pytest.mark.parametrize("preset", PRESETS)
def test_only_the_weights_of_the_preset_are_trained(base: ConformerRecogniser, preset: str) -> None:
    adapter = Adapter(base, AdapterConfig(preset, rank=3))  # type: ignore[arg-type]
    targets = base.adapter_targets(preset)  # type: ignore[arg-type]
    trainable_ids = {id(p) for p in adapter.recogniser.network.parameters() if p.requires_grad}
    assert trainable_ids == {id(p) for p in adapter.parameters.values()}
    delta = nudged(adapter).delta({})
    assert set(delta.shapes()) == set(targets)
    if preset == "lora":
        assert delta.sections == ("lora",)
        assert adapter.parameters.keys() == {f"{name}.{side}" for name in targets for side in "ab"}
        assert all(a.shape[0] == b.shape[1] == 3 for a, b in delta.lora.factors.values())  # type: ignore[union-attr]
    else:
        assert delta.sections == ("weights",)


def test_presets_are_nested_and_the_word_embedding_is_never_trained(base: ConformerRecogniser) -> None:
    head, norms, everything, lora = (
        set(trainable(base.network, p)) for p in ("head", "norms", "all", "lora")
    )  # type: ignore[arg-type]
    assert head == {"ctc.weight", "ctc.bias"}
    assert head < norms < everything
    assert "ctc.weight" in lora < everything
    assert not any(name.startswith("word.") for name in everything)
    grown = base.with_characters("ж")
    assert set(grown.adapter_targets("all")) == everything, "a new row belongs to the adapter that adds it"


@pytest.mark.parametrize("preset", ["norms", "lora"])
def test_the_distance_is_that_of_the_merged_weights(base: ConformerRecogniser, preset: str) -> None:
    adapter = Adapter(base, AdapterConfig(preset, rank=3, alpha=6.0), "ж")  # type: ignore[arg-type]
    assert float(adapter.distance().detach()) == 0
    delta = nudged(adapter).delta({})
    expected = sum(float(value.square().sum()) for value in delta.weights.values())
    if delta.lora:
        expected = sum(
            float((delta.lora.scale * b @ a).square().sum()) for a, b in delta.lora.factors.values()
        )
    assert float(adapter.distance().detach()) == pytest.approx(expected, rel=1e-4)
    adapter.distance().backward()
    gradients = {name: weight.grad for name, weight in adapter.parameters.items()}
    assert all(gradients[name] is None for name in gradients if name.startswith(ROWS)), (
        "the distance leaves out new characters"
    )


def test_restoring_a_state_restores_the_output(base: ConformerRecogniser) -> None:
    adapter = Adapter(base, AdapterConfig("norms"), "ж")
    state, expected = adapter.state(), output(adapter.recogniser)
    nudged(adapter)
    adapter.restore(state)
    assert torch.equal(output(adapter.recogniser), expected)


@pytest.mark.parametrize("preset", ["lora", "norms", "all"])
def test_shrinking_an_adapter_scales_its_distance_to_the_base(base: ConformerRecogniser, preset: str) -> None:
    adapter = nudged(Adapter(base, AdapterConfig(preset, rank=3), "ж"))  # type: ignore[arg-type]
    before, rows = adapter.distance(), adapter.parameters[f"{ROWS}bias"].clone()
    scaled_delta = scaled(adapter.delta({}), 0.5)
    adapter.shrink(0.5)
    assert float(adapter.distance()) == pytest.approx(0.25 * float(before))
    torch.testing.assert_close(output(adapter.recogniser), output(base.using([scaled_delta])))
    assert torch.equal(adapter.parameters[f"{ROWS}bias"], rows), "the rows of new characters are not scaled"


def test_the_same_seed_gives_the_same_initial_factors(base: ConformerRecogniser) -> None:
    first, again, other = (Adapter(base, AdapterConfig("lora", seed=seed)).state() for seed in (1, 1, 2))
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    assert not all(torch.equal(value, other[name]) for name, value in first.items())


@pytest.mark.parametrize("stride", [1, 2])
def test_a_start_of_any_rank_and_scale_sets_the_initial_factors(
    base: ConformerRecogniser, stride: int
) -> None:
    names = base.adapter_targets("lora")[::stride]
    random = torch.Generator().manual_seed(2)
    factors = {}
    for name in names:
        rows, columns = base.network.get_parameter(name).shape
        factors[name] = (
            torch.randn(2, columns, generator=random),
            0.1 * torch.randn(rows, 2, generator=random),
        )
    start = LoRA(2, 6.0, factors)
    adapter = Adapter(base, AdapterConfig("lora", rank=4, alpha=4.0), start=start)
    expected = output(base.using([Delta(BASE, lora=start)]))
    torch.testing.assert_close(output(adapter.recogniser), expected)
    assert not torch.allclose(expected, output(base), atol=1e-2)
    torch.testing.assert_close(output(base.using([nudged(adapter).delta({})])), output(adapter.recogniser))
    assert torch.equal(start.factors[names[0]][0], factors[names[0]][0])


@pytest.mark.parametrize("preset", ["lora", "norms", "all"])
def test_a_delta_learned_on_a_view_adds_to_the_deltas_of_the_view(
    base: ConformerRecogniser, preset: str
) -> None:
    first = [
        nudged(Adapter(base, AdapterConfig("lora", rank=2))).delta({}),
        nudged(Adapter(base, AdapterConfig("norms"), "я")).delta({}),
    ]
    view = base.using(first)
    adapter = Adapter(view, AdapterConfig(preset, rank=3, alpha=9.0), "ж")  # type: ignore[arg-type]
    adapter.recogniser.loss([torch.randn(60, 16) - 6], ["жя ab"]).backward()
    row_gradients = adapter.parameters[f"{ROWS}weight"].grad
    assert row_gradients is not None
    assert not row_gradients[0].any(), "the row of another delta's character is not trained"
    assert row_gradients[1].any()
    with torch.no_grad():
        for name, weight in adapter.parameters.items():
            weight.add_(0.01 * (weight.grad != 0) if name.startswith(ROWS) else 0.01)
    delta = adapter.delta({})
    assert delta.output_rows is not None
    assert delta.output_rows.alphabet == "ж"
    for combined in (view.using([delta]), base.using([*first, delta])):
        torch.testing.assert_close(output(combined), output(adapter.recogniser), atol=1e-4, rtol=1e-4)
