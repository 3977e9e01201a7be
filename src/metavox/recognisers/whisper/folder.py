"""Loads a Whisper model from a folder, with the short-context adapter beside its weights."""

from pathlib import Path
from typing import Any

from metavox.recognisers.delta import Delta, load_delta
from metavox.recognisers.lora import check
from metavox.recognisers.recogniser import RecogniserSpec
from metavox.recognisers.registry import SHORT_CONTEXT, own_digest
from metavox.recognisers.whisper.decoding import Rules
from metavox.recognisers.whisper.features import SAMPLE_RATE_HZ, STATE
from metavox.recognisers.whisper.network import Dimensions, Whisper
from metavox.recognisers.whisper.recogniser import KIND, PRESETS, WhisperRecogniser
from metavox.recognisers.whisper.tokens import Tokens, read_json
from metavox.recognisers.whisper.weights import load_network


def load(folder: Path, name: str, digest: str) -> WhisperRecogniser:
    """The recogniser in a folder in Hugging Face's form. `digest` covers the short-context adapter.

    Raises UserError if the folder does not hold a complete Whisper model.
    """
    network, tokens = load_network(folder), Tokens.read(folder)
    generation = read_json(folder / "generation_config.json")
    adapter = folder / SHORT_CONTEXT
    if short := adapter.is_dir():
        merge(network, own_digest(folder), load_delta(adapter))
    spec = RecogniserSpec(
        kind=KIND,
        name=name,
        digest=digest,
        sample_rate_hz=SAMPLE_RATE_HZ,
        longest_s=network.dimensions.max_source_positions * STATE / SAMPLE_RATE_HZ,
        languages=tuple(tokens.languages) or ("en",),
        presets=PRESETS,
    )
    rules = Rules.of(tokens, generation)
    return WhisperRecogniser(network, spec, rules, _alignment_heads(generation, network.dimensions), short)


def read_rules(folder: Path) -> Rules:
    """The decoding rules of a folder. Raises UserError as `Tokens.read` does."""
    return Rules.of(Tokens.read(folder), read_json(folder / "generation_config.json"))


def merge(network: Whisper, digest: str, adapter: Delta) -> None:
    """Merge a LoRA adapter into the weights of a network that nothing else shares, in place."""
    check(network, digest, [adapter])
    if adapter.lora is not None:
        for name, (a, b) in adapter.lora.factors.items():
            network.get_parameter(name).add_(adapter.lora.scale * b @ a)


def _alignment_heads(generation: dict[str, Any], dimensions: Dimensions) -> list[tuple[int, int]]:
    """The alignment heads, whose attention follows the audio; by default all of the decoder's second half
    (openai/whisper).
    """
    listed = [(int(layer), int(head)) for layer, head in generation.get("alignment_heads") or ()]
    valid = [
        (layer, head)
        for layer, head in listed
        if layer < dimensions.decoder_layers and head < dimensions.decoder_attention_heads
    ]
    layers = range(dimensions.decoder_layers // 2, dimensions.decoder_layers)
    return valid or [(layer, head) for layer in layers for head in range(dimensions.decoder_attention_heads)]
