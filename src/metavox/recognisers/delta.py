"""A delta: what adaptation changed, and nothing else, in a few kilobytes.

Its typed sections are differences of weights, a low-rank adapter, output rows for characters that the base
model lacks, and a vocabulary of enrolled words. Deltas of one base model add up (speaker + room); leaving a
delta out undoes it.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from metavox.errors import UserError
from metavox.files import written_aside

FORMAT = 2
PROTOTYPES = "vocabulary.prototypes"


@dataclass(frozen=True)
class LoRA:
    """A low-rank adapter (Hu et al. 2021, section 4.1): weight `name` becomes w + alpha / rank * b a.

    `factors[name]` is a (rank, in), b (out, rank).
    """

    rank: int
    alpha: float
    factors: Mapping[str, tuple[torch.Tensor, torch.Tensor]]

    @property
    def scale(self) -> float:
        return self.alpha / self.rank

    @property
    def targets(self) -> tuple[str, ...]:
        return tuple(self.factors)


@dataclass(frozen=True)
class OutputRows:
    """Rows of the output layer for characters that the base model's alphabet lacks.

    weight (characters, dim), bias (characters,).
    """

    alphabet: str
    weight: torch.Tensor
    bias: torch.Tensor


@dataclass(frozen=True)
class Vocabulary:
    """Enrolled words, for the word embedder with digest `embedder`.

    `words` name the rows of `prototypes` (words, embedding). A clip whose best score is below `threshold` is
    none of the words. The log-likelihood per character of a word's spelling counts `ctc_weight` times in its
    score. The softmax of scores times `logit_scale` gives confidences. `pooling` holds differences of the
    embedder's pooling weights.
    """

    embedder: str
    words: tuple[str, ...]
    prototypes: torch.Tensor
    threshold: float = -1.0
    ctc_weight: float = 0.0
    logit_scale: float = 16.0
    pooling: Mapping[str, torch.Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Delta:
    """Changes to the recogniser with digest `base`. `about` records how the delta was made."""

    base: str
    weights: Mapping[str, torch.Tensor] = field(default_factory=dict)
    lora: LoRA | None = None
    output_rows: OutputRows | None = None
    vocabulary: Vocabulary | None = None
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def changes_recogniser(self) -> bool:
        """Whether it holds anything but a vocabulary."""
        return bool(self.weights or self.lora or self.output_rows)

    @property
    def words(self) -> tuple[str, ...]:
        return self.vocabulary.words if self.vocabulary else ()

    @property
    def sections(self) -> tuple[str, ...]:
        """Names of its non-empty sections."""
        present = {
            "weights": bool(self.weights),
            "lora": self.lora is not None,
            "output_rows": self.output_rows is not None,
            "vocabulary": self.vocabulary is not None,
        }
        return tuple(name for name, is_present in present.items() if is_present)

    @property
    def bytes(self) -> int:
        return sum(t.numel() * t.element_size() for t in _tensors(self).values())

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of every weight of the base model that it changes, by name."""
        out = {name: tuple(value.shape) for name, value in self.weights.items()}
        if self.lora:
            out |= {name: (b.shape[0], a.shape[1]) for name, (a, b) in self.lora.factors.items()}
        return out


def vocabulary(deltas: Sequence[Delta]) -> Vocabulary | None:
    """The vocabulary among deltas, or None. Raises UserError if more than one delta holds a vocabulary."""
    vocabularies = [delta.vocabulary for delta in deltas if delta.vocabulary]
    if len(vocabularies) > 1:
        raise UserError(f"{len(vocabularies)} deltas hold vocabularies; expected at most one")
    return vocabularies[0] if vocabularies else None


def save_delta(delta: Delta, folder: Path) -> None:
    """Write `delta.safetensors` and `delta.json` into `folder` atomically."""
    tensors = {
        name: (value.float() if name == PROTOTYPES else value.half()).contiguous()
        for name, value in _tensors(delta).items()
    }
    metadata = {
        "format": FORMAT,
        "base": delta.base,
        "sections": describe(delta),
        "about": dict(delta.about),
    }
    with written_aside(folder) as aside:
        aside.mkdir()
        save_file(tensors, aside / "delta.safetensors")
        text = json.dumps(metadata, indent=2, ensure_ascii=False)
        (aside / "delta.json").write_text(text + "\n", encoding="utf-8")


def describe(delta: Delta) -> dict[str, Any]:
    """The sections without their tensors, as `delta.json` holds them."""
    out: dict[str, Any] = {}
    if delta.weights:
        out["weights"] = sorted(delta.weights)
    if delta.lora:
        out["lora"] = {
            "rank": delta.lora.rank,
            "alpha": delta.lora.alpha,
            "targets": list(delta.lora.targets),
        }
    if delta.output_rows:
        out["output_rows"] = {"alphabet": delta.output_rows.alphabet}
    if words := delta.vocabulary:
        out["vocabulary"] = {
            "embedder": words.embedder,
            "words": list(words.words),
            "threshold": words.threshold,
            "ctc_weight": words.ctc_weight,
            "logit_scale": words.logit_scale,
            "pooling": sorted(words.pooling),
        }
    return out


