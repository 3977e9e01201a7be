"""Four adverse test conditions that no training uses: babble, a hall, a bad phone line, a cheap microphone.

Training has steady noise, decays within 0.12 s and missing bands, all made on log-mels. Here the noise is
speech or hum, the decay lasts a second, and the codec is real.
"""

from collections.abc import Callable, Sequence

import numpy as np

from metavox.audio.classical import bandwidth, clipped, coded, coloured, noise, reverberate, room

Others = Sequence[np.ndarray]
Condition = Callable[[np.ndarray, int, np.random.Generator, Others], np.ndarray]


def babble(samples: np.ndarray, rate: int, random: np.random.Generator, others: Others) -> np.ndarray:
    """Four other speakers at once, together 5 dB below the target speaker."""
    talk = np.zeros(len(samples), np.float32)
    for i in random.choice(len(others), min(4, len(others)), replace=False):
        voice = np.roll(
            np.resize(others[i], max(len(samples), len(others[i]))), random.integers(len(others[i]))
        )
        talk += voice[: len(samples)] / max(float(np.std(voice)), 1e-6)
    return noise(samples, talk, 5.0)


def hall(samples: np.ndarray, rate: int, random: np.random.Generator, others: Others) -> np.ndarray:
    """A hall with a decay of a second and the speaker some metres away; the reverberation outlasts the word."""
    longer = np.pad(samples, (0, rate // 3))
    return reverberate(longer, room(float(random.uniform(0.8, 1.2)), rate, random, direct_db=-1.0))


def phone(samples: np.ndarray, rate: int, random: np.random.Generator, others: Others) -> np.ndarray:
    """A GSM call: 300 to 3400 Hz, attenuated by 20 dB, pink noise at 20 dB, one in twenty 20 ms packets lost."""
    narrow = 0.1 * bandwidth(samples, rate, 300.0, 3400.0)
    received = coded(noise(narrow, coloured(len(samples), 3.0, rate, random), 20.0), rate, "gsm")
    packet = round(0.02 * rate)
    lost = np.repeat(random.random(len(received) // packet + 1) < 0.05, packet)[: len(received)]
    return np.where(lost, 0.0, received).astype(np.float32)


def cheap(samples: np.ndarray, rate: int, random: np.random.Generator, others: Others) -> np.ndarray:
    """A cheap distant microphone: clipping, mains hum with overtones, brown noise at 8 dB, strongest Vorbis
    compression.
    """
    time = np.arange(len(samples)) / rate
    hum = sum(np.sin(2 * np.pi * 50 * k * time + random.uniform(0, 6.28)) / k for k in (1, 2, 3, 5, 7))
    distant = reverberate(samples, room(0.3, rate, random, direct_db=3.0))
    rumble = coloured(len(samples), 6.0, rate, random) + np.asarray(hum, np.float32)
    return coded(clipped(noise(distant, rumble, 8.0), 0.02), rate, "vorbis", 1.0)


ADVERSE: dict[str, Condition] = {"babble": babble, "hall": hall, "phone": phone, "cheap": cheap}
