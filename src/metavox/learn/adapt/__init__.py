"""Adaptation: a few recordings of one voice, room, language or vocabulary to a delta on the base model."""

from metavox.learn.adapt.parts import Part, trainable
from metavox.learn.adapt.utterances import AdaptConfig, adapt_utterances
from metavox.learn.adapt.words import EnrolConfig, enrol_words

__all__ = ["AdaptConfig", "EnrolConfig", "Part", "adapt_utterances", "enrol_words", "trainable"]
