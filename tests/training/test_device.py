"""Compute: bfloat16 is close to float32 and keeps weights in float32, and float32 changes nothing."""

from collections.abc import Callable

import pytest
import torch

from metavox.recognisers.conformer.network import Network
from metavox.training import device
from metavox.training.device import CPU, Compute, compute


def test_a_gpu_is_used_if_there_is_one() -> None:
    assert compute().device.type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="current GPUs all support bfloat16")
@pytest.mark.parametrize(("supported", "expected"), [(True, "bfloat16"), (False, "float32")])
def test_a_cpu_without_bfloat16_instructions_computes_in_float32(
    supported: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "has_bfloat16_instructions", lambda: supported)
    assert compute("bfloat16").precision == expected
    assert compute("float32").precision == "float32"


def test_float32_changes_nothing(make_model: Callable[..., Network]) -> None:
    mels, lengths = torch.randn(2, 40, 16) - 7, torch.tensor([40, 31])
    expected = make_model().embed(mels, lengths)
    plain = Compute(CPU)
    placed = plain.place(make_model())
    with plain.autocast():
        torch.testing.assert_close(placed.embed(*plain.move(mels, lengths)), expected)


def test_bfloat16_is_close_and_its_gradients_are_float32(make_model: Callable[..., Network]) -> None:
    mels, lengths = torch.randn(2, 40, 16) - 7, torch.tensor([40, 31])
    bfloat16 = Compute(CPU, "bfloat16")
    reference, placed = make_model(), bfloat16.place(make_model())
    with bfloat16.autocast():
        logits = placed.characters(mels, lengths)[0]
    expected = reference.characters(mels, lengths)[0]
    assert float((logits - expected).detach().abs().max()) == pytest.approx(0, abs=0.1)
    assert not torch.equal(logits, expected)
    for model, out in ((placed, logits), (reference, expected)):
        out[:, :, 3].sum().backward()
        assert {p.dtype for p in model.parameters()} == {torch.float32}
    gradients = [
        (p.grad, q.grad)
        for p, q in zip(placed.parameters(), reference.parameters(), strict=True)
        if p.grad is not None
    ]
    similar = torch.cosine_similarity(
        torch.cat([a.flatten() for a, _ in gradients]),
        torch.cat([b.flatten() for _, b in gradients]),
        dim=0,  # type: ignore[union-attr]
    )
    assert float(similar) > 0.99
    stem = placed.encoder.stem.blocks[1].convolve.weight
    assert stem.is_contiguous(memory_format=torch.channels_last)
