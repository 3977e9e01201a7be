"""Views with deltas: deltas add up, leave the base unchanged, share unchanged weights, and fit only their base."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from metavox.errors import UserError
from metavox.recognisers.conformer.kind import ConformerRecogniser
from metavox.recognisers.conformer.network import Network
from metavox.recognisers.delta import Delta, LoRA, OutputRows, Vocabulary, load_delta, save_delta
from metavox.recognisers.lora import LoRALinear, applied, set_lora, set_weight, shared_view

BASE = "b" * 64
ALPHABET = " 'abcdefghijklmnopqrstuvwxyzü"
LINEAR = "encoder.project.weight"


@pytest.fixture
def base(make_model: Callable[..., Network]) -> ConformerRecogniser:
    return ConformerRecogniser(make_model(alphabet=ALPHABET).requires_grad_(False), "small", BASE)


def weights_delta(seed: int, name: str = "ctc.weight", shape: tuple[int, ...] = (30, 16)) -> Delta:
    random = torch.Generator().manual_seed(seed)
    return Delta(BASE, {name: torch.randint(-64, 64, shape, generator=random) / 64})


def lora_delta(
    network: nn.Module, seed: int = 0, rank: int = 2, alpha: float = 4.0, name: str = LINEAR
) -> Delta:
    random = torch.Generator().manual_seed(seed)
    rows, columns = network.get_parameter(name).shape
    a, b = torch.randn(rank, columns, generator=random), torch.randn(rows, rank, generator=random)
    return Delta(BASE, lora=LoRA(rank, alpha, {name: (a, b)}))


def characters_delta(characters: str, seed: int = 3) -> Delta:
    random = torch.Generator().manual_seed(seed)
    rows = torch.randn(len(characters), 16, generator=random)
    return Delta(BASE, output_rows=OutputRows(characters, rows, torch.ones(len(characters))))


def state(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def is_unchanged(network: nn.Module, before: dict[str, torch.Tensor]) -> bool:
    now = network.state_dict()
    return now.keys() == before.keys() and all(torch.equal(now[name], before[name]) for name in before)


def mels(seed: int = 0, frames: int = 60) -> torch.Tensor:
    return torch.randn(frames, 16, generator=torch.Generator().manual_seed(seed)) * 2 - 6


def output(recogniser: ConformerRecogniser, seed: int = 0) -> torch.Tensor:
    with torch.inference_mode():
        return recogniser.network.characters(mels(seed)[None], torch.tensor([60]))[0][0]


@pytest.mark.parametrize("bias", [True, False])
def test_a_lora_layer_equals_its_merged_weight(bias: bool) -> None:
    torch.manual_seed(0)
    linear, x = nn.Linear(7, 5, bias=bias), torch.randn(4, 3, 7)
    a, b = torch.randn(2, 7), torch.randn(5, 2)
    layer = LoRALinear(linear, a, b, 0.75)
    expected = nn.functional.linear(x, linear.weight + 0.75 * b @ a, linear.bias)
    torch.testing.assert_close(layer(x), expected)
    assert layer.weight is linear.weight
    assert layer.bias is linear.bias
    stacked = LoRALinear(layer, torch.randn(3, 7), torch.randn(5, 3), 2.0)
    second_update = 2.0 * stacked.lora_b[:, 2:] / 2.0 @ stacked.lora_a[2:]
    torch.testing.assert_close(
        stacked(x), nn.functional.linear(x, linear.weight + 0.75 * b @ a + second_update, linear.bias)
    )


def test_deltas_of_every_section_add_up_in_any_order(base: ConformerRecogniser) -> None:
    speaker, room = (
        weights_delta(1),
        Delta(BASE, {**weights_delta(2).weights, "encoder.project.bias": torch.ones(16)}),
    )
    first, second = lora_delta(base.network, 3), lora_delta(base.network, 4, rank=3, alpha=1.5)
    deltas = [speaker, room, first, second]
    expected = shared_view(base.network)
    set_weight(
        expected,
        "ctc.weight",
        expected.ctc.weight + speaker.weights["ctc.weight"] + room.weights["ctc.weight"],
    )
    set_weight(expected, "encoder.project.bias", expected.get_parameter("encoder.project.bias") + 1)
    merged_weight = expected.get_parameter(LINEAR).clone()
    for delta in (first, second):
        assert delta.lora is not None
        a, b = delta.lora.factors[LINEAR]
        merged_weight += delta.lora.alpha / delta.lora.rank * b @ a
    set_weight(expected, LINEAR, merged_weight)
    for ordered in (deltas, deltas[::-1]):
        torch.testing.assert_close(
            output(base.using(ordered)), output(base.with_network(expected)), atol=1e-4, rtol=1e-4
        )
    one_by_one = base
    for delta in deltas:
        one_by_one = one_by_one.using([delta])
    torch.testing.assert_close(output(one_by_one), output(base.using(deltas)), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(output(base.using(deltas)), output(base.using(deltas[:-1])), atol=1e-2)


def test_stacked_lora_layers_add_up(base: ConformerRecogniser) -> None:
    first, second = lora_delta(base.network, 3), lora_delta(base.network, 4, rank=5, alpha=1.0)
    stacked = base.using([first, second]).network.get_submodule("encoder.project")
    assert isinstance(stacked, LoRALinear)
    assert stacked.lora_a.shape[0] == 7
    product = sum(d.lora.scale * b @ a for d in (first, second) for a, b in [d.lora.factors[LINEAR]])  # type: ignore[union-attr]
    torch.testing.assert_close(stacked.scale * stacked.lora_b @ stacked.lora_a, product)


def test_leaving_a_delta_out_restores_the_base_exactly(
    base: ConformerRecogniser,
) -> None:
    weights_before, output_before = state(base.network), output(base)
    view = base.using([weights_delta(1), lora_delta(base.network), characters_delta("жя")])
    assert not torch.allclose(output(view)[:, :30], output_before, atol=1e-2)
    assert is_unchanged(base.network, weights_before)
    assert torch.equal(output(base), output_before)
    assert torch.equal(output(base.using([])), output_before)
    assert base.using([]) is base
    assert base.network.tokenizer.alphabet == ALPHABET
    assert torch.equal(output(base.using([weights_delta(1)])), output(base.using([weights_delta(1)])))


def test_views_share_unchanged_weights(base: ConformerRecogniser) -> None:
    base_pointers = {
        name: value.data_ptr() for name, value in base.network.state_dict(keep_vars=True).items()
    }
    cases = {
        "": base.using([characters_delta("ж")]),
        "ctc.weight": base.using([weights_delta(1)]),
        "lora": base.using([lora_delta(base.network)]),
    }
    for changed, view in cases.items():
        view_weights = view.network.state_dict(keep_vars=True)
        assert base_pointers.keys() <= view_weights.keys()
        for name, pointer in base_pointers.items():
            assert (view_weights[name].data_ptr() == pointer) is (name != changed), name
    added = {n: p for n, p in cases["lora"].network.named_parameters() if n not in base_pointers}
    assert added.keys() == {"encoder.project.lora_a", "encoder.project.lora_b"}
    assert not any(p.requires_grad for view in cases.values() for p in view.network.parameters())
    assert not any(module.training for view in cases.values() for module in view.network.modules())


def test_threads_with_different_views_do_not_interfere(base: ConformerRecogniser) -> None:
    views = [base, *(base.using([weights_delta(n), lora_delta(base.network, n)]) for n in range(1, 6))]
    samples = (np.random.default_rng(0).normal(0, 0.1, (3, 16000))).astype(np.float32)
    alone = [view.transcribe(list(samples)) for view in views]
    assert len({str(transcripts) for transcripts in alone}) == len(views)
    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(lambda n: (n % 6, views[n % 6].transcribe(list(samples))), range(60)))
    assert all(found == alone[index] for index, found in together)
    before = output(base)
    with ThreadPoolExecutor(6) as pool:  # views that are created concurrently
        outputs = list(pool.map(lambda n: output(base.using([weights_delta(n)])), [0, 1, 2] * 10))
    assert all(torch.equal(one, outputs[index % 3]) for index, one in enumerate(outputs))
    assert torch.equal(output(base), before)


@pytest.mark.parametrize(
    "mismatched",
    [
        Delta("c" * 64, weights_delta(1).weights),
        Delta("c" * 64, lora=LoRA(1, 1.0, {LINEAR: (torch.ones(1, 64), torch.ones(16, 1))})),
        Delta("c" * 64, vocabulary=Vocabulary(BASE, ("on",), torch.ones(1, 24))),
        weights_delta(1, "no.such.weight"),
        weights_delta(1, "ctc.weight", (2, 2)),
        weights_delta(1, "word.centre.running_mean", (24,)),
        Delta(BASE, lora=LoRA(1, 1.0, {"no.such.weight": (torch.ones(1, 16), torch.ones(30, 1))})),
        Delta(BASE, lora=LoRA(1, 1.0, {"ctc.weight": (torch.ones(1, 15), torch.ones(30, 1))})),
        Delta(BASE, lora=LoRA(1, 1.0, {"ctc.bias": (torch.ones(1, 1), torch.ones(30, 1))})),
        Delta(BASE, output_rows=OutputRows("ж", torch.ones(1, 15), torch.ones(1))),
    ],
    ids=lambda delta: " ".join([delta.base[0], *delta.sections, *delta.shapes()]),
)
def test_a_mismatched_delta_is_a_one_line_error_and_changes_nothing(
    base: ConformerRecogniser, mismatched: Delta
) -> None:
    before = state(base.network)
    for deltas in ([mismatched], [weights_delta(0), mismatched], [mismatched, lora_delta(base.network)]):
        with pytest.raises(UserError, match=r"made for base|does not have") as caught:
            base.using(deltas)
        assert "\n" not in str(caught.value)
    assert is_unchanged(base.network, before)


def test_unsupported_sections_are_rejected() -> None:
    plain = nn.Sequential(nn.Embedding(4, 3))
    with pytest.raises(UserError, match="adapts the linear layer 0"):
        set_lora(plain, "0.weight", torch.ones(1, 3), torch.ones(4, 1), 1.0)
    with pytest.raises(UserError, match="cannot take"):
        applied(plain, BASE, [characters_delta("ж")])


def test_added_characters_follow_the_alphabet_and_combine_with_other_deltas(
    base: ConformerRecogniser, tmp_path: Path
) -> None:
    save_delta(characters_delta("жя"), tmp_path / "delta")
    extended = base.using([load_delta(tmp_path / "delta"), weights_delta(1), characters_delta("ω")])
    original = base.using([weights_delta(1)])
    assert extended.network.tokenizer.alphabet == ALPHABET + "жяω"
    assert extended.network.tokenizer.encode("ab") == original.network.tokenizer.encode("ab")
    before = output(extended)
    assert before.shape[1] == output(original).shape[1] + 3
    torch.testing.assert_close(before[:, : len(ALPHABET) + 1].log_softmax(1), output(original))
    stepwise = base.using([characters_delta("жя")]).using([weights_delta(1)]).using([characters_delta("ω")])
    torch.testing.assert_close(output(stepwise), before, atol=2e-3, rtol=1e-3)  # the file has half precision


def test_two_deltas_that_add_the_same_character_are_rejected(base: ConformerRecogniser) -> None:
    for deltas, message in (
        ([characters_delta("жя"), characters_delta("я")], "add the character 'я'"),
        ([characters_delta("a")], "add the character 'a'"),
    ):
        with pytest.raises(UserError, match=message):
            base.using([weights_delta(0), *deltas])
    with pytest.raises(UserError, match="add the character 'я'"):
        base.using([characters_delta("я")]).using([characters_delta("яю")])
    assert base.network.more_characters is None
