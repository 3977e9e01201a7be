"""Detects the kind of recogniser in a folder, computes its digest and loads it.

The code of each kind is imported on demand.
"""

import hashlib
import importlib
from pathlib import Path
from typing import TYPE_CHECKING

from metavox.errors import UserError
from metavox.recognisers.bases.digests import bytes_digest, tensors_digest
from metavox.recognisers.bases.files import (
    EMBEDDER,
    MODEL,
    SHORT_CONTEXT,
    START,
    read_json,
    vocabulary_file,
    weight_files,
)

if TYPE_CHECKING:
    from metavox.recognisers.recogniser import Recogniser

__all__ = ["BASE", "EMBEDDER", "SHORT_CONTEXT", "START", "digest", "kind_of", "load", "own_digest"]
MODULES = {
    "conformer": "metavox.recognisers.conformer.kind",
    "whisper": "metavox.recognisers.whisper",
    "ctc": "metavox.recognisers.ctc",
}
CTC_MODELS = ("wav2vec2", "hubert", "wavlm", "wav2vec2-bert", "data2vec-audio")
# `model_type` of config.json in Hugging Face's form.
MODEL_TYPES = {"whisper": "whisper", **dict.fromkeys(CTC_MODELS, "ctc")}
BASE = "base"  # the foundation base beside a network that the pipeline trained
RATES = "rates"  # of the start's factors, in what its delta says about itself


def kind_of(folder: Path) -> str:
    """The kind that `config.json` names. Raises UserError if there is none, or an unknown one.

    A conformer's configuration has no `kind`, because its bytes are part of the digests that deltas name.
    """
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder}: no model there; expected a folder with config.json and {MODEL}")
    config = read_json(folder / "config.json")
    kind = config.get("kind")
    if kind is None and "model_type" not in config and {"features", "encoder"} <= config.keys():
        return "conformer"
    if kind is None:
        kind = MODEL_TYPES.get(str(config.get("model_type")))
    if kind not in MODULES:
        given = config.get("kind") or config.get("model_type") or "neither kind nor model_type given"
        raise UserError(
            f"{folder}/config.json: unknown kind of recogniser ({given}); expected one of "
            f"conformer, {', '.join(MODEL_TYPES)}; choose another base"
        )
    return str(kind)


def load(folder: Path, name: str = "", language: str = "") -> "Recogniser":
    """The recogniser in `folder`, in evaluation mode.

    `language` (ISO 639) selects among a base model's language adapters. Raises UserError if the folder is
    incomplete or its kind cannot load it.
    """
    kind = kind_of(folder)
    module = importlib.import_module(MODULES[kind])
    arguments = (folder, name or folder.resolve().name, digest(folder))
    recogniser: Recogniser = module.load(*arguments, language) if kind == "ctc" else module.load(*arguments)
    if (folder / START).is_dir():
        from metavox.recognisers.delta import load_delta

        start = load_delta(folder / START)
        recogniser.start, recogniser.start_rates = start.lora, dict(start.about.get(RATES, {}))
    return recogniser


def digest(folder: Path) -> str:
    """sha256 over everything that determines the meaning of a delta: what a delta names as its base.

    For a foundation model these are configuration, weights, vocabulary and, if there is one, the
    short-context adapter.
    """
    if kind_of(folder) == "conformer":
        from metavox.recognisers.conformer import artifact

        return artifact.digest(folder)
    own = own_digest(folder)
    adapter = folder / SHORT_CONTEXT
    if not adapter.is_dir():
        return own
    parts = [own, *(bytes_digest(adapter / name) for name in ("delta.json", "delta.safetensors"))]
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()


def own_digest(folder: Path) -> str:
    """The digest of a foundation model without its short-context adapter, which the adapter names as its
    base.
    """
    parts = ["config.json", bytes_digest(folder / "config.json")]
    for file in weight_files(folder):
        parts += [file.name, tensors_digest(file)]
    vocabulary = vocabulary_file(folder, kind_of(folder))
    if vocabulary.is_file():
        parts += [vocabulary.name, bytes_digest(vocabulary)]
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()
