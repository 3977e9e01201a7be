"""A delta: what adaptation changed, in kilobytes, and nothing else.

It holds differences to named weights of one base model, and the words that were enrolled. Differences of
several deltas add up (voice + room); leaving a delta out undoes it.
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
from metavox.model.recogniser import Recogniser

WORDS = "enrolled.prototypes"


@dataclass(frozen=True)
class Delta:
    """`differences` by weight name; `words` name the rows of `prototypes` (words, embedding).

    `threshold` is the cosine under which a clip is none of the words. `about` says how it was made.
    """

    base: str
    differences: dict[str, torch.Tensor] = field(default_factory=dict)
    words: tuple[str, ...] = ()
    prototypes: torch.Tensor | None = None
    threshold: float = -1.0
    about: dict[str, object] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        tensors = [*self.differences.values(), *([self.prototypes] if self.prototypes is not None else [])]
        return sum(t.numel() * t.element_size() for t in tensors)


def save_delta(delta: Delta, folder: Path) -> None:
    """Write `delta.safetensors` and `delta.json` into `folder`, aside and then renamed."""
    tensors = {name: value.half().contiguous() for name, value in delta.differences.items()}
    if delta.prototypes is not None:
        tensors[WORDS] = delta.prototypes.float().contiguous()
    about = {"base": delta.base, "words": list(delta.words), "threshold": delta.threshold, **delta.about}
    with written_aside(folder) as aside:
        aside.mkdir()
        save_file(tensors, aside / "delta.safetensors")
        (aside / "delta.json").write_text(
            json.dumps(about, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
        )


def load_delta(folder: Path | str) -> Delta:
    """Read a delta's folder. Raises UserError when it is not whole."""
    folder = Path(folder)
    try:
        about = json.loads((folder / "delta.json").read_text(encoding="utf-8"))
        tensors = load_file(folder / "delta.safetensors")
        base, words = about.pop("base"), tuple(about.pop("words"))
        threshold = float(about.pop("threshold"))
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{folder}: not a whole delta ({error}); expected delta.safetensors and delta.json, as "
            "`metavox adapt --out` writes them"
        ) from error
    prototypes = tensors.pop(WORDS, None)
    if len(words) != (0 if prototypes is None else len(prototypes)):
        raise UserError(f"{folder}: names {len(words)} words but holds another number of prototypes")
    return Delta(base, {k: v.float() for k, v in tensors.items()}, words, prototypes, threshold, about)


def apply_deltas(model: Recogniser, digest: str, deltas: Sequence[Delta]) -> None:
    """Add the differences of `deltas` to the weights of `model`, whose digest is `digest`, in place.

    Raises UserError, and changes nothing, when a delta was made for another base.
    """
    weights = dict(model.named_parameters())
    for delta in deltas:
        if delta.base != digest:
            raise UserError(
                f"the delta was made for base {delta.base[:12]}, this model is {digest[:12]}; "
                "load the model it was made for, or adapt again"
            )
        for name, difference in delta.differences.items():
            if name not in weights or weights[name].shape != difference.shape:
                raise UserError(
                    f"the delta changes {name} {tuple(difference.shape)}, which this model does not have"
                )
    with torch.no_grad():
        for delta in deltas:
            for name, difference in delta.differences.items():
                weights[name].add_(difference)
