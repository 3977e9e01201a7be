"""Encoders behind one interface, chosen by `EncoderConfig.kind`."""

from dataclasses import replace

from metavox.audio.features import FeatureConfig
from metavox.errors import UserError
from metavox.recognisers.conformer.encoders.base import Encoder, EncoderConfig
from metavox.recognisers.conformer.encoders.cnn import CnnEncoder
from metavox.recognisers.conformer.encoders.conformer import ConformerEncoder
from metavox.recognisers.conformer.encoders.recurrent import RecurrentEncoder
from metavox.recognisers.conformer.frontend import FrontEnd, FrontEndConfig

__all__ = ["Encoder", "EncoderConfig", "load_weights", "make_encoder"]


def make_encoder(
    config: EncoderConfig, frontend: FrontEndConfig | None = None, features: FeatureConfig | None = None
) -> Encoder:
    """An encoder of the configured kind with its front end, weights drawn from the global generator.

    Raises UserError for features that the kind does not take, and for a bundle that there is none of.
    """
    features = replace(features or FeatureConfig(), mels=config.mels)
    if config.kind == "bundle":
        from metavox.recognisers.conformer.encoders.bundle import (
            BundleEncoder,  # torchaudio's models take a second to import
        )

        return BundleEncoder(config, features)
    if features.kind != "mel":
        raise UserError(
            f"encoder.kind {config.kind} learns from log-mels, features.kind is {features.kind}; expected mel"
        )
    kinds = {"conformer": ConformerEncoder, "cnn": CnnEncoder, "recurrent": RecurrentEncoder}
    return kinds[config.kind](config, FrontEnd(frontend or FrontEndConfig(), features))


def load_weights(encoder: Encoder, source: str) -> None:
    """As `bundle.load_weights`, which needs torchaudio's models."""
    from metavox.recognisers.conformer.encoders.bundle import load_weights as load

    load(encoder, source)
