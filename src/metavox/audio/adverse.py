"""Four conditions to test in, which no training uses: other people talking, a hall, a bad phone line, a cheap microphone.

Training has steady noise, decays within 0.12 s and missing bands, made on log-mels. Here the noise is speech or hum,
the decay lasts a second, and the codec is real.
"""

from collections.abc import Callable, Sequence

import numpy as np

from metavox.audio.classical import bandwidth, clipped, coded, coloured, noise, reverberate, room

Others = Sequence[np.ndarray]
Condition = Callable[[np.ndarray, int, np.random.Generator, Others], np.ndarray]


def babble(samples: np.ndarray, rate: int, random: np.random.Generator, others: Others) -> np.ndarray:
    """Four other speakers at once, together 5 dB under the one that is meant."""
    talk = np.zeros(len(samples), np.float32)
    for i in random.choice(len(others), min(4, len(others)), replace=False):
        one = np.roll(
            np.resize(others[i], max(len(samples), len(others[i]))), random.integers(len(others[i]))
        )
        talk += one[: len(samples)] / max(float(np.std(one)), 1e-6)
    return noise(samples, talk, 5.0)


def hall(samples: np.ndarray, rate: int, random: np.random.Generator, others: Others) -> np.ndarray:
    """A hall that rings for a second, the speaker some metres away; the ringing lasts beyond the word."""
    longer = np.pad(samples, (0, rate // 3))
    return reverberate(longer, room(float(random.uniform(0.8, 1.2)), rate, random, direct_db=-1.0))


def phone(samples: np.ndarray, rate: int, random: np.random.Generator, others: Others) -> np.ndarray:
    """A GSM call: 300 to 3400 Hz, 20 dB down, pink noise at 20 dB, every twentieth packet of 20 ms lost."""
    narrow = 0.1 * bandwidth(samples, rate, 300.0, 3400.0)
    heard = coded(noise(narrow, coloured(len(samples), 3.0, rate, random), 20.0), rate, "gsm")
    packet = round(0.02 * rate)
    lost = np.repeat(random.random(len(heard) // packet + 1) < 0.05, packet)[: len(heard)]
    return np.where(lost, 0.0, heard).astype(np.float32)


def cheap(samples: np.ndarray, rate: int, random: np.random.Generator, others: Others) -> np.ndarray:
    """A cheap far microphone: clipped, mains hum with its overtones, brown noise at 8 dB, Vorbis at its strongest."""
    time = np.arange(len(samples)) / rate
    hum = sum(np.sin(2 * np.pi * 50 * k * time + random.uniform(0, 6.28)) / k for k in (1, 2, 3, 5, 7))
    distant = reverberate(samples, room(0.3, rate, random, direct_db=3.0))
    rumble = coloured(len(samples), 6.0, rate, random) + np.asarray(hum, np.float32)
    return coded(clipped(noise(distant, rumble, 8.0), 0.02), rate, "vorbis", 1.0)


ADVERSE: dict[str, Condition] = {"babble": babble, "hall": hall, "phone": phone, "cheap": cheap}
