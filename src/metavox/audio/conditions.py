"""Conditions in which adaptation is learned and judged; training, development and test have none in common.

The test conditions are those of `audio.adverse` and a codec that nothing else uses. Training has its own kinds of call,
room, talk, noise and band, with codecs and ranges of values that the others do not reach.
"""

from typing import Literal, get_args

import numpy as np

from metavox.audio import classical
from metavox.audio.adverse import ADVERSE, Condition, Others

Split = Literal["train", "dev", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
CLEAN = "clean"


def clean(samples: np.ndarray, rate: int, random: np.random.Generator, others: Others) -> np.ndarray:
    return samples


def call(samples: np.ndarray, rate: int, random: np.random.Generator, others: Others) -> np.ndarray:
    """A G.711 call over a line with noise, on which up to 4% of the packets of 10 to 30 ms are lost."""
    narrow = classical.bandwidth(samples, rate, float(random.uniform(250, 400)), 3400.0)
    line = classical.noise(narrow, _noise(len(narrow), rate, random), float(random.uniform(10, 30)))
    codec: classical.Codec = "ulaw" if random.random() < 0.5 else "alaw"
    received = classical.coded(line, rate, codec)
    return _with_losses(received, round(rate * random.uniform(0.01, 0.03)), random.uniform(0.0, 0.04), random)


def room(samples: np.ndarray, rate: int, random: np.random.Generator, others: Others) -> np.ndarray:
    """A room with a decay of up to 0.6 s; a hall, whose decay is longer, is a test condition."""
    response = classical.room(float(random.uniform(0.2, 0.6)), rate, random, float(random.uniform(-3, 4)))
    return classical.reverberate(np.pad(samples, (0, rate // 5)), response)


def chatter(samples: np.ndarray, rate: int, random: np.random.Generator, others: Others) -> np.ndarray:
    """One other speaker at 3 to 15 dB below the target speaker; babble, a crowd at 5 dB, is a test condition."""
    other = others[int(random.integers(len(others)))]
    talk = np.resize(np.roll(other, random.integers(len(other))), len(samples))
    return classical.noise(samples, talk, float(random.uniform(3, 15)))


def steady(samples: np.ndarray, rate: int, random: np.random.Generator, others: Others) -> np.ndarray:
    """White, pink or brown noise at 0 to 15 dB."""
    return classical.noise(samples, _noise(len(samples), rate, random), float(random.uniform(0, 15)))


def narrow(samples: np.ndarray, rate: int, random: np.random.Generator, others: Others) -> np.ndarray:
    """A small loudspeaker: a band from 200 to 600 Hz up to 1.5 to 2.5 kHz."""
    low, high = float(random.uniform(200, 600)), float(random.uniform(1500, 2500))
    return classical.bandwidth(samples, rate, low, high)


def download(samples: np.ndarray, rate: int, random: np.random.Generator, others: Others) -> np.ndarray:
    """Strong MP3 compression of speech in light noise."""
    noisy = classical.noise(samples, _noise(len(samples), rate, random), float(random.uniform(10, 25)))
    return classical.coded(noisy, rate, "mp3", 0.95)


def internet(samples: np.ndarray, rate: int, random: np.random.Generator, others: Others) -> np.ndarray:
    """An Opus call at its lowest bit rate, with white noise at 20 dB; one in twenty 40 ms packets is lost."""
    noisy = classical.noise(samples, classical.coloured(len(samples), 0.0, rate, random), 20.0)
    return _with_losses(classical.coded(noisy, rate, "opus", 1.0), round(0.04 * rate), 0.05, random)


def echoes(samples: np.ndarray, rate: int, random: np.random.Generator, others: Others) -> np.ndarray:
    """A public address system: three loud echoes, 80 to 250 ms apart, of speech in ADPCM."""
    response = np.zeros(rate, np.float32)
    delays = np.cumsum(random.uniform(0.08, 0.25, size=3))
    response[0], response[np.round(delays * rate).astype(int)] = 1.0, (0.8, 0.6, 0.4)
    return classical.reverberate(classical.coded(np.pad(samples, (0, rate // 3)), rate, "adpcm"), response)


def cordless(samples: np.ndarray, rate: int, random: np.random.Generator, others: Others) -> np.ndarray:
    """A cordless telephone: G.721, in bursts of interference as loud as the speech that last a tenth of the time."""
    burst = round(0.05 * rate)
    on = np.repeat(random.random(len(samples) // burst + 1) < 0.1, burst)[: len(samples)]
    noisy = classical.noise(samples, classical.coloured(len(samples), 0.0, rate, random), 0.0)
    return classical.coded(np.where(on, noisy, samples).astype(np.float32), rate, "g721")


CONDITIONS: dict[Split, dict[str, Condition]] = {
    "train": {
        "call": call,
        "room": room,
        "chatter": chatter,
        "steady": steady,
        "narrow": narrow,
        "download": download,
    },
    "dev": {"internet": internet, "echoes": echoes},
    "test": {**ADVERSE, "cordless": cordless},
}


def _noise(length: int, rate: int, random: np.random.Generator) -> np.ndarray:
    return classical.coloured(length, float(random.uniform(0, 6)), rate, random)


def _with_losses(samples: np.ndarray, packet: int, share: float, random: np.random.Generator) -> np.ndarray:
    lost = np.repeat(random.random(len(samples) // packet + 1) < share, packet)[: len(samples)]
    return np.where(lost, 0.0, samples).astype(np.float32)
