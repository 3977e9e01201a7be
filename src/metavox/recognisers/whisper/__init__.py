"""The kind `whisper`: an encoder-decoder over log-mels that writes text with times (Radford et al. 2022).

The names below are all that the rest of the project may use; the modules behind them are private to this
package.
"""

from metavox.recognisers.whisper.decoding import Rules, decode, max_tokens
from metavox.recognisers.whisper.features import HOP, SAMPLE_RATE_HZ, STATE, WINDOW, log_mels
from metavox.recognisers.whisper.folder import load, read_rules
from metavox.recognisers.whisper.network import Encoder, Whisper, half_precision
from metavox.recognisers.whisper.recogniser import WhisperRecogniser
from metavox.recognisers.whisper.tokens import Tokens
from metavox.recognisers.whisper.weights import load_encoder, load_network

__all__ = [
    "HOP",
    "SAMPLE_RATE_HZ",
    "STATE",
    "WINDOW",
    "Encoder",
    "Rules",
    "Tokens",
    "Whisper",
    "WhisperRecogniser",
    "decode",
    "half_precision",
    "load",
    "load_encoder",
    "load_network",
    "log_mels",
    "max_tokens",
    "read_rules",
]
