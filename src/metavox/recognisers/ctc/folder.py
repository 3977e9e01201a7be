"""Loads a folder in Hugging Face's form: safetensors only, no code of the model, one-line errors."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from metavox.errors import UserError
from metavox.recognisers.bases.digests import tensors_digest
from metavox.recognisers.bases.files import check, read_head, read_json, weight_files
from metavox.recognisers.ctc.alphabet import Alphabet
from metavox.recognisers.ctc.features import read_feature_extractor
from metavox.recognisers.ctc.languages import choose, short_code
from metavox.recognisers.ctc.network import CtcNetwork, freeze_encoder
from metavox.recognisers.ctc.recogniser import KIND, LONGEST_S, PRESETS, CtcRecogniser
from metavox.recognisers.recogniser import RecogniserSpec

ENCODERS = {
    "wav2vec2": "Wav2Vec2Model",
    "hubert": "HubertModel",
    "wavlm": "WavLMModel",
    "data2vec-audio": "Data2VecAudioModel",
    "wav2vec2-bert": "Wav2Vec2BertModel",
}
VOCABULARY, ADAPTER = "vocab.json", "adapter.{}.safetensors"
Head = tuple[torch.Tensor, torch.Tensor]


def load(folder: Path, name: str, digest: str, language: str = "") -> CtcRecogniser:
    """The recogniser of a folder with digest `digest`; for MMS, that of one language, with a digest of its
    own.

    Raises UserError for a folder that is incomplete, unsafe or not one of `ENCODERS`, and for a missing
    language.
    """
    config = read_json(folder / "config.json")
    kind = config.get("model_type")
    if kind not in ENCODERS:
        raise UserError(
            f"{folder}: architecture {kind!r}; expected one of {', '.join(ENCODERS)}; choose another base"
        )
    check(folder, KIND)
    vocabularies = _vocabularies(folder)
    code = _language(folder, config, vocabularies, language)
    acoustic = _encoder(folder, ENCODERS[kind], adapters_apart=bool(code))
    head = _adapted(folder, acoustic, code) if code else _head(weight_files(folder))
    encoder_config = acoustic.config
    width = (
        encoder_config.output_hidden_size
        if getattr(encoder_config, "add_adapter", False)
        else encoder_config.hidden_size
    )
    if head is None:
        head, alphabet = (torch.zeros(1, width), torch.zeros(1)), Alphabet(("",), 0)
    elif head[0].shape != (len(head[1]), width):
        raise UserError(
            f"{folder}: the head is {tuple(head[0].shape)}, but the encoder is {width} wide; get the model's folder again"
        )
    else:
        alphabet = _alphabet(folder, config, vocabularies.get(code), len(head[0]))
    layer = nn.Linear(head[0].shape[1], len(head[0]), device="meta")
    layer.weight, layer.bias = (nn.Parameter(x.float(), requires_grad=False) for x in head)
    feature_extractor = read_feature_extractor(folder, kind == "wav2vec2-bert")
    languages = (short_code(code),) if code else ()
    if code:
        adapter = tensors_digest(folder / ADAPTER.format(code))
        digest = hashlib.sha256(f"{digest} {code} {adapter}".encode()).hexdigest()
    spec = RecogniserSpec(KIND, name, digest, feature_extractor.sample_rate_hz, LONGEST_S, languages, PRESETS)
    return CtcRecogniser(
        CtcNetwork(freeze_encoder(acoustic), layer, alphabet).eval(), spec, feature_extractor
    )


def _json(file: Path) -> dict[str, Any]:
    """Read a JSON object; an empty one if there is no such file."""
    return read_json(file) if file.is_file() else {}


def _encoder(folder: Path, name: str, adapters_apart: bool) -> Any:
    """The encoder with all its weights in float32; language adapters may be in separate files.

    Raises UserError if weights are missing or have other shapes.
    """
    import transformers

    try:
        with _quiet():
            model, report = getattr(transformers, name).from_pretrained(
                folder,
                dtype=torch.float32,
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"{folder}: config.json and weights do not match ({reason}); get the model's folder again"
        ) from error
    # A vector that only hides frames in pretraining may be missing.
    missing = [
        n
        for n in report["missing_keys"]
        if "masked_spec_embed" not in n and not (adapters_apart and "adapter_layer" in n)
    ]
    if wrong := sorted(missing) + sorted(str(n) for n in report["mismatched_keys"]):
        raise UserError(
            f"{folder}: {len(wrong)} weights of the encoder are missing or have another shape, such as {wrong[0]}; "
            "get config.json and weights of one model"
        )
    return model


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the progress bars and reports of transformers; what matters is checked here."""
    from transformers.utils import logging

    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()