def load_delta(folder: Path | str) -> Delta:
    """Read a delta's folder, in this format or the first one. Raises UserError if it is incomplete or newer."""
    folder = Path(folder)
    try:
        metadata = json.loads((folder / "delta.json").read_text(encoding="utf-8"))
        tensors = load_file(folder / "delta.safetensors")
        if "format" not in metadata:
            return _first_format(metadata, tensors)
        if metadata["format"] != FORMAT:
            raise UserError(
                f"{folder}: a delta of format {metadata['format']}, but this metavox reads formats up to {FORMAT}; update metavox"
            )
        return _read(metadata, tensors)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{folder}: not a complete delta ({error}); expected delta.safetensors and delta.json, as "
            "`metavox adapt --out` writes them"
        ) from error


def _read(metadata: dict[str, Any], tensors: dict[str, torch.Tensor]) -> Delta:
    sections = metadata["sections"]
    values = {name: value.float() for name, value in tensors.items()}
    lora, rows, words = None, None, None
    if section := sections.get("lora"):
        factors = {n: (values[f"lora.{n}.a"], values[f"lora.{n}.b"]) for n in section["targets"]}
        lora = LoRA(int(section["rank"]), float(section["alpha"]), factors)
    if section := sections.get("output_rows"):
        rows = OutputRows(section["alphabet"], values["output_rows.weight"], values["output_rows.bias"])
    if section := sections.get("vocabulary"):
        words = Vocabulary(
            section["embedder"],
            tuple(section["words"]),
            values[PROTOTYPES],
            float(section["threshold"]),
            float(section["ctc_weight"]),
            float(section["logit_scale"]),
            {name: values[f"vocabulary.pooling.{name}"] for name in section["pooling"]},
        )
    weights = {name: values[f"weights.{name}"] for name in sections.get("weights", ())}
    return _consistent(Delta(metadata["base"], weights, lora, rows, words, metadata["about"]))


def _first_format(metadata: dict[str, Any], tensors: dict[str, torch.Tensor]) -> Delta:
    """Read the first format: all keys beside each other, LoRA factors B and A as `left` and `right`."""
    base, names = metadata.pop("base"), tuple(metadata.pop("words"))
    threshold, ctc_weight = float(metadata.pop("threshold")), float(metadata.pop("spelling", 0.0))
    logit_scale, alphabet = float(metadata.pop("sharpness", 16.0)), str(metadata.pop("characters", ""))
    prototypes = tensors.pop("enrolled.prototypes", None)
    values = {name: value.float() for name, value in tensors.items()}
    rows = lora = words = None
    if alphabet:
        rows = OutputRows(alphabet, values.pop("characters.weight"), values.pop("characters.bias"))
    products = [name.removesuffix(".left") for name in values if name.endswith(".left")]
    if products:
        factors = {n: (values.pop(f"{n}.right"), values.pop(f"{n}.left")) for n in products}
        rank = next(iter(factors.values()))[0].shape[0]
        lora = LoRA(rank, float(rank), factors)
    if prototypes is not None or names:
        pooling = {name: values.pop(name) for name in list(values) if name.startswith("word.")}
        if prototypes is None:
            raise KeyError("enrolled.prototypes")
        words = Vocabulary(base, names, prototypes, threshold, ctc_weight, logit_scale, pooling)
    return _consistent(Delta(base, values, lora, rows, words, metadata))


def _consistent(delta: Delta) -> Delta:
    words, rows = delta.vocabulary, delta.output_rows
    if words and len(words.words) != len(words.prototypes):
        raise ValueError(f"{len(words.words)} words but {len(words.prototypes)} prototypes")
    if rows and not len(rows.weight) == len(rows.bias) == len(rows.alphabet):
        raise ValueError(f"{len(rows.alphabet)} characters but {len(rows.weight)} of their rows")
    return delta


def _tensors(delta: Delta) -> dict[str, torch.Tensor]:
    out = {f"weights.{name}": value for name, value in delta.weights.items()}
    if delta.lora:
        for name, (a, b) in delta.lora.factors.items():
            out |= {f"lora.{name}.a": a, f"lora.{name}.b": b}
    if delta.output_rows:
        out |= {"output_rows.weight": delta.output_rows.weight, "output_rows.bias": delta.output_rows.bias}
    if delta.vocabulary:
        out[PROTOTYPES] = delta.vocabulary.prototypes
        out |= {f"vocabulary.pooling.{name}": v for name, v in delta.vocabulary.pooling.items()}
    return out
