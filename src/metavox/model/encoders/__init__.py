"""Encoders behind one interface, chosen by `EncoderConfig.kind`."""

from dataclasses import replace

from metavox.audio.features import FeatureConfig
from metavox.model.encoders.base import Encoder, EncoderConfig
from metavox.model.encoders.conformer import ConformerEncoder
from metavox.model.frontend import FrontEnd, FrontEndConfig

__all__ = ["Encoder", "EncoderConfig", "make_encoder"]


def make_encoder(
    config: EncoderConfig, frontend: FrontEndConfig | None = None, features: FeatureConfig | None = None
) -> Encoder:
    """An encoder of the configured kind with its front end, weights drawn from the global generator."""
    features = replace(features or FeatureConfig(), mels=config.mels)
    front = FrontEnd(frontend or FrontEndConfig(), features)
    return {"conformer": ConformerEncoder}[config.kind](config, front)
