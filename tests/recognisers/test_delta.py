"""Deltas on disk: sections, size, the first format, and one-line errors for incomplete deltas."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from metavox.errors import UserError
from metavox.recognisers.delta import (
    Delta,
    LoRA,
    OutputRows,
    Vocabulary,
    describe,
    load_delta,
    save_delta,
    vocabulary,
)

BASE = "b" * 64


def eighths(*shape: int, seed: int = 0) -> torch.Tensor:
    """Values that half precision holds exactly, so that files can be compared bit by bit."""
    return torch.randint(-64, 64, shape, generator=torch.Generator().manual_seed(seed)) / 8


def weights(seed: int = 0, name: str = "ctc.weight") -> Delta:
    return Delta(BASE, {name: eighths(30, 16, seed=seed)})


def words(*names: str, **fields: Any) -> Vocabulary:
    random = torch.Generator().manual_seed(1)
    vectors = torch.nn.functional.normalize(torch.randn(len(names), 24, generator=random), dim=1)
    return Vocabulary("e" * 64, names, vectors, **fields)


def complete_delta() -> Delta:
    """A delta with every section, in which every number differs from its default."""
    return Delta(
        BASE,
        {"ctc.weight": eighths(30, 16), "ctc.bias": eighths(30)},
        LoRA(2, 8.0, {"encoder.project.weight": (eighths(2, 16), eighths(16, 2))}),
        OutputRows("жя", eighths(2, 16), eighths(2)),
        words(
            "да", "no", threshold=0.375, ctc_weight=0.25, logit_scale=9.5, pooling={"word.a": eighths(3, 2)}
        ),
        {"kind": "words", "shots": 4, "expected": {"accuracy": {"mean": 0.5}}},
    )


def equal(left: Any, right: Any) -> bool:
    if isinstance(left, torch.Tensor):
        return left.dtype == right.dtype and torch.equal(left, right)
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(equal(value, right[key]) for key, value in left.items())
    if hasattr(left, "__dataclass_fields__"):
        return all(equal(getattr(left, f), getattr(right, f)) for f in left.__dataclass_fields__)
    if isinstance(left, tuple):
        return len(left) == len(right) and all(map(equal, left, right))
    return bool(left == right)


def test_every_section_is_saved_and_loaded(tmp_path: Path) -> None:
    save_delta(complete_delta(), tmp_path / "delta")
    loaded = load_delta(tmp_path / "delta")
    assert equal(loaded, complete_delta())
    assert not equal(loaded, weights())
    assert loaded.sections == ("weights", "lora", "output_rows", "vocabulary")
    assert sorted(p.name for p in (tmp_path / "delta").iterdir()) == ["delta.json", "delta.safetensors"]


def test_delta_json_describes_the_sections(tmp_path: Path) -> None:
    save_delta(complete_delta(), tmp_path / "delta")
    metadata = json.loads((tmp_path / "delta" / "delta.json").read_text())
    assert metadata["format"] == 2
    assert metadata["base"] == BASE
    assert metadata["about"] == complete_delta().about
    assert metadata["sections"] == describe(complete_delta())
    assert metadata["sections"]["lora"] == {"rank": 2, "alpha": 8.0, "targets": ["encoder.project.weight"]}
    assert metadata["sections"]["weights"] == ["ctc.bias", "ctc.weight"]
    assert metadata["sections"]["output_rows"] == {"alphabet": "жя"}
    assert metadata["sections"]["vocabulary"] == {
        "embedder": "e" * 64,
        "words": ["да", "no"],
        "threshold": 0.375,
        "ctc_weight": 0.25,
        "logit_scale": 9.5,
        "pooling": ["word.a"],
    }


@pytest.mark.parametrize(
    ("delta", "sections", "changes"),
    [
        (Delta(BASE), (), False),
        (weights(), ("weights",), True),
        (Delta(BASE, lora=complete_delta().lora), ("lora",), True),
        (Delta(BASE, output_rows=complete_delta().output_rows), ("output_rows",), True),
        (Delta(BASE, vocabulary=words("on")), ("vocabulary",), False),
    ],
)
def test_a_delta_has_only_the_sections_that_were_set(
    tmp_path: Path, delta: Delta, sections: tuple[str, ...], changes: bool
) -> None:
    save_delta(delta, tmp_path / "delta")
    for stored in (delta, load_delta(tmp_path / "delta")):
        assert stored.sections == sections
        assert stored.changes_recogniser is changes
        assert equal(stored, delta)
        assert stored.words == (("on",) if sections == ("vocabulary",) else ())


def test_the_size_of_a_delta(tmp_path: Path) -> None:
    save_delta(weights(), tmp_path / "delta")
    size = sum(p.stat().st_size for p in (tmp_path / "delta").iterdir())
    assert weights().bytes == 4 * 480
    assert 2 * 480 < size < 2 * 480 + 500
    lora = Delta(BASE, lora=LoRA(2, 2.0, {"x.weight": (eighths(2, 100), eighths(50, 2))}))
    assert lora.bytes == 4 * 300
    assert lora.shapes() == {"x.weight": (50, 100)}, "the shape of the weight, not of its factors"


def test_prototypes_keep_single_precision(tmp_path: Path) -> None:
    delta = Delta(BASE, vocabulary=words("on", "off"))
    save_delta(delta, tmp_path / "delta")
    assert delta.vocabulary is not None
    assert not torch.equal(delta.vocabulary.prototypes.half().float(), delta.vocabulary.prototypes)
    assert equal(load_delta(tmp_path / "delta"), delta)


def test_at_most_one_delta_may_hold_a_vocabulary() -> None:
    on, off = (Delta(BASE, vocabulary=words(word)) for word in ("on", "off"))
    assert vocabulary([]) is None
    assert vocabulary([weights(), Delta(BASE)]) is None
    assert vocabulary([weights(), on]) is on.vocabulary
    with pytest.raises(UserError, match="2 deltas hold vocabularies"):
        vocabulary([on, weights(), off])


def write_first_format(folder: Path, **changed: Any) -> None:
    """Write the first format: LoRA factors as left (rows, rank) and right (rank, columns)."""
    folder.mkdir()
    tensors = {
        "ctc.bias": eighths(30).half(),
        "word.project.bias": eighths(24).half(),
        "encoder.project.weight.left": eighths(16, 2, seed=1).half(),
        "encoder.project.weight.right": eighths(2, 12, seed=2).half(),
        "characters.weight": eighths(2, 16, seed=3).half(),
        "characters.bias": eighths(2, seed=4).half(),
        "enrolled.prototypes": words("да", "no").prototypes,
    }
    metadata = {
        "base": BASE,
        "words": ["да", "no"],
        "threshold": 0.375,
        "spelling": 0.25,
        "sharpness": 9.5,
        "characters": "жя",
        "kind": "words",
        "shots": 4,
    }
    for name, value in changed.items():
        tensors.pop(name, None)
        metadata.pop(name, None)
        if value is not None:
            (tensors if isinstance(value, torch.Tensor) else metadata)[name] = value
    save_file(tensors, folder / "delta.safetensors")
    (folder / "delta.json").write_text(json.dumps(metadata, ensure_ascii=False))


def test_the_first_format_is_read(tmp_path: Path) -> None:
    write_first_format(tmp_path / "old")
    loaded = load_delta(tmp_path / "old")
    assert equal(loaded.weights, {"ctc.bias": eighths(30)})
    assert loaded.lora is not None
    assert (loaded.lora.scale, loaded.lora.rank) == (1.0, 2)
    a, b = loaded.lora.factors["encoder.project.weight"]
    assert torch.equal(b @ a, eighths(16, 2, seed=1) @ eighths(2, 12, seed=2))
    assert equal(loaded.output_rows, OutputRows("жя", eighths(2, 16, seed=3), eighths(2, seed=4)))
    pooling, vectors = {"word.project.bias": eighths(24)}, words("да", "no").prototypes
    assert equal(loaded.vocabulary, Vocabulary(BASE, ("да", "no"), vectors, 0.375, 0.25, 9.5, pooling))
    assert loaded.about == {"kind": "words", "shots": 4}
    save_delta(loaded, tmp_path / "new")
    assert equal(load_delta(tmp_path / "new"), loaded)


def test_an_empty_delta_of_the_first_format_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "old"
    folder.mkdir()
    save_file({}, folder / "delta.safetensors")
    (folder / "delta.json").write_text(json.dumps({"base": BASE, "words": [], "threshold": -1.0}))
    assert equal(load_delta(folder), Delta(BASE))


@pytest.mark.parametrize(
    "changed",
    [
        {"words": ["да"]},
        {"words": ["да", "no", "on"]},
        {"words": None},
        {"characters": "ж"},
        {"threshold": None},
        {"base": None},
        {"enrolled.prototypes": None},
        {"characters.bias": None},
        {"encoder.project.weight.right": None},
    ],
)
def test_an_inconsistent_delta_of_the_first_format_is_a_one_line_error(
    tmp_path: Path, changed: dict[str, Any]
) -> None:
    write_first_format(tmp_path / "old", **changed)
    with pytest.raises(UserError, match="not a complete delta") as caught:
        load_delta(tmp_path / "old")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("delta.json", None),
        ("delta.safetensors", None),
        ("delta.safetensors", "x"),
        ("delta.json", "{"),
        ("delta.json", "[]"),
        ("delta.json", "null"),
        ("delta.json", "{}"),
        ("delta.json", '{"format": 2}'),
        ("delta.json", json.dumps({"format": 2, "base": BASE, "sections": {}})),
        (
            "delta.json",
            json.dumps({"format": 2, "base": BASE, "about": {}, "sections": {"weights": ["no.such"]}}),
        ),
        (
            "delta.json",
            json.dumps({"format": 2, "base": BASE, "about": {}, "sections": {"lora": {"rank": 2}}}),
        ),
        (
            "delta.json",
            json.dumps(
                {"format": 2, "base": BASE, "about": {}, "sections": {"output_rows": {"alphabet": "ж"}}}
            ),
        ),
    ],
)
def test_a_broken_folder_is_a_one_line_error_that_names_it(
    tmp_path: Path, name: str, content: str | None
) -> None:
    folder = tmp_path / "delta"
    save_delta(complete_delta(), folder)
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_text(content)
    with pytest.raises(UserError, match="not a complete delta") as caught:
        load_delta(folder)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_truncated_file_and_a_missing_folder_are_one_line_errors(tmp_path: Path) -> None:
    save_delta(complete_delta(), tmp_path / "delta")
    file = tmp_path / "delta" / "delta.safetensors"
    file.write_bytes(file.read_bytes()[:-9])
    for folder in (tmp_path / "delta", tmp_path / "nowhere"):
        with pytest.raises(UserError, match="not a complete delta"):
            load_delta(folder)


def test_a_newer_format_asks_for_an_update(tmp_path: Path) -> None:
    save_delta(complete_delta(), tmp_path / "delta")
    file = tmp_path / "delta" / "delta.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"format": 3}))
    with pytest.raises(
        UserError, match="a delta of format 3, but this metavox reads formats up to 2; update metavox"
    ):
        load_delta(tmp_path / "delta")
