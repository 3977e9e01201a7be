"""Splits recordings into windows and encodes each in the context that it needs."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from metavox.recognisers.recogniser import Audio, Encoded
from metavox.recognisers.whisper.features import SAMPLE_RATE_HZ, STATE, log_mels
from metavox.recognisers.whisper.network import Whisper, half_precision

# Seconds that a clip may be padded to. There are few lengths, so that clips share batches in any company.
CONTEXTS_S = (2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 12.0, 15.0, 18.0, 22.0, 26.0)
PADDING_S = 1.0  # after the clip, at least
SPARE_S = 2.0  # of a long recording's windows: a completely full one loses its last words
BATCH_S, MAX_CLIPS = 120.0, 16  # seconds of context, and clips, per batch
# A recording may be cut in a pause of this many 10 ms frames, up to this many times as loud as the quietest.
PAUSE_FRAMES, QUIET_RATIO = 20, 2.0
SILENT_PEAK = 1e-4  # nothing audible was recorded


@dataclass(frozen=True)
class Window:
    """Samples (time,) of up to 30 s that start at `start_s` of recording `recording`.

    `states` (time, dim) are the encoder's, if the window has been encoded.
    """

    samples: np.ndarray
    start_s: float
    recording: int
    states: torch.Tensor | None = None

    @property
    def duration_s(self) -> float:
        return len(self.samples) / SAMPLE_RATE_HZ

    @property
    def silent(self) -> bool:
        return not len(self.samples) or float(np.abs(self.samples).max()) < SILENT_PEAK


@dataclass(frozen=True)
class EncodedRecording(Encoded):
    """A recording in windows."""

    windows: tuple[Window, ...]

    @property
    def samples(self) -> np.ndarray:
        return np.concatenate([window.samples for window in self.windows])


@dataclass(frozen=True)
class ClipEncoder:
    """The encoder of a network; `short` says whether the network was trained for short contexts."""

    network: Whisper
    short: bool

    @property
    def device(self) -> torch.device:
        return self.network.decoder.embed_tokens.weight.device

    @property
    def window_s(self) -> float:
        """The longest context, 30 s."""
        return self.network.dimensions.max_source_positions * STATE / SAMPLE_RATE_HZ

    def context_s(self, window: Window, context: str = "auto") -> float:
        """Seconds that a window is padded to: the full context, or what the window needs and a little more."""
        needed = window.duration_s + PADDING_S
        if context == "full" or not self.short:
            return self.window_s
        return next((s for s in CONTEXTS_S if needed <= s <= self.window_s), self.window_s)

    def windows(self, audio: Sequence[Audio]) -> list[Window]:
        """The windows of all recordings; encoded recordings keep theirs."""
        out: list[Window] = []
        for index, one in enumerate(audio):
            if isinstance(one, EncodedRecording):
                out += [replace(window, recording=index) for window in one.windows]
                continue
            samples, ends = samples_of(one), cuts(samples_of(one), self.window_s)
            out += [
                Window(samples[a:b], a / SAMPLE_RATE_HZ, index)
                for a, b in zip([0, *ends[:-1]], ends, strict=True)
            ]
        return out

    def mels(self, clips: Sequence[np.ndarray], context_s: float) -> torch.Tensor:
        """Log-mels (clips, bands, frames) of clips (time,), padded to a context."""
        context = round(context_s * SAMPLE_RATE_HZ)
        return log_mels(clips, context, self.network.dimensions.num_mel_bins).to(self.device)

    @torch.inference_mode()
    def states(self, windows: Sequence[Window], contexts_s: Sequence[float]) -> list[torch.Tensor]:
        """The encoder's states (time, dim) of each window in its context."""
        out: list[torch.Tensor] = [torch.empty(0)] * len(windows)
        for rows in batches(contexts_s, [len(window.samples) for window in windows]):
            mels = self.mels([windows[i].samples for i in rows], contexts_s[rows[0]])
            with half_precision(self.device):
                states = self.network.encoder(mels)
            for i, row in zip(rows, states.float(), strict=True):
                out[i] = row
        return out

    @torch.inference_mode()
    def early_states(self, windows: Sequence[Window], layers: int) -> list[torch.Tensor]:
        """The states (time, dim) of each window after the encoder's first layers, without its padding."""
        out: list[torch.Tensor] = [torch.empty(0)] * len(windows)
        contexts_s = [self.context_s(window) for window in windows]
        for rows in batches(contexts_s, [len(window.samples) for window in windows]):
            mels = self.mels([windows[i].samples for i in rows], contexts_s[rows[0]])
            for i, row in zip(rows, self.network.encoder.hidden(mels, layers), strict=True):
                out[i] = row[: max(1, math.ceil(len(windows[i].samples) / STATE))].float().cpu()
        return out

    def shared_states(self, windows: Sequence[Window], context_s: float) -> torch.Tensor:
        """States (batch, time, dim) of windows in one common context; those encoded in it already are reused."""
        length = round(context_s * SAMPLE_RATE_HZ) // STATE
        known = [
            window.states for window in windows if window.states is not None and len(window.states) == length
        ]
        if len(known) == len(windows):
            return torch.stack(known)
        return torch.stack(self.states(windows, [context_s] * len(windows)))


def cuts(samples: np.ndarray, window_s: float) -> list[int]:
    """The samples at which the windows of a recording (time,) end.

    Each window ends as late as possible at one of the quietest points of its second half, so that words stay
    intact and windows are few.
    """
    size, hop, ends = int((window_s - SPARE_S) * SAMPLE_RATE_HZ), SAMPLE_RATE_HZ // 100, list[int]()
    start = 0
    while len(samples) - start > window_s * SAMPLE_RATE_HZ:
        second_half = np.abs(samples[start + size // 2 : start + size])
        frames = second_half[: len(second_half) // hop * hop].reshape(-1, hop).mean(axis=1)
        level = np.convolve(frames, np.full(PAUSE_FRAMES, 1 / PAUSE_FRAMES), mode="valid")
        quiet = np.flatnonzero(level <= max(QUIET_RATIO * float(level.min()), SILENT_PEAK))
        start += size // 2 + (int(quiet[-1]) + PAUSE_FRAMES // 2) * hop
        ends.append(start)
    return [*ends, len(samples)]


def batches(contexts_s: Sequence[float], lengths: Sequence[float]) -> Iterator[list[int]]:
    """Indices sorted by length, in batches with one context."""
    batch: list[int] = []
    for i in sorted(range(len(contexts_s)), key=lambda i: (contexts_s[i], lengths[i])):
        max_clips = min(MAX_CLIPS, max(1, int(BATCH_S / contexts_s[i])))
        if batch and (contexts_s[batch[0]] != contexts_s[i] or len(batch) >= max_clips):
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


def samples_of(audio: Audio) -> np.ndarray:
    if isinstance(audio, EncodedRecording):
        return audio.samples
    if isinstance(audio, Encoded):
        raise TypeError(f"{type(audio).__name__} belongs to another kind of recogniser; expected samples")
    return np.asarray(audio, dtype=np.float32)
