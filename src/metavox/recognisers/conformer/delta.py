"""A delta: what adaptation changed, in kilobytes, and nothing else.

It holds differences to named weights of one base model, characters that the base lacks, and the words that were
enrolled. Differences of several deltas add up (voice + room); leaving a delta out undoes it.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from metavox.errors import UserError
from metavox.files import written_aside
from metavox.recognisers.conformer.network import Network

WORDS = "enrolled.prototypes"
CHARACTERS = "characters.weight", "characters.bias"
LEFT, RIGHT = ".left", ".right"  # after the name of a weight that is moved by a product
Factors = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class Characters:
    """Rows of the character head for what the base's alphabet lacks: weight (characters, dim), bias (characters,)."""

    alphabet: str
    weight: torch.Tensor
    bias: torch.Tensor


@dataclass(frozen=True)
class Delta:
    """`differences` by weight name; `factors` are differences of low rank, (rows, rank) and (rank, columns).

    `words` name the rows of `prototypes` (words, embedding). A clip is none of them where its best score
    (`model.enrolled`) is under `threshold`; the letters that are heard count `spelling` times in it; scores
    times `sharpness` are logits whose softmax is a confidence. `about` says how the delta was made.
    """

    base: str
    differences: dict[str, torch.Tensor] = field(default_factory=dict)
    words: tuple[str, ...] = ()
    prototypes: torch.Tensor | None = None
    threshold: float = -1.0
    about: dict[str, object] = field(default_factory=dict)
    factors: dict[str, Factors] = field(default_factory=dict)
    characters: Characters | None = None
    spelling: float = 0.0
    sharpness: float = 16.0

    @property
    def bytes(self) -> int:
        return sum(t.numel() * t.element_size() for t in _tensors(self).values())

    def difference(self, name: str) -> torch.Tensor:
        """What is added to a weight; a product of factors is multiplied out."""
        if name in self.differences:
            return self.differences[name]
        left, right = self.factors[name]
        return left @ right

    @property
    def moves(self) -> tuple[str, ...]:
        """Names of the weights that it changes."""
        return (*self.differences, *self.factors)


def save_delta(delta: Delta, folder: Path) -> None:
    """Write `delta.safetensors` and `delta.json` into `folder`, aside and then renamed."""
    tensors = {
        name: (value if name == WORDS else value.half()).contiguous()
        for name, value in _tensors(delta).items()
    }
    about: dict[str, object] = {"base": delta.base, "words": list(delta.words), "threshold": delta.threshold}
    if delta.words:
        about |= {"spelling": delta.spelling, "sharpness": delta.sharpness}
    if delta.characters:
        about["characters"] = delta.characters.alphabet
    with written_aside(folder) as aside:
        aside.mkdir()
        save_file(tensors, aside / "delta.safetensors")
        (aside / "delta.json").write_text(
            json.dumps({**about, **delta.about}, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
        )


def load_delta(folder: Path | str) -> Delta:
    """Read a delta's folder. Raises UserError when it is not whole."""
    folder = Path(folder)
    try:
        about = json.loads((folder / "delta.json").read_text(encoding="utf-8"))
        tensors = load_file(folder / "delta.safetensors")
        base, words = about.pop("base"), tuple(about.pop("words"))
        threshold, spelling = float(about.pop("threshold")), float(about.pop("spelling", 0.0))
        sharpness, alphabet = float(about.pop("sharpness", 16.0)), str(about.pop("characters", ""))
        prototypes = tensors.pop(WORDS, None)
        values = {name: value.float() for name, value in tensors.items()}
        rows = [values.pop(name) for name in CHARACTERS] if alphabet else []
        sides = [name.removesuffix(LEFT) for name in values if name.endswith(LEFT)]
        factors = {name: (values.pop(name + LEFT), values.pop(name + RIGHT)) for name in sides}
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{folder}: not a whole delta ({error}); expected delta.safetensors and delta.json, as "
            "`metavox adapt --out` writes them"
        ) from error
    if len(words) != (0 if prototypes is None else len(prototypes)):
        raise UserError(f"{folder}: names {len(words)} words but holds another number of prototypes")
    if rows and not len(rows[0]) == len(rows[1]) == len(alphabet):
        raise UserError(f"{folder}: names {len(alphabet)} characters but holds another number of their rows")
    return Delta(
        base, values, words, prototypes, threshold, about, factors,
        Characters(alphabet, *rows) if rows else None, spelling, sharpness,
    )  # fmt: skip


def apply_deltas(model: Network, digest: str, deltas: Sequence[Delta]) -> None:
    """Add the differences and characters of `deltas` to `model`, whose digest is `digest`, in place.

    Raises UserError, and changes nothing, when a delta was made for another base, or two of them bring words
    or the same character.
    """
    _check(model, digest, deltas)
    weights = dict(model.named_parameters())
    with torch.no_grad():
        for delta in deltas:
            for name in delta.moves:
                weights[name].add_(delta.difference(name))
    for delta in deltas:
        if delta.characters:
            new = delta.characters
            model.add_characters(new.alphabet, new.weight, new.bias)


def vocabulary(deltas: Sequence[Delta]) -> Delta | None:
    """The delta that holds words, if any. Raises UserError when several do."""
    holding = [delta for delta in deltas if delta.words]
    if len(holding) > 1:
        raise UserError(f"{len(holding)} deltas hold words; expected one of them at most")
    return holding[0] if holding else None


def _check(model: Network, digest: str, deltas: Sequence[Delta]) -> None:
    weights = dict(model.named_parameters())
    known = set(model.tokenizer.alphabet)
    vocabulary(deltas)
    for delta in deltas:
        if delta.base != digest:
            raise UserError(
                f"the delta was made for base {delta.base[:12]}, this model is {digest[:12]}; "
                "load the model it was made for, or adapt again"
            )
        for name in delta.moves:
            shape = delta.difference(name).shape
            if name not in weights or weights[name].shape != shape:
                raise UserError(f"the delta changes {name} {tuple(shape)}, which this model does not have")
        new = delta.characters
        if not new:
            continue
        if new.weight.shape[1] != model.encoder.dim:
            raise UserError(
                f"the delta has characters of {new.weight.shape[1]} dimensions, which this model does not have"
            )
        if both := known & set(new.alphabet):
            raise UserError(
                f"two deltas bring the character {min(both)!r}, which can have one form only; leave one out, or "
                "adapt once on the recordings of both"
            )
        known |= set(new.alphabet)


def _tensors(delta: Delta) -> dict[str, torch.Tensor]:
    out = dict(delta.differences)
    for name, (left, right) in delta.factors.items():
        out |= {name + LEFT: left, name + RIGHT: right}
    if delta.characters:
        out |= dict(zip(CHARACTERS, (delta.characters.weight, delta.characters.bias), strict=True))
    if delta.prototypes is not None:
        out[WORDS] = delta.prototypes.float()
    return out
