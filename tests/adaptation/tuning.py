"""A small recogniser with configurable recipes, and measures for the tests of fine-tuning."""

import torch

from metavox.adaptation.fine_tune import FineTuneConfig, Recordings
from metavox.recognisers.conformer.kind import ConformerRecogniser
from metavox.recognisers.delta import Delta
from metavox.recognisers.recogniser import Recipe, Recogniser

BASE = "b" * 64
SHORT = FineTuneConfig(preset="norms", steps=12, learning_rate=0.02)


class Small(ConformerRecogniser):
    """A conformer whose recipes are `candidates`."""

    candidates: tuple[Recipe, ...] = (Recipe("norms", 0.02, 12, 16),)

    def recipes(self, recordings: int) -> tuple[Recipe, ...]:
        return self.candidates


def loss(recogniser: Recogniser, recordings: Recordings) -> float:
    with torch.no_grad():
        return float(recogniser.loss(recordings.audio, recordings.texts))


def moved(delta: Delta) -> float:
    size = sum(float(value.square().sum()) for value in delta.weights.values())
    if delta.lora:
        size += sum(float((delta.lora.scale * b @ a).square().sum()) for a, b in delta.lora.factors.values())
    return size


def same(one: Delta, other: Delta) -> bool:
    mine, theirs = (
        dict(d.weights) | {n: b @ a for n, (a, b) in (d.lora.factors if d.lora else {}).items()}
        for d in (one, other)
    )
    return mine.keys() == theirs.keys() and all(
        torch.equal(value, theirs[name]) for name, value in mine.items()
    )
