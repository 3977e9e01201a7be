"""Mixes blocks of any number of channels to one channel and resamples them, in little more memory than the
result takes.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import soxr

from metavox.audio.channels import ChannelStatistics
from metavox.errors import UserError

MAX_DURATION_S = 4 * 3600.0
# A header that claims a rate outside this range is wrong, and resampling from it would take minutes.
RATES_HZ = (1000, 1_000_000)
QUALITY = "MQ"  # of soxr
# Relative to full scale 1. Louder samples are in another unit or corrupt, and their power may overflow.
MAX_AMPLITUDE = 1e6


@dataclass(frozen=True)
class Recording:
    """Samples (time,) float32 mono, and what is known of the channels that they were mixed from."""

    samples: np.ndarray
    sample_rate_hz: int
    # Of two channels that were mixed although each holds its own speaker.
    speakers_correlation: float | None = None

    @property
    def warning(self) -> str:
        """A warning about the channels, without the file's name; empty if there is nothing to warn of."""
        if self.speakers_correlation is None:
            return ""
        return (
            f"its two channels differ (correlation {self.speakers_correlation:.2f}), as in a call with one speaker "
            "a channel; they were mixed"
        )


class TooLong(UserError):
    """The recording is longer than the caller accepts."""


@dataclass(frozen=True)
class Request:
    """How a caller wants the recording called `name` decoded."""

    name: str
    sample_rate_hz: int | None = None  # None keeps the file's own rate
    channel: int | None = None  # counted from 1; None mixes all channels
    longest_s: float = MAX_DURATION_S


def to_mono(
    blocks: Callable[[], Iterable[np.ndarray]], rewind: Callable[[], object], rate: int, request: Request
) -> Recording:
    """Turn blocks (time, channel) at `rate` into one channel at the requested rate.

    If the mixed channels cancel out, the loudest channel is used: after `rewind`, `blocks` must give the same
    blocks again.

    Raises UserError for an implausible rate, a missing channel, and samples that are not finite or far beyond
    full scale; TooLong above the requested limit.
    """
    _check_rate(rate, request.name)
    statistics = ChannelStatistics(rate)
    # Grows in place: concatenating a list of arrays at the end would hold everything twice.
    samples = bytearray()
    mono = _Mono(rate, request, lambda block: samples.extend(block.data))
    for block in blocks():
        if request.channel is None:
            statistics.add(block)
        mono.add(block, request.channel)
    correlation = statistics.correlation_of_speakers()
    if statistics.cancel_out(mono.power):
        loudest = int(statistics.power.argmax()) + 1
        rewind()
        samples.clear()
        mono = _Mono(rate, request, lambda block: samples.extend(block.data))
        for block in blocks():
            mono.add(block, loudest)
    mono.finish()
    # Less than one sample at the requested rate leaves an empty buffer, which `frombuffer` refuses.
    whole = np.frombuffer(samples, np.float32) if samples else np.zeros(0, np.float32)
    return Recording(whole, request.sample_rate_hz or rate, correlation)


def stream_mono(
    blocks: Callable[[], Iterable[np.ndarray]],
    rewind: Callable[[], object],
    rate: int,
    request: Request,
    consume: Callable[[np.ndarray], object],
) -> float | None:
    """As `to_mono`, but `consume` is given one block (time,) after the other, and none is kept.

    Channels that are to be mixed are read twice, first for their statistics. Returns the correlation of the channels'
    speakers, as `Recording` has it.
    """
    _check_rate(rate, request.name)
    channel, correlation = request.channel, None
    if channel is None:
        statistics, mixed_power = ChannelStatistics(rate), 0.0
        for block in blocks():
            if block.shape[1] == 1:
                break
            statistics.add(block)
            mixed_power += float(np.square(block.mean(axis=1), dtype=np.float64).sum())
        correlation = statistics.correlation_of_speakers()
        if len(statistics.power) > 1 and statistics.cancel_out(mixed_power):
            channel = int(statistics.power.argmax()) + 1
        rewind()
    mono = _Mono(rate, request, consume)
    for block in blocks():
        mono.add(block, channel)
    mono.finish()
    return correlation


def _check_rate(rate: int, name: str) -> None:
    if not RATES_HZ[0] <= rate <= RATES_HZ[1]:
        raise UserError(
            f"{name}: sample rate {rate} Hz, expected {RATES_HZ[0]} to {RATES_HZ[1]} Hz; record it again"
        )


class _Mono:
    """Turns blocks of any number of channels into one channel, resampled on the way, which `consume` is given.

    Raises UserError for samples that no recording can hold.
    """

    def __init__(self, rate: int, request: Request, consume: Callable[[np.ndarray], object]):
        self.power = 0.0  # summed over all samples, before resampling
        self._request, self._rate, self._consume, self._length = request, rate, consume, 0
        target = request.sample_rate_hz or rate
        self._resampler = None if target == rate else soxr.ResampleStream(rate, target, 1, "float32", QUALITY)

    def add(self, block: np.ndarray, channel: int | None) -> None:
        """Append a block (time, channel): one of its channels, counted from 1, or the mean of all."""
        name, longest_s, channels = self._request.name, self._request.longest_s, block.shape[1]
        self._length += len(block)
        if self._length > longest_s * self._rate:
            raise TooLong(f"{name}: over {_format_duration(longest_s)} long; cut it into shorter files")
        if channel is not None and not 1 <= channel <= channels:
            available = "1 channel" if channels == 1 else f"{channels} channels"
            raise UserError(f"{name}: no channel {channel}: it has {available}; choose another, or mix them")
        mix = channel is None and channels > 1
        selected = block.mean(axis=1) if mix else block[:, (channel or 1) - 1]
        samples = np.ascontiguousarray(selected, np.float32)
        _check(samples, name)
        self.power += float(np.square(samples, dtype=np.float64).sum())
        self._keep(samples, last=False)

    def finish(self) -> None:
        """Give the last samples. Raises UserError if there were none."""
        if not self._length:
            raise UserError(f"{self._request.name}: holds no samples; expected a recording")
        self._keep(np.zeros(0, np.float32), last=True)

    def _keep(self, samples: np.ndarray, last: bool) -> None:
        resampled = self._resampler.resample_chunk(samples, last) if self._resampler else samples
        self._consume(resampled)


def _check(samples: np.ndarray, name: str) -> None:
    """Raises UserError for samples that are not finite or far beyond full scale."""
    loudest = float(np.abs(samples).max(initial=0.0))
    if not np.isfinite(loudest):
        raise UserError(f"{name}: contains samples that are not numbers; record or convert it again")
    if loudest > MAX_AMPLITUDE / 2:  # resampling may overshoot
        raise UserError(f"{name}: samples up to {loudest:g}; expected about full scale 1; convert it again")


def _format_duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:g} s"
    return f"{seconds / 3600:g} h" if seconds >= 3600 else f"{seconds / 60:g} min"
