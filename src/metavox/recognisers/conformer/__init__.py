"""The conformer: a small network of convolutions and Conformer blocks, with CTC characters and word
embeddings.

The names below are all that the rest of the project may use; the modules behind them are private to this
package.
"""

from metavox.config import EncoderConfig, FrontEndConfig
from metavox.recognisers.conformer.artifact import PROFILE, digest, load_model, write_model
from metavox.recognisers.conformer.cohort import Cohort, within_class_whitening
from metavox.recognisers.conformer.decoding import ctc_loss, ctc_sum, text_scores
from metavox.recognisers.conformer.encoders import Encoder, attach, load_weights, make_encoder
from metavox.recognisers.conformer.frames import frame_mask
from metavox.recognisers.conformer.frontend import FrontEnd
from metavox.recognisers.conformer.kind import WINDOW_S, ConformerRecogniser, load, trainable
from metavox.recognisers.conformer.network import ModelConfig, Network, WordEmbedding, pad
from metavox.recognisers.conformer.tokenizer import BLANK, Tokenizer
from metavox.recognisers.conformer.vocabulary import (
    LOGIT_SCALE,
    adapted_embedding,
    normalised_scores,
    spelling_scores,
)

__all__ = [
    "BLANK",
    "LOGIT_SCALE",
    "PROFILE",
    "WINDOW_S",
    "Cohort",
    "ConformerRecogniser",
    "Encoder",
    "EncoderConfig",
    "FrontEnd",
    "FrontEndConfig",
    "ModelConfig",
    "Network",
    "Tokenizer",
    "WordEmbedding",
    "adapted_embedding",
    "attach",
    "ctc_loss",
    "ctc_sum",
    "digest",
    "frame_mask",
    "load",
    "load_model",
    "load_weights",
    "make_encoder",
    "normalised_scores",
    "pad",
    "spelling_scores",
    "text_scores",
    "trainable",
    "within_class_whitening",
    "write_model",
]
