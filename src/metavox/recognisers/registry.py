"""Which kind of recogniser a folder holds, its digest, and loading it. Each kind's code is imported when it is needed."""

import hashlib
import importlib
from pathlib import Path
from typing import TYPE_CHECKING

from metavox.errors import UserError
from metavox.recognisers.bases.digests import bytes_digest, tensors_digest
from metavox.recognisers.bases.files import MODEL, SHORT_CONTEXT, read_json, vocabulary_file, weight_files

if TYPE_CHECKING:
    from metavox.recognisers.recogniser import Recogniser

__all__ = ["SHORT_CONTEXT", "START", "digest", "kind_of", "load", "own_digest"]
MODULES = {
    "conformer": "metavox.recognisers.conformer.kind",
    "whisper": "metavox.recognisers.whisper",
    "ctc": "metavox.recognisers.ctc",
}
CTC_MODELS = ("wav2vec2", "hubert", "wavlm", "wav2vec2-bert", "data2vec-audio")
# As config.json says in Hugging Face's form.
MODEL_TYPES = {"whisper": "whisper", **dict.fromkeys(CTC_MODELS, "ctc")}
START = "start"  # a delta beside the weights, where adapters begin that are learned on the base


def kind_of(folder: Path) -> str:
    """The kind that `config.json` names. Raises UserError for a folder without one, and for an unknown kind.

    Our own network's configuration has no `kind`: its bytes are in the digests that deltas name.
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
        found = config.get("kind") or config.get("model_type") or "neither kind nor model_type"
        raise UserError(
            f"{folder}/config.json: {found} is no recogniser known here; expected one of "
            f"conformer, {', '.join(MODEL_TYPES)}; choose another base"
        )
    return str(kind)


def load(folder: Path, name: str = "", language: str = "") -> "Recogniser":
    """The recogniser in `folder`, in evaluation mode. `language` (ISO 639) chooses among a base's adapters of languages.

    Raises UserError when it is not whole, or its kind does not know it.
    """
    kind = kind_of(folder)
    module = importlib.import_module(MODULES[kind])
    arguments = (folder, name or folder.resolve().name, digest(folder))
    recogniser: Recogniser = module.load(*arguments, language) if kind == "ctc" else module.load(*arguments)
    if (folder / START).is_dir():
        from metavox.recognisers.delta import load_delta

        recogniser.start = load_delta(folder / START).lora
    return recogniser


def digest(folder: Path) -> str:
    """sha256 over all that decides what a delta means on this base: what a delta names as its base.

    Of a foundation model: configuration, weights, vocabulary, and the short-context adapter where there is one.
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
    """The digest of a foundation model without its short-context adapter: what that adapter names as its base."""
    parts = ["config.json", bytes_digest(folder / "config.json")]
    for file in weight_files(folder):
        parts += [file.name, tensors_digest(file)]
    vocabulary = vocabulary_file(folder, kind_of(folder))
    if vocabulary.is_file():
        parts += [vocabulary.name, bytes_digest(vocabulary)]
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()
