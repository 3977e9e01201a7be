"""Deltas: small, undone by leaving them out, refused by any other base."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from metavox.errors import UserError
from metavox.recognisers.conformer.delta import Characters, Delta, apply_deltas, load_delta, save_delta
from metavox.recognisers.conformer.network import Network

BASE = "b" * 64


def some(seed: int, name: str = "ctc.weight", shape: tuple[int, ...] = (30, 16)) -> Delta:
    random = torch.Generator().manual_seed(seed)
    # What half precision holds exactly, so that sums can be compared bit by bit.
    return Delta(BASE, {name: torch.randint(-64, 64, shape, generator=random) / 64})


def model_of(make_model: Callable[..., Network]) -> Network:
    return make_model(alphabet=" 'abcdefghijklmnopqrstuvwxyzü")


def state(model: Network) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def test_written_and_read_it_is_the_same(tmp_path: Path) -> None:
    vectors = torch.nn.functional.normalize(torch.randn(2, 24), dim=1)
    delta = Delta(BASE, some(0).differences, ("да", "no"), vectors, 0.375, {"kind": "words", "shots": 4})
    save_delta(delta, tmp_path / "delta")
    loaded = load_delta(tmp_path / "delta")
    assert (loaded.base, loaded.words, loaded.threshold, loaded.about) == (
        BASE, ("да", "no"), 0.375, {"kind": "words", "shots": 4},
    )  # fmt: skip
    assert loaded.differences.keys() == delta.differences.keys()
    assert torch.equal(loaded.differences["ctc.weight"], delta.differences["ctc.weight"])
    assert loaded.prototypes is not None
    assert torch.equal(loaded.prototypes, vectors)
    assert sorted(p.name for p in (tmp_path / "delta").iterdir()) == ["delta.json", "delta.safetensors"]


def test_an_empty_delta_is_one_too(tmp_path: Path) -> None:
    save_delta(Delta(BASE), tmp_path / "delta")
    loaded = load_delta(tmp_path / "delta")
    assert (loaded.differences, loaded.words, loaded.prototypes, loaded.bytes) == ({}, (), None, 0)


def test_it_is_kilobytes(tmp_path: Path) -> None:
    save_delta(some(0), tmp_path / "delta")
    size = sum(p.stat().st_size for p in (tmp_path / "delta").iterdir())
    assert some(0).bytes == 4 * 480
    assert 2 * 480 < size < 2 * 480 + 400


def test_deltas_add_up_and_leaving_one_out_undoes_it(make_model: Callable[..., Network]) -> None:
    voice, room = some(1), Delta(BASE, {**some(2).differences, "encoder.project.bias": torch.ones(16)})
    base = state(model_of(make_model))
    both, swapped, one = (model_of(make_model) for _ in range(3))
    apply_deltas(both, BASE, [voice, room])
    apply_deltas(swapped, BASE, [room, voice])
    apply_deltas(one, BASE, [voice])
    expected = base["ctc.weight"] + voice.differences["ctc.weight"]
    assert torch.equal(one.state_dict()["ctc.weight"], expected)
    torch.testing.assert_close(both.state_dict()["ctc.weight"], expected + room.differences["ctc.weight"])
    for name, value in both.state_dict().items():
        torch.testing.assert_close(value, swapped.state_dict()[name])
    untouched = base.keys() - {"ctc.weight"}
    assert all(torch.equal(one.state_dict()[name], base[name]) for name in untouched)
    assert all(p.requires_grad for p in both.parameters())


@pytest.mark.parametrize(
    "bad",
    [
        Delta("c" * 64, some(1).differences),
        some(1, "no.such.weight"),
        some(1, "ctc.weight", (2, 2)),
        some(1, "word.centre.running_mean", (24,)),
    ],
    ids=["another base", "unknown weight", "another shape", "a running statistic"],
)
def test_what_does_not_fit_is_refused_and_nothing_changes(
    make_model: Callable[..., Network], bad: Delta
) -> None:
    model = model_of(make_model)
    before = state(model)
    with pytest.raises(UserError, match=r"made for base|does not have"):
        apply_deltas(model, BASE, [some(0), bad])
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("delta.json", None),
        ("delta.safetensors", None),
        ("delta.safetensors", "x"),
        ("delta.json", "{"),
        ("delta.json", "[]"),
        ("delta.json", "null"),
        ("delta.json", json.dumps({"base": BASE, "words": None, "threshold": 0})),
        ("delta.json", json.dumps({"base": BASE, "words": [], "threshold": None})),
        ("delta.json", json.dumps({"base": BASE, "words": ["a"], "threshold": 0})),
        ("delta.json", json.dumps({"words": [], "threshold": 0})),
    ],
)
def test_a_broken_folder_is_one_line_that_names_it(tmp_path: Path, name: str, content: str | None) -> None:
    folder = tmp_path / "delta"
    save_delta(some(0), folder)
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_text(content)
    with pytest.raises(UserError) as caught:
        load_delta(folder)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def lettered(characters: str, seed: int = 3) -> Delta:
    random = torch.Generator().manual_seed(seed)
    rows = torch.randint(-64, 64, (len(characters), 16), generator=random) / 64
    return Delta(BASE, characters=Characters(characters, rows, torch.ones(len(characters))))


def test_factors_are_a_difference_and_are_kept_as_factors(
    make_model: Callable[..., Network], tmp_path: Path
) -> None:
    left, right = torch.randint(-8, 8, (30, 2)) / 8, torch.randint(-8, 8, (2, 16)) / 8
    save_delta(Delta(BASE, factors={"ctc.weight": (left, right)}), tmp_path / "delta")
    loaded = load_delta(tmp_path / "delta")
    assert loaded.bytes == 4 * (60 + 32)
    model = model_of(make_model)
    before = model.ctc.weight.detach().clone()
    apply_deltas(model, BASE, [loaded, some(1)])
    torch.testing.assert_close(
        model.ctc.weight.detach(), before + left @ right + some(1).differences["ctc.weight"]
    )


def test_characters_come_after_the_models_and_compose_with_a_voice(
    make_model: Callable[..., Network], tmp_path: Path
) -> None:
    save_delta(lettered("жя"), tmp_path / "delta")
    model, plain = model_of(make_model), model_of(make_model)
    apply_deltas(model, BASE, [load_delta(tmp_path / "delta"), some(1), lettered("ω")])
    apply_deltas(plain, BASE, [some(1)])
    assert model.tokenizer.alphabet == plain.tokenizer.alphabet + "жяω"
    assert model.tokenizer.encode("ab") == plain.tokenizer.encode("ab")
    mels, lengths = torch.randn(1, 40, 16), torch.tensor([40])
    wide, narrow = (m.characters(mels, lengths)[0].detach() for m in (model, plain))
    assert wide.shape[2] == narrow.shape[2] + 3
    torch.testing.assert_close(wide[..., : narrow.shape[2]].log_softmax(2), narrow)


def test_conflicts_are_refused_and_nothing_changes(make_model: Callable[..., Network]) -> None:
    words = [Delta(BASE, words=(word,), prototypes=torch.ones(1, 24)) for word in ("on", "off")]
    for deltas, line in (
        ([lettered("жя"), lettered("я")], "bring the character 'я'"),
        ([lettered("a")], "bring the character 'a'"),
        (words, "2 deltas hold words"),
    ):
        model = model_of(make_model)
        before = state(model)
        with pytest.raises(UserError, match=line):
            apply_deltas(model, BASE, [some(0), *deltas])
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
        assert model.more_characters is None
