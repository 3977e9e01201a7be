"""Streams batches of speech from a corpus in shards, without copying it to disk.

The batch of a step depends on the manifest, the seed and the step alone. The shards of an epoch are shuffled and shared
between the ranks. `window` shards at a time are kept in memory, still encoded, and their recordings are shuffled into
batches of similar length. A run can therefore resume at any step after reading at most `window` shards, and memory
holds two windows: the current one, and the next, which is read in the background.
"""

import hashlib
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from torch.utils.data import IterableDataset, get_worker_info

from metavox.audio.features import extract, make_transform
from metavox.audio.read import decode, resample
from metavox.config import FeatureConfig
from metavox.dataset.batches import Endless, length_batches
from metavox.dataset.remote import Remote
from metavox.errors import UserError

COLUMNS = ["path", "split", "unit", "duration_s"]
LONGEST_S = 12.0
MAX_REPORTED = 20  # skipped names that are printed; all are counted
Batch = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class Shards:
    """The training rows of a corpus: for each shard its name, its members and their durations in seconds."""

    remote: Remote
    names: tuple[str, ...]
    members: tuple[bytes, ...]  # joined by NUL bytes, because sixty million strings would not fit in memory
    seconds: tuple[np.ndarray, ...]
    left_out: int = 0  # training rows without a duration, or too long

    @property
    def hours(self) -> float:
        return float(sum(seconds.sum() for seconds in self.seconds)) / 3600

    @property
    def digest(self) -> str:
        """A SHA-256 of everything besides the seed that determines a step."""
        sha256 = hashlib.sha256()
        for name, members, seconds in zip(self.names, self.members, self.seconds, strict=True):
            sha256.update(name.encode() + b"\0" + members + b"\0" + seconds.tobytes())
        return sha256.hexdigest()


def read_shards(remote: Remote, longest_s: float = LONGEST_S) -> Shards:
    """The training rows of the manifest that last at most `longest_s`, without isolated digits.

    Raises UserError when there is no manifest, a row is in no shard, or no row is left.
    """
    members: dict[str, list[bytes]] = {}
    seconds: dict[str, list[np.ndarray]] = {}
    rows = left_out = 0
    for chunk in remote.manifest(COLUMNS):
        rows += len(chunk)
        duration_s = pd.to_numeric(chunk["duration_s"], errors="coerce").to_numpy(np.float32)
        training = (chunk["split"] == "train") & (chunk["unit"] != "digit")
        usable = training & (duration_s > 0) & (duration_s <= longest_s)
        left_out += int((training & ~usable).sum())
        if not usable.any():
            continue
        paths = chunk["path"][usable]
        parts = paths.str.partition(".tar/")
        _check_paths(remote.url, paths, parts)
        for shard, of_shard in parts.assign(seconds=duration_s[usable]).groupby(0, sort=False):
            members.setdefault(f"{shard}.tar", []).append("\0".join(of_shard[2]).encode())
            seconds.setdefault(f"{shard}.tar", []).append(of_shard["seconds"].to_numpy())
    if not members:
        raise UserError(
            f"{remote.url}: none of {rows} rows can be trained on; expected split = train and a duration_s of at most "
            f"{longest_s:g} s"
        )
    order = sorted(members)
    return Shards(
        remote,
        tuple(order),
        tuple(b"\0".join(members[name]) for name in order),
        tuple(np.concatenate(seconds[name]) for name in order),
        left_out,
    )


def _check_paths(url: str, paths: pd.Series, parts: pd.DataFrame) -> None:
    outside = (
        (parts[1] == "") | parts[0].str.startswith("/") | parts[0].str.split("/").map(lambda p: ".." in p)
    )
    if outside.any():
        raise UserError(
            f"{url}: row {paths[outside].iloc[0]!r} is in no shard of that folder; expected shards/NAME.tar/MEMBER"
        )


@dataclass(frozen=True)
class Position:
    """The position of a step in the series: a batch in a window of shards in an epoch."""

    epoch: int
    window: int
    batch: int
    shards: tuple[str, ...]


class Skipped:
    """The recordings and shards that could not be read, with the reasons and the number of recordings."""

    def __init__(self) -> None:
        self.reasons: dict[str, str] = {}
        self._counts: dict[str, int] = {}

    @property
    def recordings(self) -> int:
        return sum(self._counts.values())

    def add(self, name: str, reason: str, recordings: int = 1) -> None:
        if name in self.reasons:  # reported in an earlier epoch
            return
        self.reasons[name], self._counts[name] = reason, recordings
        if len(self.reasons) <= MAX_REPORTED:
            print(f"skipped {name}: {reason} ({recordings} recordings)", flush=True)

    def as_dict(self) -> dict[str, object]:
        first = list(self.reasons.items())[:MAX_REPORTED]
        return {"recordings": self.recordings, "names": len(self.reasons), "first": dict(first)}


