"""Configuration of the training of the short-context adapter."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ShortContextConfig:
    """`lessons` is the number of clips, of which the share `noises` is noise; `joined` and `perturbed` are shares of the
    speech clips. `padding_s` is the range of padding after a clip, `full` the share of batches at the full 30 s.
    `states_weight` weighs the loss on the encoder's states against that on the token probabilities.
    """

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
