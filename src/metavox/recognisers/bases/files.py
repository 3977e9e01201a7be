"""Inspects a model folder's files without loading them: completeness, safety, size."""

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
# Folders beside the weights of a base model:
SHORT_CONTEXT = "short_context"  # a delta that is part of the base model
START = "start"  # a delta: the meta-learned start of adapters
EMBEDDER = "embedder"  # a network that embeds words
PARTS = (SHORT_CONTEXT, START, EMBEDDER)
MAX_HEADER_BYTES = 100_000_000  # the limit of safetensors itself


@dataclass(frozen=True)
class Tensors:
    """The header of a safetensors file: name -> (type, shape, first byte, end byte), from the start of the
    file.
    """

    entries: dict[str, tuple[str, tuple[int, ...], int, int]]

    @property
    def weights(self) -> int:
        return sum(math.prod(shape) for _, shape, _, _ in self.entries.values())


def read_json(file: Path) -> dict[str, Any]:
    """Read a JSON object. Raises UserError if there is none."""
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
    """The safetensors files of a model: one, or the shards that its index lists.

    Raises UserError if a shard is missing or if the folder has only pickled weights.
    """
    if (folder / MODEL).is_file():
        return (folder / MODEL,)
    if (folder / INDEX).is_file():
        shards = sorted({str(name) for name in read_json(folder / INDEX).get("weight_map", {}).values()})
        missing = [name for name in shards if Path(name).name != name or not (folder / name).is_file()]
        if missing or not shards:
            raise UserError(
                f"{folder}: {', '.join(missing[:3]) or 'no weights'} missing, which {INDEX} lists; copy or download it again"
            )
        return tuple(folder / name for name in shards)
    pickles = sorted(file.name for file in folder.iterdir() if file.suffix in PICKLES)
    if pickles:
        raise UserError(
            f"{folder}: holds {pickles[0]} and no {MODEL}; a pickle can run any code and is never loaded: "
            "if you trust it, save it as safetensors (save_pretrained), or choose a revision that has them"
        )
    raise UserError(
        f"{folder}: no {MODEL}; expected a model in Hugging Face's form, or one that metavox made"
    )


def read_head(file: Path) -> Tensors:
    """Read the names, types, shapes and offsets of a safetensors file.

    Raises UserError if the file is truncated or not a safetensors file.
    """
    size = file.stat().st_size
    try:
        with file.open("rb") as data:
            (length,) = struct.unpack("<Q", data.read(8))
            if length > min(MAX_HEADER_BYTES, size):
                raise ValueError(f"a header of {length} bytes in a file of {size}")
            head = json.loads(data.read(length))
        start = 8 + length
        entries = {
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
        raise UserError(
            f"{file}: not a complete safetensors file ({error}); copy or download it again"
        ) from error
    end = max((end for *_, end in entries.values()), default=start)
    if end != size:
        raise UserError(
            f"{file}: {size} bytes, but its header expects {end}: it was cut short; copy or download it again"
        )
    return Tensors(entries)


def count_weights(folder: Path) -> int:
    """The number of weights of the model."""
    return sum(read_head(file).weights for file in weight_files(folder))


def vocabulary_file(folder: Path, kind: str) -> Path:
    """The vocabulary file of a foundation model of this kind."""
    return folder / VOCABULARIES[kind]


def refuse_remote_code(folder: Path) -> None:
    """Raise UserError for a model that asks to run code of its own."""
    for file in sorted(folder.glob("*config.json")):
        if "auto_map" in read_json(file):
            raise UserError(
                f"{file}: auto_map asks to run the model's own code, which metavox never does; "
                "choose a base of an architecture that transformers has"
            )


def check(folder: Path, kind: str) -> None:
    """Raise UserError unless the folder has everything that a recogniser of this kind loads, complete and
    safe.
    """
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
