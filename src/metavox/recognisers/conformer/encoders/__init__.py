"""Encoders behind one interface, selected by `EncoderConfig.kind`."""

from pathlib import Path

from metavox.config import EncoderConfig, FeatureConfig, FrontEndConfig
from metavox.errors import UserError
from metavox.recognisers.conformer.encoders.base import Encoder
from metavox.recognisers.conformer.encoders.cnn import CnnEncoder
from metavox.recognisers.conformer.encoders.conformer import ConformerEncoder
from metavox.recognisers.conformer.encoders.recurrent import RecurrentEncoder
from metavox.recognisers.conformer.frontend import FrontEnd

__all__ = ["Encoder", "attach", "load_weights", "make_encoder"]


def make_encoder(
    config: EncoderConfig, frontend: FrontEndConfig | None = None, features: FeatureConfig | None = None
) -> Encoder:
    """An encoder of the configured kind with its front end; its weights are drawn from the global generator.

    Raises UserError for features that the kind does not support and for an unknown bundle, ValueError if the
    number of mel bands is not a multiple of 16.
    """
    features = features or FeatureConfig()
    if config.kind == "bundle":
        # torchaudio's models take a second to import.
        from metavox.recognisers.conformer.encoders.bundle import BundleEncoder

        return BundleEncoder(config, features)
    if config.kind == "whisper":
        from metavox.recognisers.conformer.encoders.whisper import WhisperEncoder

        return WhisperEncoder(config, FrontEnd(frontend or FrontEndConfig(), features), features)
    if features.kind != "mel":
        raise UserError(
            f"encoder.kind {config.kind} needs log-mels, but features.kind is {features.kind}; expected mel"
        )
    if features.mels % 16:
        raise ValueError(
            f"{features.mels} mel bands; expected a multiple of 16, because the convolutions halve them four times"
        )
    kinds = {"conformer": ConformerEncoder, "cnn": CnnEncoder, "recurrent": RecurrentEncoder}
    return kinds[config.kind](config, FrontEnd(frontend or FrontEndConfig(), features))


def attach(encoder: Encoder, folder: Path) -> None:
    """Give an encoder of the kind `whisper` the frozen weights of the base model in `folder`; others need none.

    Raises UserError if it is not the base model that the encoder was trained on.
    """
    if encoder.config.kind == "whisper":
        from metavox.recognisers.conformer.encoders.whisper import WhisperEncoder

        assert isinstance(encoder, WhisperEncoder)
        encoder.attach(folder)


def load_weights(encoder: Encoder, source: str) -> None:
    """`bundle.load_weights`, imported on demand because it needs torchaudio's models."""
    from metavox.recognisers.conformer.encoders.bundle import load_weights as load

    load(encoder, source)
