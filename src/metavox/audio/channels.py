"""What a recording's channels say about each other: whether they cancel out, and whether each holds its own speaker."""

import numpy as np

from metavox.errors import UserError

CANCELLED = 0.01  # of the channels' power; their average has a half or more unless they are opposed
FRAME_S = 0.05
RUN = 4  # frames that a channel must lead one after another; a click leads for fewer
LEAD_DB = 10.0
ACTIVE_DB = -25.0  # against the level that a channel exceeds in 2% of its frames
LEAST_SHARE = 0.01  # of all runs that each channel must lead, and
LEAST_RUNS = 5  # how many at least
UNCORRELATED = 0.3
FAINTEST = 1e-10  # power of a frame: digital silence has a level too
NAMED = {"mix": None, "left": 1, "right": 2}


def channel_named(text: str) -> int | None:
    """The number, from 1, of `left`, `right` or a number; None for `mix`. Raises UserError for anything else."""
    name = text.strip().lower()
    if name in NAMED:
        return NAMED[name]
    if name.isascii() and name.isdigit() and int(name[:9]) > 0:
        return int(name[:9])
    raise UserError(f"{text[:40]!r}; expected mix, left, right, or the number of a channel, counted from 1")


class ChannelStatistics:
    """Collects, block by block, the power of each channel, and the level of two channels every 50 ms.

    Four hours of stereo take 3.5 MB.
    """

    def __init__(self, sample_rate_hz: int):
        self.power = np.zeros(1)  # (channel,), summed over all samples
        self._product = 0.0  # of two channels, summed over all samples
        self._frame = max(1, round(FRAME_S * sample_rate_hz))
        self._levels: list[np.ndarray] = []  # (frames, 2) power
        self._rest = np.zeros((0, 2), np.float32)

    def add(self, block: np.ndarray) -> None:
        """Take in one block (time, channel)."""
        if block.shape[1] == 1:
            return
        self.power = self.power + np.square(block, dtype=np.float64).sum(axis=0)
        if block.shape[1] != 2:
            return
        self._product += float(np.multiply(block[:, 0], block[:, 1], dtype=np.float64).sum())
        waiting = np.concatenate([self._rest, block])
        whole = len(waiting) - len(waiting) % self._frame
        frames = waiting[:whole].reshape(-1, self._frame, 2)
        self._levels.append(np.square(frames).mean(axis=1))
        self._rest = waiting[whole:].copy()

    def cancel_out(self, mixed_power: float) -> bool:
        """Whether the average of the channels, of this summed power, has lost nearly all that was in them."""
        return mixed_power < CANCELLED * float(self.power.mean())

    def correlation_of_speakers(self) -> float | None:
        """The correlation of two channels that each hold a speaker of their own, else None.

        They do when they are uncorrelated and each leads the other for a while, as in turns of a call. Correlation alone
        would not do: a pair of microphones in one room has about none either, but its levels rise and fall together.
        Each channel is measured against its own loudest frames, so neither a quiet line nor steady noise counts.
        """
        if len(self.power) != 2 or not self._levels or not self.power.all():
            return None
        correlation = self._product / float(np.sqrt(self.power.prod()))
        levels_db = 10 * np.log10(np.concatenate(self._levels).astype(np.float64) + FAINTEST)
        if not abs(correlation) < UNCORRELATED or len(levels_db) < RUN:
            return None
        relative_db = levels_db - np.percentile(levels_db, 98, axis=0)
        lead_db = relative_db[:, 0] - relative_db[:, 1]
        for level_db, over_the_other_db in ((relative_db[:, 0], lead_db), (relative_db[:, 1], -lead_db)):
            leads = np.asarray((level_db > ACTIVE_DB) & (over_the_other_db > LEAD_DB))
            runs = np.lib.stride_tricks.sliding_window_view(leads, RUN).min(axis=1)
            if runs.sum() < max(LEAST_RUNS, LEAST_SHARE * len(runs)):
                return None
        return correlation
