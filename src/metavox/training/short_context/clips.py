"""Training clips for a short context: speech of many speakers and lengths, partly perturbed, and noise."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from metavox.audio import classical
from metavox.audio.read import read_audio
from metavox.recognisers.whisper import SAMPLE_RATE_HZ
from metavox.training.short_context.config import ShortContextConfig

LONGEST_S = 28.0
GAP_S = (0.1, 0.7)  # silence between concatenated clips


def clips(table: pd.DataFrame, folder: Path, config: ShortContextConfig) -> Iterator[tuple[np.ndarray, bool]]:
    """Yield `config.lessons` clips (time,) at 16 kHz, each with whether it is speech.

    Speech clips are utterances from the rows of a manifest, alone or concatenated with others of the same speaker, some
    of them perturbed; the rest is noise. Speakers are drawn in proportion to the square root of their number of clips,
    so that a speaker with many clips does not dominate.
    """
    table = table[table["duration_s"] <= LONGEST_S].reset_index(drop=True)
    rows = {speaker: group.index.to_numpy() for speaker, group in table.groupby("speaker")}
    weights = np.sqrt([len(group) for group in rows.values()])
    speakers = np.array(list(rows))
    for index in range(config.lessons):
        random = np.random.default_rng((config.seed, index))
        if random.random() < config.noises:
            yield noise_clip(random), False
            continue
        group = rows[random.choice(speakers, p=weights / weights.sum())]
        first = int(random.integers(len(group)))
        max_duration_s = (
            float(np.exp(random.uniform(np.log(3), np.log(LONGEST_S))))
            if random.random() < config.joined
            else 0.0
        )
        samples = _joined(table, group[first:], max_duration_s, folder, random)
        if random.random() < config.perturbed:
            samples = _perturbed(samples, random)
        yield samples[: round(LONGEST_S * SAMPLE_RATE_HZ)], True


def _joined(
    table: pd.DataFrame, rows: np.ndarray, max_duration_s: float, folder: Path, random: np.random.Generator
) -> np.ndarray:
    """The clip of the first row, concatenated with those that follow it as long as the total stays within
    `max_duration_s`."""
    segments: list[np.ndarray] = []
    length_s = 0.0
    for row in rows:
        length_s += float(table["duration_s"][row])
        if segments and length_s > max_duration_s:
            break
        if segments:
            gap_s = random.uniform(*GAP_S)
            segments.append(np.zeros(round(gap_s * SAMPLE_RATE_HZ), np.float32))
            length_s += gap_s
        segments.append(read_audio(folder / str(table["path"][row]), SAMPLE_RATE_HZ))
    return np.concatenate(segments)


def _perturbed(samples: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Apply steady noise at an SNR of 5 to 25 dB, a telephone bandwidth, or a change of speed by up to 10%."""
    rate = SAMPLE_RATE_HZ
    match random.integers(3):
        case 0:
            noise = classical.coloured(len(samples), random.uniform(0, 6), rate, random)
            return classical.noise(samples, noise, random.uniform(5, 25))
        case 1:
            return classical.bandwidth(samples, rate, random.uniform(50, 300), random.uniform(3000, 4000))
        case _:
            return classical.speed(samples, rate, random.uniform(0.9, 1.1))


def noise_clip(random: np.random.Generator) -> np.ndarray:
    """1 to 12 s (time,) at 16 kHz without speech: silence, steady or passing noise, hum, clicks or tones."""
    length = round(float(random.uniform(1, 12)) * SAMPLE_RATE_HZ)
    time = np.arange(length) / SAMPLE_RATE_HZ
    level = 10 ** random.uniform(-3.5, -0.7)
    base = classical.coloured(length, random.uniform(0, 6), SAMPLE_RATE_HZ, random)
    match random.integers(6):
        case 0:
            shape = base * 1e-3
        case 1:
            shape = base
        case 2:  # a passing source
            shape = base * (
                0.05 + np.exp(-((time - random.uniform(0, time[-1])) ** 2) / random.uniform(0.05, 2))
            )
        case 3:
            hum = sum(np.sin(2 * np.pi * random.choice([50, 60]) * k * time) / k for k in range(1, 8))
            shape = hum + 0.05 * base
        case 4:
            clicks = (random.random(length) < 3 / SAMPLE_RATE_HZ) * random.normal(size=length) * 20
            shape = (
                np.convolve(clicks, np.exp(-np.arange(400) / random.uniform(10, 100)), "same") + 0.05 * base
            )
        case _:
            tone = np.sin(2 * np.pi * random.uniform(200, 3000) * time)
            shape = tone * (np.sin(2 * np.pi * random.uniform(0.2, 3) * time) > 0) + 0.05 * base
    return np.asarray(shape / max(float(np.abs(shape).max()), 1e-9) * level, np.float32)
