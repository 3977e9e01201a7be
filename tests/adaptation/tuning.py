"""A small recogniser with configurable recipes, and comparisons of deltas, for the tests of fine-tuning."""

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


def squared_norm(delta: Delta) -> float:
    norm = sum(float(value.square().sum()) for value in delta.weights.values())
    if delta.lora:
        norm += sum(float((delta.lora.scale * b @ a).square().sum()) for a, b in delta.lora.factors.values())
    return norm


def same_weights(first: Delta, second: Delta) -> bool:
    first_weights, second_weights = (
        dict(d.weights) | {n: b @ a for n, (a, b) in (d.lora.factors if d.lora else {}).items()}
        for d in (first, second)
    )
    return first_weights.keys() == second_weights.keys() and all(
        torch.equal(value, second_weights[name]) for name, value in first_weights.items()
    )
