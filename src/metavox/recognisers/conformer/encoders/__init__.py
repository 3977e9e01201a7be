"""Encoders behind one interface, chosen by `EncoderConfig.kind`."""

from metavox.config import EncoderConfig, FeatureConfig, FrontEndConfig
from metavox.errors import UserError
from metavox.recognisers.conformer.encoders.base import Encoder
from metavox.recognisers.conformer.encoders.cnn import CnnEncoder
from metavox.recognisers.conformer.encoders.conformer import ConformerEncoder
from metavox.recognisers.conformer.encoders.recurrent import RecurrentEncoder
from metavox.recognisers.conformer.frontend import FrontEnd

__all__ = ["Encoder", "load_weights", "make_encoder"]


def make_encoder(
    config: EncoderConfig, frontend: FrontEndConfig | None = None, features: FeatureConfig | None = None
) -> Encoder:
    """An encoder of the configured kind with its front end, weights drawn from the global generator.

    Raises UserError for features that the kind does not take and for an unknown bundle, ValueError for a number of mel
    bands that is no multiple of 16.
    """
    features = features or FeatureConfig()
    if config.kind == "bundle":
        from metavox.recognisers.conformer.encoders.bundle import (
            BundleEncoder,  # torchaudio's models take a second to import
        )

        return BundleEncoder(config, features)
    if features.kind != "mel":
        raise UserError(
            f"encoder.kind {config.kind} learns from log-mels, features.kind is {features.kind}; expected mel"
        )
    if features.mels % 16:
        raise ValueError(
            f"{features.mels} mel bands; the convolutions halve them four times: use a multiple of 16"
        )
    kinds = {"conformer": ConformerEncoder, "cnn": CnnEncoder, "recurrent": RecurrentEncoder}
    return kinds[config.kind](config, FrontEnd(frontend or FrontEndConfig(), features))


def load_weights(encoder: Encoder, source: str) -> None:
    """As `bundle.load_weights`, which needs torchaudio's models."""
    from metavox.recognisers.conformer.encoders.bundle import load_weights as load

    load(encoder, source)
