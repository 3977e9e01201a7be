"""Whisper: an encoder-decoder over log-mels that writes text with times (Radford et al. 2022)."""

from metavox.recognisers.whisper.folder import load
from metavox.recognisers.whisper.recogniser import WhisperRecogniser

__all__ = ["WhisperRecogniser", "load"]
