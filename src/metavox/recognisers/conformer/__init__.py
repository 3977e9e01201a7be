"""Our own small network: convolutions and Conformer blocks, CTC characters, and an embedding of words.

The names below are all that the rest of the project may use; the modules behind them are private to this package.
"""

from metavox.recognisers.conformer.artifact import PROFILE, digest, load_model, write_model
from metavox.recognisers.conformer.cohort import Background, within_class_whitening
from metavox.recognisers.conformer.decoding import ctc_loss, text_scores
from metavox.recognisers.conformer.encoders import Encoder, EncoderConfig, load_weights, make_encoder
from metavox.recognisers.conformer.frames import frame_mask
from metavox.recognisers.conformer.frontend import FrontEnd, FrontEndConfig
from metavox.recognisers.conformer.kind import WINDOW_S, ConformerRecogniser, load, trainable
from metavox.recognisers.conformer.network import ModelConfig, Network, WordEmbedding, pad
from metavox.recognisers.conformer.tokenizer import BLANK, Tokenizer
from metavox.recognisers.conformer.vocabulary import LOGIT_SCALE, fit, moved_embedding, spelled

__all__ = [
    "BLANK",
    "LOGIT_SCALE",
    "PROFILE",
    "WINDOW_S",
    "Background",
    "ConformerRecogniser",
    "Encoder",
    "EncoderConfig",
    "FrontEnd",
    "FrontEndConfig",
    "ModelConfig",
    "Network",
    "Tokenizer",
    "WordEmbedding",
    "ctc_loss",
    "digest",
    "fit",
    "frame_mask",
    "load",
    "load_model",
    "load_weights",
    "make_encoder",
    "moved_embedding",
    "pad",
    "spelled",
    "text_scores",
    "trainable",
    "within_class_whitening",
    "write_model",
]
