"""A folder in Hugging Face form to a recogniser: safetensors alone, no code of others, or one clear line."""

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
from metavox.recognisers.ctc.features import read_hearing
from metavox.recognisers.ctc.languages import choose, short_code
from metavox.recognisers.ctc.network import CtcNetwork, settled
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
    """The recogniser of a folder whose content has `digest`; of MMS, the one of a language, with a digest of its own.

    Raises UserError for a folder that is not whole or harmless, or not one of `ENCODERS`, and for a language that it lacks.
    """
    config = read_json(folder / "config.json")
    kind = config.get("model_type")
    if kind not in ENCODERS:
        raise UserError(
            f"{folder}: architecture {kind!r}; expected one of {', '.join(ENCODERS)}; choose such a base"
        )
    check(folder, KIND)
    vocabularies = _vocabularies(folder)
    chosen = _language(folder, config, vocabularies, language)
    acoustic = _encoder(folder, ENCODERS[kind], adapters_apart=bool(chosen))
    head = _adapted(folder, acoustic, chosen) if chosen else _head(weight_files(folder))
    about = acoustic.config
    width = about.output_hidden_size if getattr(about, "add_adapter", False) else about.hidden_size
    if head is None:
        head, alphabet = (torch.zeros(1, width), torch.zeros(1)), Alphabet(("",), 0)
    elif head[0].shape != (len(head[1]), width):
        raise UserError(
            f"{folder}: the head is {tuple(head[0].shape)}, the encoder {width} wide; get the model's folder again"
        )
    else:
        alphabet = _alphabet(folder, config, vocabularies.get(chosen), len(head[0]))
    layer = nn.Linear(head[0].shape[1], len(head[0]), device="meta")
    layer.weight, layer.bias = (nn.Parameter(x.float(), requires_grad=False) for x in head)
    hearing = read_hearing(folder, kind == "wav2vec2-bert")
    languages = (short_code(chosen),) if chosen else ()
    if chosen:
        adapter = tensors_digest(folder / ADAPTER.format(chosen))
        digest = hashlib.sha256(f"{digest} {chosen} {adapter}".encode()).hexdigest()
    spec = RecogniserSpec(KIND, name, digest, hearing.sample_rate_hz, LONGEST_S, languages, PRESETS)
    return CtcRecogniser(CtcNetwork(settled(acoustic), layer, alphabet).eval(), spec, hearing)


def _json(file: Path) -> dict[str, Any]:
    """An empty object where there is no such file."""
    return read_json(file) if file.is_file() else {}


def _encoder(folder: Path, name: str, adapters_apart: bool) -> Any:
    """The encoder with all its weights in float32; those of adapters may come apart.

    Raises UserError where weights lack or have other shapes.
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
        said = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"{folder}: config.json and weights do not fit ({said}); get the model's folder again"
        ) from error
    # A vector that only hides frames in pretraining is not always there.
    missing = [
        n
        for n in report["missing_keys"]
        if "masked_spec_embed" not in n and not (adapters_apart and "adapter_layer" in n)
    ]
    if wrong := sorted(missing) + sorted(str(n) for n in report["mismatched_keys"]):
        raise UserError(
            f"{folder}: {len(wrong)} weights of the encoder lack or have another shape, as {wrong[0]}; "
            "get config.json and weights of one model"
        )
    return model


@contextmanager
def _quiet() -> Iterator[None]:
    """Neither bars nor reports of transformers; what matters is checked here."""
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
    """The CTC head's weight (ids, dim) and bias (ids,), if there is one."""
    found: dict[str, torch.Tensor] = {}
    for file in files:
        there = read_head(file).where.keys() & {"lm_head.weight", "lm_head.bias"}
        with safe_open(file, "pt") as tensors:
            found |= {name: tensors.get_tensor(name) for name in there}
    return (found["lm_head.weight"], found["lm_head.bias"]) if len(found) == 2 else None


def _vocabularies(folder: Path) -> dict[str, dict[str, int]]:
    """By language, as MMS has them; else the one there is, under no name."""
    values = _json(folder / VOCABULARY)
    nested = bool(values) and all(isinstance(value, dict) for value in values.values())
    found = values if nested else {"": values} if values else {}
    if not all(type(i) is int for ids in found.values() for i in ids.values()):
        raise UserError(f"{folder / VOCABULARY}: expected a number for each token; get the model's own file")
    return found


def _language(
    folder: Path, config: dict[str, Any], vocabularies: dict[str, dict[str, int]], wanted: str
) -> str:
    """Which language's adapter and vocabulary to take; none where the model has no such parts."""
    if config.get("adapter_attn_dim") is None or "" in vocabularies:
        return ""
    there = [code for code in vocabularies if (folder / ADAPTER.format(code)).is_file()]
    if not there:
        raise UserError(
            f"{folder}: no {ADAPTER.format('LANGUAGE')} for any of the {len(vocabularies)} languages of "
            f"{VOCABULARY}; get those that you need"
        )
    only = there[0] if len(there) == 1 else ""
    default = only or _json(folder / "tokenizer_config.json").get("target_lang") or "eng"
    return choose(wanted, there, default)


def _adapted(folder: Path, acoustic: Any, language: str) -> Head:
    """Put a language's adapter into the encoder, in place; its head. Raises UserError for one that does not fit."""
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
    """Raises UserError for a vocabulary that is not the head's of `rows` ids."""
    file = folder / VOCABULARY
    if not ids:
        raise UserError(f"{file}: not there or empty; expected what the head's {rows} rows write")
    told = _json(folder / "tokenizer_config.json")
    if "Phoneme" in str(told.get("tokenizer_class", "")):
        raise UserError(
            f"{folder}: this model writes phonemes; expected one that writes letters; use another one"
        )
    added = {item["content"]: int(i) for i, item in told.get("added_tokens_decoder", {}).items()}
    added |= _json(folder / "added_tokens.json")
    ids = {t: i for t, i in added.items() if i < rows and i not in ids.values()} | ids
    if len(ids) != rows or max(ids.values()) != rows - 1:
        raise UserError(
            f"{file}: {len(ids)} tokens, but the head has {rows} rows; get the {VOCABULARY} that belongs to it"
        )
    blank = _content(told.get("pad_token"), "<pad>")
    by_number = {i: token for token, i in ids.items()}
    if blank not in ids:
        blank = by_number.get(config.get("pad_token_id", 0), blank)
    try:
        return Alphabet.of(ids, blank, _content(told.get("word_delimiter_token"), "|"))
    except UserError as error:
        raise UserError(f"{file}: {error}") from error


def _content(token: Any, otherwise: str) -> str:
    """A token as tokenizer_config.json has it: a string, or an object."""
    return str(token.get("content", otherwise) if isinstance(token, dict) else token or otherwise)
