"""What the adapter for short contexts is learnt from, and how."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ShortContextConfig:
    """`padding_s` is the range of what follows a clip; `full` the share of batches at the whole 30 s."""

    lessons: int = 2400
    steps: int = 1000
    rank: int = 8
    alpha: float = 16.0
    learning_rate: float = 1e-3
    padding_s: tuple[float, float] = (0.5, 3.0)
    full: float = 0.08
    joined: float = 0.35
    perturbed: float = 0.35
    noises: float = 0.08
    states_weight: float = 1.0
    seed: int = 0