class Stream:
    """The batch of a step: log-mels (batch, time, mel), padded to about `budget` frames, and lengths (batch,).

    A recording that cannot be read is left out of its batch and noted in `skipped`; a failing shard is retried first. A
    batch that loses all its recordings is replaced by the next one that has some. Raises UserError when nothing in a
    window can be read, or when there are fewer shards than ranks.
    """

    def __init__(
        self,
        shards: Shards,
        features: FeatureConfig,
        budget: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
        window: int = 4,
        threads: int = 2,
        read_ahead: bool = True,
    ) -> None:
        if len(shards.names) < world:
            raise UserError(
                f"{shards.remote.url}: {len(shards.names)} shards cannot be shared by {world} readers; "
                "write smaller shards or use fewer ranks and workers"
            )
        self._shards, self._features, self._budget, self._seed = shards, features, budget, seed
        self._rank, self._world, self._window, self._read_ahead = rank, world, window, read_ahead
        self._transform = make_transform(features)
        self._series = Endless(self._batches)
        self._windows: dict[int, Future[list[memoryview | None]]] = {}
        self._reader = ThreadPoolExecutor(1, "shards")
        self._decoders = ThreadPoolExecutor(threads, "decode")
        self.skipped = Skipped()

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.shutdown(cancel_futures=True)
        self._decoders.shutdown(cancel_futures=True)

    def __call__(self, step: int) -> Batch:
        window, position = self._series.locate(step)
        batches, data = self._series.items(window), self._data(window)
        names, seconds = self._names(window), self._seconds(window)
        for offset in range(len(batches)):  # skip batches without a readable recording
            rows = batches[(position + offset) % len(batches)]
            jobs = ((names[row], data[row], float(seconds[row])) for row in rows)
            mels = [item for item in self._decoders.map(self._mels, jobs) if item is not None]
            if mels:
                lengths = torch.tensor([len(item) for item in mels])
                return torch.nn.utils.rnn.pad_sequence(mels, batch_first=True), lengths
        raise UserError(
            f"{self._shards.remote.url}: nothing in {', '.join(self.at(step).shards)} could be read, "
            f"{next(reversed(self.skipped.reasons.values()), '')}; check the network and the shards, then run again to "
            "continue from the checkpoint"
        )

    def at(self, step: int) -> Position:
        window, batch = self._series.locate(step)
        epoch, within = divmod(window, self._windows_per_epoch)
        names = tuple(self._shards.names[i] for i in self._in_window(window))
        return Position(epoch, within, batch, names)

    @property
    def _windows_per_epoch(self) -> int:
        return -(-len(range(self._rank, len(self._shards.names), self._world)) // self._window)

    def _in_window(self, window: int) -> np.ndarray:
        """Indices of the shards in a window, which is counted over all epochs."""
        epoch, within = divmod(window, self._windows_per_epoch)
        order = np.random.default_rng([self._seed, epoch]).permutation(len(self._shards.names))
        return order[self._rank :: self._world][within * self._window : (within + 1) * self._window]

    def _batches(self, window: int) -> list[np.ndarray]:
        frames = (self._seconds(window) / self._features.hop_s).astype(int) + 1
        return length_batches(frames, self._budget, [self._seed, self._rank, window])

    def _seconds(self, window: int) -> np.ndarray:
        return np.concatenate([self._shards.seconds[i] for i in self._in_window(window)])

    def _names(self, window: int) -> list[str]:
        return [
            f"{self._shards.names[i]}/{member}"
            for i in self._in_window(window)
            for member in self._shards.members[i].decode().split("\0")
        ]

    def _data(self, window: int) -> list[memoryview | None]:
        needed = (window, window + 1) if self._read_ahead else (window,)
        self._windows = {index: future for index, future in self._windows.items() if index in needed}
        for index in needed:
            if index not in self._windows:
                self._windows[index] = self._reader.submit(self._read, index)
        return self._windows[window].result()

    def _read(self, window: int) -> list[memoryview | None]:
        """The encoded recordings of a window; None for those that are missing. Reads each shard once."""
        recordings: list[memoryview | None] = []
        for i in self._in_window(window):
            name = self._shards.names[i]
            data, offsets, problem = self._shards.remote.shard(name)
            members = self._shards.members[i].decode().split("\0")
            missing = [member for member in members if member not in offsets]
            if missing and problem:
                self.skipped.add(name, problem, len(missing))
            for member in missing if not problem else ():
                self.skipped.add(f"{name}/{member}", "not in the shard")
            for member in members:
                first, size = offsets.get(member, (0, 0))
                recordings.append(memoryview(data)[first : first + size] if member in offsets else None)
        return recordings

    def _mels(self, job: tuple[str, memoryview | None, float]) -> torch.Tensor | None:
        name, data, seconds = job
        if data is None:
            return None
        try:
            samples, rate = decode(bytes(data), name)
        except UserError as error:
            self.skipped.add(name, str(error).removeprefix(f"{name}: "))
            return None
        if len(samples) > (1.05 * seconds + 0.1) * rate:  # it would add padding to the whole batch
            self.skipped.add(name, f"{len(samples) / rate:.1f} s long, {seconds:.1f} s in the manifest")
            return None
        return extract(resample(samples, rate, self._features.sample_rate_hz), self._transform)


class StreamDataset(IterableDataset[Batch]):
    """The steps of a rank from `first` on, for a `DataLoader(dataset, batch_size=None, num_workers=n)`.

    The workers share the rank's shards. For the same number of workers, batch i of the loader does not depend on where
    the loader started.
    """

    def __init__(
        self,
        shards: Shards,
        features: FeatureConfig,
        budget: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
        window: int = 4,
        first: int = 0,
    ) -> None:
        self._shards, self._options = shards, (features, budget, seed)
        self._rank, self._world, self._window, self._first = rank, world, window, first

    def __iter__(self) -> Iterator[Batch]:
        info = get_worker_info()
        workers, worker = (info.num_workers, info.id) if info else (1, 0)
        # The loader always takes its first batch from worker 0, so the workers' roles rotate with `first`.
        step, role = divmod(self._first + worker, workers)
        rank, world = self._rank * workers + role, self._world * workers
        remote = self._shards.remote  # a forked process cannot use its parent's connections
        shards = replace(self._shards, remote=Remote(remote.url, remote.tries, remote.wait_s))
        with Stream(shards, *self._options, rank=rank, world=world, window=self._window) as stream:
            while True:
                yield stream(step)
                step += 1
