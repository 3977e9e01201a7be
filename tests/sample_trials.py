"""Trials with scores of a known distribution."""

import numpy as np

from metavox.dataset.episodes import UNKNOWN
from metavox.metrics.trials import Trials


def trials(
    seed: int = 0,
    episodes: int = 40,
    known: int = 20,
    unknown: int = 10,
    way: int = 5,
    lead: float = 1.5,
    chance: float = 0.8,
) -> Trials:
    """Known queries score `lead` above the unknown, in noise of 1, and the guess is right with `chance`.

    The last two unknown queries of each episode are background. Query n is of recording n modulo 47.
    """
    random = np.random.default_rng(seed)
    total = episodes * (known + unknown)
    is_known = np.tile(np.arange(known + unknown) < known, episodes)
    truth = np.where(is_known, random.integers(way, size=total), UNKNOWN)
    guess = np.where(random.random(total) < chance, truth, (truth + 1) % way)
    guess = np.where(is_known, guess, random.integers(way, size=total))
    score = random.normal(size=total) + lead * is_known
    words = np.array([[f"word {i}" for i in range(way)]] * episodes, dtype=object)
    background = np.tile(np.arange(known + unknown) >= known + unknown - min(2, unknown), episodes)
    return Trials(
        words,
        np.arange(episodes).repeat(known + unknown),
        np.arange(total) % 47,
        truth,
        guess,
        score,
        1 / (1 + np.exp(-score)),
        background,
    )
