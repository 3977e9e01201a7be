"""metavox: a handful of recordings in, a speech recogniser for them out."""

__version__ = "0.1.0"
