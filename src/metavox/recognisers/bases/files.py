"""A model folder's files, looked at without loading anything: is it whole, is it safe, how large is it."""

import json
import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metavox.errors import UserError

MODEL, INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
VOCABULARIES = {"whisper": "tokenizer.json", "ctc": "vocab.json"}
SHORT_CONTEXT = "short_context"  # a delta beside the weights, which is part of the base
LONGEST_HEADER = 100_000_000  # bytes; safetensors itself refuses more


@dataclass(frozen=True)
class Tensors:
    """What the head of a safetensors file says: name -> (type, shape, first byte, end), from the start of the file."""

    where: dict[str, tuple[str, tuple[int, ...], int, int]]

    @property
    def weights(self) -> int:
        return sum(math.prod(shape) for _, shape, _, _ in self.where.values())


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object. Raises UserError where there is none."""
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: cannot be read as JSON ({error}); copy or download it again") from error
    if not isinstance(value, dict):
        raise UserError(
            f"{file}: holds {type(value).__name__}, expected a JSON object; copy or download it again"
        )
    return value


def weight_files(folder: Path) -> tuple[Path, ...]:
    """The safetensors files of a model, one or the parts that its index lists.

    Raises UserError when a part is missing, or when the folder has pickled weights alone.
    """
    if (folder / MODEL).is_file():
        return (folder / MODEL,)
    if (folder / INDEX).is_file():
        parts = sorted({str(name) for name in read_json(folder / INDEX).get("weight_map", {}).values()})
        missing = [name for name in parts if Path(name).name != name or not (folder / name).is_file()]
        if missing or not parts:
            raise UserError(
                f"{folder}: {', '.join(missing[:3]) or 'no weights'} missing, which {INDEX} lists; copy or download it again"
            )
        return tuple(folder / name for name in parts)
    pickled = sorted(file.name for file in folder.iterdir() if file.suffix in PICKLES)
    if pickled:
        raise UserError(
            f"{folder}: holds {pickled[0]} and no {MODEL}; a pickle can run any code and is never loaded: "
            "save it as safetensors where you trust it (save_pretrained), or choose a revision that has them"
        )
    raise UserError(
        f"{folder}: no {MODEL}; expected a model in Hugging Face's form, or one that metavox made"
    )


def read_head(file: Path) -> Tensors:
    """Names, types, shapes and places of a safetensors file. Raises UserError when it was cut short, or is none."""
    size = file.stat().st_size
    try:
        with file.open("rb") as data:
            (length,) = struct.unpack("<Q", data.read(8))
            if length > min(LONGEST_HEADER, size):
                raise ValueError(f"a head of {length} bytes in a file of {size}")
            head = json.loads(data.read(length))
        start = 8 + length
        where = {
            name: (
                str(about["dtype"]),
                tuple(about["shape"]),
                start + about["data_offsets"][0],
                start + about["data_offsets"][1],
            )
            for name, about in head.items()
            if name != "__metadata__"
        }
    except (struct.error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{file}: no whole safetensors file ({error}); copy or download it again") from error
    end = max((end for *_, end in where.values()), default=start)
    if end != size:
        raise UserError(
            f"{file}: {size} bytes, expected {end} by its own head: it was cut short; copy or download it again"
        )
    return Tensors(where)


def count_weights(folder: Path) -> int:
    """How many numbers the model has."""
    return sum(read_head(file).weights for file in weight_files(folder))


def vocabulary_file(folder: Path, kind: str) -> Path:
    """Where a foundation model of this kind keeps what it writes."""
    return folder / VOCABULARIES[kind]


def refuse_remote_code(folder: Path) -> None:
    """Raises UserError for a model that would have code of its own run."""
    for file in sorted(folder.glob("*config.json")):
        if "auto_map" in read_json(file):
            raise UserError(
                f"{file}: auto_map asks to run the model's own code, which metavox never does; "
                "choose a base of an architecture that transformers has"
            )


def check(folder: Path, kind: str) -> None:
    """Raises UserError unless the folder has all that a recogniser of this kind is loaded from, whole and harmless."""
    refuse_remote_code(folder)
    for file in weight_files(folder):
        read_head(file)
    for name in ("delta.json", "delta.safetensors"):
        if (folder / SHORT_CONTEXT).is_dir() and not (folder / SHORT_CONTEXT / name).is_file():
            raise UserError(
                f"{folder / SHORT_CONTEXT}: no {name}, expected a delta's two files; copy it again, or remove it"
            )
    if kind in VOCABULARIES and not vocabulary_file(folder, kind).is_file():
        needs_none = kind == "ctc" and not any("CTC" in name for name in architectures(folder))
        if not needs_none:
            raise UserError(
                f"{folder}: no {VOCABULARIES[kind]}, expected the model's own beside its weights; copy it there"
            )


def architectures(folder: Path) -> tuple[str, ...]:
    """The classes that config.json names, such as Wav2Vec2ForCTC."""
    return tuple(map(str, read_json(folder / "config.json").get("architectures") or ()))


def files_below(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


def size_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in files_below(folder))