def _head(files: tuple[Path, ...]) -> Head | None:
    """The CTC head's weight (ids, dim) and bias (ids,), or None."""
    head: dict[str, torch.Tensor] = {}
    for file in files:
        names = read_head(file).entries.keys() & {"lm_head.weight", "lm_head.bias"}
        with safe_open(file, "pt") as tensors:
            head |= {name: tensors.get_tensor(name) for name in names}
    return (head["lm_head.weight"], head["lm_head.bias"]) if len(head) == 2 else None


def _vocabularies(folder: Path) -> dict[str, dict[str, int]]:
    """The vocabularies by language, as MMS has them; a single one has the empty name."""
    values = _json(folder / VOCABULARY)
    nested = bool(values) and all(isinstance(value, dict) for value in values.values())
    vocabularies = values if nested else {"": values} if values else {}
    if not all(type(i) is int for ids in vocabularies.values() for i in ids.values()):
        raise UserError(f"{folder / VOCABULARY}: expected a number for each token; get the model's own file")
    return vocabularies


def _language(
    folder: Path, config: dict[str, Any], vocabularies: dict[str, dict[str, int]], requested: str
) -> str:
    """The language code whose adapter and vocabulary to load; empty if the model has no language adapters."""
    if config.get("adapter_attn_dim") is None or "" in vocabularies:
        return ""
    available = [code for code in vocabularies if (folder / ADAPTER.format(code)).is_file()]
    if not available:
        raise UserError(
            f"{folder}: no {ADAPTER.format('LANGUAGE')} for any of the {len(vocabularies)} languages of "
            f"{VOCABULARY}; get those that you need"
        )
    only = available[0] if len(available) == 1 else ""
    default = only or _json(folder / "tokenizer_config.json").get("target_lang") or "eng"
    return choose(requested, available, default)


def _adapted(folder: Path, acoustic: Any, language: str) -> Head:
    """Load a language's adapter into the encoder, in place, and return its head. Raises UserError if it does
    not match.
    """
    file = folder / ADAPTER.format(language)
    read_head(file)
    values = {name.removeprefix("wav2vec2."): value.float() for name, value in load_file(file).items()}
    head = values.pop("lm_head.weight", None), values.pop("lm_head.bias", None)
    shapes = {n: p.shape for n, p in acoustic.named_parameters() if "adapter_layer" in n}
    if head[0] is None or head[1] is None or {n: v.shape for n, v in values.items()} != shapes:
        raise UserError(f"{file}: not an adapter of this model; get the file that belongs to it")
    acoustic.load_state_dict(values, strict=False)
    return head[0], head[1]


def _alphabet(folder: Path, config: dict[str, Any], ids: dict[str, int] | None, rows: int) -> Alphabet:
    """The alphabet of a head with `rows` ids. Raises UserError for a vocabulary that does not match."""
    file = folder / VOCABULARY
    if not ids:
        raise UserError(
            f"{file}: missing or empty; expected the tokens of the head's {rows} rows; get the model's own file"
        )
    tokenizer_config = _json(folder / "tokenizer_config.json")
    if "Phoneme" in str(tokenizer_config.get("tokenizer_class", "")):
        raise UserError(
            f"{folder}: this model writes phonemes; expected one that writes letters; choose another base"
        )
    added = {item["content"]: int(i) for i, item in tokenizer_config.get("added_tokens_decoder", {}).items()}
    added |= _json(folder / "added_tokens.json")
    ids = {t: i for t, i in added.items() if i < rows and i not in ids.values()} | ids
    if len(ids) != rows or max(ids.values()) != rows - 1:
        raise UserError(
            f"{file}: {len(ids)} tokens, but the head has {rows} rows; get the {VOCABULARY} that belongs to it"
        )
    blank = _content(tokenizer_config.get("pad_token"), "<pad>")
    tokens_by_id = {i: token for token, i in ids.items()}
    if blank not in ids:
        blank = tokens_by_id.get(config.get("pad_token_id", 0), blank)
    try:
        return Alphabet.of(ids, blank, _content(tokenizer_config.get("word_delimiter_token"), "|"))
    except UserError as error:
        raise UserError(f"{file}: {error}") from error


def _content(token: Any, default: str) -> str:
    """A token in tokenizer_config.json: a string or an object."""
    return str(token.get("content", default) if isinstance(token, dict) else token or default)
