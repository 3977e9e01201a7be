"""The networks that the parameters describe, before training."""

from pathlib import Path

import torch
from safetensors.torch import load_file

from metavox.dataset.store import Store
from metavox.errors import UserError
from metavox.params import Params
from metavox.recognisers import registry
from metavox.recognisers.bases.find import find_base
from metavox.recognisers.conformer import (
    Encoder,
    ModelConfig,
    Network,
    Tokenizer,
    attach,
    load_model,
    load_weights,
    make_encoder,
)
from metavox.training.joint import (
    has_words,
)


def initial_model(params: Params, root: Path, train: Store) -> Network:
    """A recogniser with the alphabet of the training texts and the weights of `metatrain.start` or the pretrained encoder.

    Raises UserError when `metatrain.start` is not a conformer, or does not fit the configuration.
    """
    torch.manual_seed(params.seed)
    model = Network(model_config(params, train))
    if start := start_folder(params):
        try:
            model.start_from(load_model(start))
        except UserError as error:
            raise UserError(f"metatrain.start {params.metatrain.start}: {error}") from error
    else:
        model.encoder.load_state_dict(load_file(root / "artifacts/encoder/encoder.safetensors"))
    attach_base(model.encoder, params)
    return model


def start_folder(params: Params) -> Path | None:
    """The folder of the network `metatrain.start`: a conformer, or the word embedder of a base; None without one.

    Raises UserError for a base that is neither.
    """
    if not params.metatrain.start:
        return None
    base = find_base(params.metatrain.start)
    base = base.embedder or base
    if registry.kind_of(base.folder) != "conformer":
        raise UserError(
            f"metatrain.start {params.metatrain.start}: got a base of the kind {registry.kind_of(base.folder)} without a word "
            "embedder; expected a conformer, such as `conformer`"
        )
    return base.folder


def model_config(params: Params, train: Store) -> ModelConfig:
    """The model configuration from the parameters and the alphabet of the training texts."""
    spelled = has_words(train.rows) & (~train.rows["synthetic"] | (train.rows["unit"] != "word"))
    alphabet = Tokenizer.of(train.rows.loc[spelled, "text"]).alphabet
    return ModelConfig(
        train.config,
        params.encoder,
        alphabet,
        params.frontend,
        word_margin_s=params.metatrain.word_margin_s,
    )


def attach_base(encoder: Encoder, params: Params) -> None:
    """Give an encoder of the kind `whisper` the frozen weights of `params.base`. Raises UserError for another kind of base."""
    if params.encoder.kind != "whisper":
        return
    base = find_base(params.base)
    if base.kind != "whisper":
        raise UserError(
            f"base {params.base}: is of the kind {base.kind}, but encoder.kind is whisper; choose a Whisper model"
        )
    attach(encoder, base.folder)


def new_encoder(params: Params) -> Encoder:
    """The encoder before pretraining. Raises UserError when the weights `encoder.weights` cannot be used."""
    features = params.features
    encoder = make_encoder(params.encoder, params.frontend, features)
    attach_base(encoder, params)
    if params.encoder.weights:
        load_weights(encoder, params.encoder.weights)
    return encoder
