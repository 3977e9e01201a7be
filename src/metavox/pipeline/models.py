"""The networks that the parameters describe, before any stage has trained them."""

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
    load_model,
    load_weights,
    make_encoder,
)
from metavox.training.joint import (
    has_words,
)


def initial_model(params: Params, root: Path, train: Store) -> Network:
    """A recogniser with the alphabet of the training texts: the one that `metatrain.start` names, or else the pretrained
    encoder."""
    torch.manual_seed(params.seed)
    model = Network(model_config(params, train))
    if start := start_folder(params):
        try:
            model.start_from(load_model(start))
        except UserError as error:
            raise UserError(f"metatrain.start {params.metatrain.start}: {error}") from error
    else:
        model.encoder.load_state_dict(load_file(root / "artifacts/encoder/encoder.safetensors"))
    return model


def start_folder(params: Params) -> Path | None:
    """Where the recogniser lies that `metatrain.start` names. Raises UserError for a base of another kind."""
    if not params.metatrain.start:
        return None
    base = find_base(params.metatrain.start)
    if registry.kind_of(base.folder) != "conformer":
        raise UserError(
            f"metatrain.start {params.metatrain.start}: expected a base of the kind conformer, such as `conformer`"
        )
    return base.folder


def model_config(params: Params, train: Store) -> ModelConfig:
    """What the parameters and the training texts make of a model."""
    spelled = has_words(train.rows) & (~train.rows["synthetic"] | (train.rows["unit"] != "word"))
    alphabet = Tokenizer.of(train.rows.loc[spelled, "text"]).alphabet
    return ModelConfig(
        train.config,
        params.encoder,
        alphabet,
        params.frontend,
    )


def new_encoder(params: Params) -> Encoder:
    """What pretraining begins from. Raises UserError when the weights that the parameters name cannot be used."""
    features = params.features
    encoder = make_encoder(params.encoder, params.frontend, features)
    if params.encoder.weights:
        load_weights(encoder, params.encoder.weights)
    return encoder
