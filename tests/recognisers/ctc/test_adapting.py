"""Adapters of every architecture: every target has an effect, training lowers the loss, and deltas reproduce it."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from metavox.adaptation.adapter import Adapter, AdapterConfig
from metavox.errors import UserError
from metavox.recognisers.ctc.folder import load
from metavox.recognisers.ctc.recogniser import PRESETS, CtcRecogniser
from metavox.recognisers.delta import load_delta, save_delta
from metavox.recognisers.lora import set_lora, shared_view
from tests.recognisers.ctc.conftest import ALL, speech

TEXTS = ["rain", "sun and"]
CLIPS = [speech(0.5, 1), speech(0.4, 2)]
ROWS_FASTER = 5


def trained(
    base: CtcRecogniser, config: AdapterConfig, texts: list[str], steps: int, rate: float = 2e-2
) -> tuple[Adapter, list[float]]:
    adapter = Adapter(base, config, base.missing_characters(texts))
    groups = [
        {"params": [weight], "lr": rate * (ROWS_FASTER if name.startswith("output_rows") else 1)}
        for name, weight in adapter.parameters.items()
    ]
    optimizer = torch.optim.Adam(groups)
    losses = []
    for _ in range(steps):
        loss = adapter.recogniser.loss(CLIPS, texts)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return adapter, losses


@pytest.mark.parametrize("name", ALL)
def test_every_lora_target_changes_the_output_and_gets_a_gradient(
    name: str, make_folder: Callable[..., Path]
) -> None:
    base = load(make_folder(name), name, "d" * 64)
    targets = base.adapter_targets("lora")
    assert len(targets) == 3 * (len(targets) // 3) + 1
    assert len(targets) >= 3 * 6 + 1
    before = base.loss(CLIPS[:1], ["rain"])
    for target in targets:
        network = shared_view(base.network)
        rows, columns = network.get_parameter(target).shape
        torch.manual_seed(0)
        layer = set_lora(network, target, torch.randn(2, columns), torch.randn(rows, 2), 0.5)
        for factor in (layer.lora_a, layer.lora_b):
            factor.requires_grad_(True)
        loss = base.with_network(network).loss(CLIPS[:1], ["rain"])
        assert abs(loss.item() - before.item()) > 1e-5, target
        loss.backward()
        for factor in (layer.lora_a, layer.lora_b):
            assert factor.grad is not None, target
            assert float(factor.grad.abs().max()) > 1e-7, target
    assert torch.equal(base.loss(CLIPS[:1], ["rain"]), before)


@pytest.mark.parametrize("name", ALL)
def test_a_delta_reproduces_a_trained_lora_adapter(
    name: str, make_folder: Callable[..., Path], tmp_path: Path
) -> None:
    base = load(make_folder(name), name, "d" * 64)
    before = base.loss(CLIPS[:1], ["rain"])
    adapter, losses = trained(base, AdapterConfig("lora", rank=2), TEXTS, 12)
    assert losses[-1] < 0.8 * losses[0]
    save_delta(adapter.delta({}), tmp_path / "delta")
    reloaded = base.using([load_delta(tmp_path / "delta")])
    torch.testing.assert_close(
        reloaded.text_log_probs(CLIPS, TEXTS),
        adapter.recogniser.text_log_probs(CLIPS, TEXTS),
        atol=0.02,
        rtol=0.02,
    )
    assert torch.equal(base.loss(CLIPS[:1], ["rain"]), before)


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_trains_only_its_targets(preset: str, make_folder: Callable[..., Path]) -> None:
    base = load(make_folder("wav2vec2-base"), "base", "d" * 64)
    weights = {name: value.clone() for name, value in base.network.named_parameters()}
    adapter, losses = trained(base, AdapterConfig(preset, rank=2), TEXTS, 6, 3e-3)  # type: ignore[arg-type]
    assert losses[-1] < losses[0]
    assert not any("feature_extractor" in name for name in adapter.parameters)
    assert any(name.startswith("lm_head.weight") for name in adapter.parameters)
    assert all(torch.equal(value, weights[name]) for name, value in base.network.named_parameters())
    changed = adapter.delta({}).shapes()
    assert set(changed) == set(base.adapter_targets(preset))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ALL)
def test_every_target_of_all_gets_a_gradient(name: str, make_folder: Callable[..., Path]) -> None:
    adapter = Adapter(load(make_folder(name), name, "d" * 64), AdapterConfig("all"))
    adapter.recogniser.loss(CLIPS, TEXTS).backward()
    assert all(weight.grad is not None for weight in adapter.parameters.values())
    assert all(bool(weight.grad.isfinite().all()) for weight in adapter.parameters.values())


def test_presets_select_the_named_weights(make_folder: Callable[..., Path]) -> None:
    base = load(make_folder("xls-r"), "base", "d" * 64)
    assert base.adapter_targets("lora") == base.adapter_targets("lora-encoder")
    assert base.adapter_targets("head") == ("lm_head.weight", "lm_head.bias")
    last = base.adapter_targets("last")
    assert {n.split(".")[3] for n in last if n.startswith("acoustic")} == {"1", "2"}
    norms = base.adapter_targets("norms")
    assert "acoustic.encoder.layers.0.final_layer_norm.weight" in norms
    assert "acoustic.encoder.layers.0.attention.q_proj.bias" in norms
    assert "acoustic.encoder.layers.0.attention.q_proj.weight" not in norms
    for preset in ("frontend", "lora-decoder"):
        with pytest.raises(UserError, match="expected one of lora"):
            base.adapter_targets(preset)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "head", "steps"), [("xls-r", True, 200), ("hubert", False, 40), ("wavlm-base", False, 40)]
)
def test_a_delta_reproduces_a_newly_learned_script(
    name: str, head: bool, steps: int, make_folder: Callable[..., Path], tmp_path: Path
) -> None:
    base = load(make_folder(name, head=head), name, "d" * 64)
    texts = ["дым дом", "мода"]
    assert base.writable(texts[0]) == ""
    assert base.missing_characters(texts) == ("адмоы" if head else " адмоы")
    adapter, losses = trained(base, AdapterConfig("lora", rank=4, alpha=16.0), texts, steps, 1e-2)
    assert losses[-1] < 0.5 * losses[0]
    if steps > 100:
        assert [transcript.text for transcript in adapter.recogniser.transcribe(CLIPS)] == texts
    delta = adapter.delta({})
    save_delta(delta, tmp_path / "delta")
    reloaded = base.using([load_delta(tmp_path / "delta")])
    assert [t.text for t in reloaded.transcribe(CLIPS)] == [
        t.text for t in adapter.recogniser.transcribe(CLIPS)
    ]
    torch.testing.assert_close(
        reloaded.text_log_probs(CLIPS, texts),
        adapter.recogniser.text_log_probs(CLIPS, texts),
        atol=0.02,
        rtol=0.02,
    )
    assert reloaded.writable(texts[0]) == texts[0]
    with pytest.raises(UserError, match="occurs twice"):
        base.using([delta, delta])
    assert base.writable(texts[0]) == ""


def test_new_characters_start_less_likely_than_the_mean_of_the_others(
    make_folder: Callable[..., Path],
) -> None:
    base = load(make_folder("xls-r"), "base", "d" * 64)
    extended = base.with_characters("д")
    rows = extended.network.added_rows()
    assert rows is not None
    letters = [i for i, token in enumerate(base.network.alphabet.written) if token]
    torch.testing.assert_close(rows.weight[0], base.network.lm_head.weight[letters].mean(dim=0))
    torch.testing.assert_close(rows.bias[0], base.network.lm_head.bias[letters].mean() - 1)
    assert base.network.added_rows() is None


def test_deltas_of_other_bases_and_widths_are_rejected(make_folder: Callable[..., Path]) -> None:
    base = load(make_folder("xls-r"), "base", "d" * 64)
    adapter, _ = trained(base, AdapterConfig("head"), ["д", "д"], 1)
    delta = adapter.delta({})
    with pytest.raises(UserError, match="was made for base"):
        load(make_folder("xls-r"), "other", "e" * 64).using([delta])
    wider = load(make_folder("xls-r", seed=1, hidden_size=32), "wider", "d" * 64)
    with pytest.raises(UserError, match="does not have"):
        wider.using([delta])


@pytest.mark.parametrize(("head", "count"), [(True, 3), (False, 2)])
def test_recipes_use_supported_presets(head: bool, count: int, make_folder: Callable[..., Path]) -> None:
    base = load(make_folder("xls-r", head=head), "base", "d" * 64)
    for recordings in (5, 20, 200):
        recipes = base.recipes(recordings)
        assert len(recipes) == count
        assert all(base.adapter_targets(recipe.preset) for recipe in recipes)
