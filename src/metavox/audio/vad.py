"""Voice activity: the probability of speech every 32 ms, by Silero's network (github.com/snakers4/silero-vad)."""

from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import soxr

from metavox.errors import UserError

RATE_HZ, FRAME, CONTEXT = (
    16000,
    512,
    64,
)  # of the network: samples of a frame, and of the one before that it sees
FRAME_S = FRAME / RATE_HZ
NETWORK = "data/silero_vad_16k_sequence.onnx"
BATCH = 2048  # frames that are computed at once, about a minute


class VoiceActivity:
    """Probabilities of speech in a stream at `rate` Hz, of any length, in chunks of any size."""

    def __init__(self, rate: int = RATE_HZ):
        self._network = _network()
        self._resampler = None if rate == RATE_HZ else soxr.ResampleStream(rate, RATE_HZ, 1, "float32", "MQ")
        self._state = [np.zeros((1, 1, 128), np.float32) for _ in range(2)]
        self._pending = np.zeros(CONTEXT, np.float32)  # with the context of the next frame before it

    def push(self, samples: np.ndarray) -> np.ndarray:
        """The next samples (time,) -> the probabilities (frames,) of the frames that they complete."""
        return self._push(samples, last=False)

    def end(self) -> np.ndarray:
        """The probability of the last frame, filled up with silence."""
        rest = self._push(np.zeros(0, np.float32), last=True)
        missing = -(len(self._pending) - CONTEXT) % FRAME
        return np.concatenate([rest, self._frames(np.zeros(missing, np.float32))])

    def _push(self, samples: np.ndarray, last: bool) -> np.ndarray:
        samples = np.ascontiguousarray(samples, np.float32)
        return self._frames(self._resampler.resample_chunk(samples, last) if self._resampler else samples)

    def _frames(self, samples: np.ndarray) -> np.ndarray:
        self._pending = np.concatenate([self._pending, samples])
        count = (len(self._pending) - CONTEXT) // FRAME
        if count <= 0:
            return np.zeros(0, np.float32)
        windows = np.lib.stride_tricks.sliding_window_view(self._pending, CONTEXT + FRAME)[::FRAME][:count]
        out = []
        for first in range(0, count, BATCH):
            inputs = {"input": windows[first : first + BATCH], "h": self._state[0], "c": self._state[1]}
            probabilities, *self._state = self._network.run(None, inputs)
            out.append(probabilities.reshape(-1))
        self._pending = self._pending[count * FRAME :].copy()
        return np.concatenate(out)


def speech_probabilities(samples: np.ndarray, rate: int) -> np.ndarray:
    """Samples (time,) at `rate` Hz -> the probability of speech (frames,) every `FRAME_S`."""
    activity = VoiceActivity(rate)
    return np.concatenate([activity.push(samples), activity.end()])


@lru_cache(maxsize=1)
def _network() -> Any:
    import onnxruntime

    spec = find_spec("silero_vad")  # the package itself imports far more than its network needs
    if spec is None or not spec.submodule_search_locations:
        raise UserError("silero-vad is not installed; run make setup, or pip install silero-vad==6.2.3")
    options = onnxruntime.SessionOptions()
    options.inter_op_num_threads = options.intra_op_num_threads = 1
    file = Path(next(iter(spec.submodule_search_locations))) / NETWORK
    return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
