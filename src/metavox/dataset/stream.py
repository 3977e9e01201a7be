"""Speech from shards that are never on this disk: read in order, decoded, and batched as they come.

What is learned from at a step depends on the manifest, the seed and the step alone. An epoch's shards are shuffled and
shared out over the ranks; `window` shards at a time are held, encoded, and their recordings shuffled into batches of
similar length. So a run goes on at any step after reading at most `window` shards, and memory holds two windows: the
one that is learned from, and the next, which is read meanwhile.
"""

import hashlib
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from torch.utils.data import IterableDataset, get_worker_info

from metavox.audio.features import FeatureConfig, extract, make_transform
from metavox.audio.read import decode, resample
from metavox.dataset.batches import Endless, length_batches
from metavox.dataset.remote import Remote
from metavox.errors import UserError

COLUMNS = ["path", "split", "unit", "duration_s"]
LONGEST_S = 12.0
TOLD = 20  # skipped recordings that are told one by one; all are counted
Batch = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class Shards:
    """What a corpus folder's manifest lets learn from: the shards' names, and of each the members and seconds."""

    remote: Remote
    names: tuple[str, ...]
    members: tuple[bytes, ...]  # names joined by zero bytes: sixty million strings would not fit in memory
    seconds: tuple[np.ndarray, ...]
    left_out: int = 0  # training rows without a length, or too long

    @property
    def hours(self) -> float:
        return float(sum(part.sum() for part in self.seconds)) / 3600

    @property
    def digest(self) -> str:
        """Of everything that decides about a step, besides the seed."""
        total = hashlib.sha256()
        for name, members, seconds in zip(self.names, self.members, self.seconds, strict=True):
            total.update(name.encode() + b"\0" + members + b"\0" + seconds.tobytes())
        return total.hexdigest()


def read_shards(remote: Remote, longest_s: float = LONGEST_S) -> Shards:
    """The training rows of the manifest, no isolated digits, at most `longest_s` long.

    Raises UserError when there is no manifest, a row is in no shard, or none may be learned from.
    """
    members: dict[str, list[bytes]] = {}
    seconds: dict[str, list[np.ndarray]] = {}
    rows = left_out = 0
    for part in remote.manifest(COLUMNS):
        rows += len(part)
        length = pd.to_numeric(part["duration_s"], errors="coerce").to_numpy(np.float32)
        training = (part["split"] == "train") & (part["unit"] != "digit")
        chosen = training & (length > 0) & (length <= longest_s)
        left_out += int((training & ~chosen).sum())
        if not chosen.any():
            continue
        place = part["path"][chosen].str.partition(".tar/")
        _check_places(remote.url, part["path"][chosen], place)
        for shard, of_shard in place.assign(seconds=length[chosen]).groupby(0, sort=False):
            members.setdefault(f"{shard}.tar", []).append("\0".join(of_shard[2]).encode())
            seconds.setdefault(f"{shard}.tar", []).append(of_shard["seconds"].to_numpy())
    if not members:
        raise UserError(
            f"{remote.url}: none of {rows} rows may be learned from; expected split = train and a duration_s of at most "
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


def _check_places(url: str, paths: pd.Series, place: pd.DataFrame) -> None:
    outside = (
        (place[1] == "") | place[0].str.startswith("/") | place[0].str.split("/").map(lambda p: ".." in p)
    )
    if outside.any():
        raise UserError(
            f"{url}: row {paths[outside].iloc[0]!r} is in no shard of that folder; expected shards/NAME.tar/MEMBER"
        )


@dataclass(frozen=True)
class Position:
    """Where in the series a step is: a batch of a window of shards of an epoch."""

    epoch: int
    window: int
    batch: int
    shards: tuple[str, ...]


class Skipped:
    """What could not be learned from: every name with its reason, and how many recordings that is."""

    def __init__(self) -> None:
        self.reasons: dict[str, str] = {}
        self._counts: dict[str, int] = {}

    @property
    def recordings(self) -> int:
        return sum(self._counts.values())

    def add(self, name: str, reason: str, recordings: int = 1) -> None:
        if name in self.reasons:  # an epoch later it is no news
            return
        self.reasons[name], self._counts[name] = reason, recordings
        if len(self.reasons) <= TOLD:
            print(f"skipped {name}: {reason} ({recordings} recordings)", flush=True)

    def as_dict(self) -> dict[str, object]:
        first = list(self.reasons.items())[:TOLD]
        return {"recordings": self.recordings, "names": len(self.reasons), "first": dict(first)}


class Stream:
    """Batch number `step`: log-mels (batch, time, mel) and lengths (batch,), padded to about `budget` frames.

    A recording that cannot be read is left out of its batch, and is in `skipped`; a shard that fails is tried again
    first. A batch that loses all of its recordings is replaced by the next one that has some. Raises UserError when none of a window can be read, or when there are fewer shards than ranks.
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
        self._held: dict[int, Future[list[memoryview | None]]] = {}
        self._reader = ThreadPoolExecutor(1, "shards")
        self._decoders = ThreadPoolExecutor(threads, "decode")
        self.skipped = Skipped()

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.shutdown(cancel_futures=True)
        self._decoders.shutdown(cancel_futures=True)

    def __call__(self, step: int) -> Batch:
        window, position = self._series.place(step)
        batches, data = self._series.items(window), self._data(window)
        names, seconds = self._names(window), self._seconds(window)
        for turn in range(len(batches)):  # a batch of which nothing can be read leaves its step to the next
            rows = batches[(position + turn) % len(batches)]
            jobs = ((names[row], data[row], float(seconds[row])) for row in rows)
            mels = [item for item in self._decoders.map(self._mels, jobs) if item is not None]
            if mels:
                lengths = torch.tensor([len(item) for item in mels])
                return torch.nn.utils.rnn.pad_sequence(mels, batch_first=True), lengths
        raise UserError(
            f"{self._shards.remote.url}: nothing of {', '.join(self.at(step).shards)} could be read, "
            f"{next(reversed(self.skipped.reasons.values()), '')}; look at the network and the shards, then run again: "
            "it goes on from its checkpoint"
        )

    def at(self, step: int) -> Position:
        window, batch = self._series.place(step)
        epoch, within = divmod(window, self._windows_an_epoch)
        names = tuple(self._shards.names[i] for i in self._in_window(window))
        return Position(epoch, within, batch, names)

    @property
    def _windows_an_epoch(self) -> int:
        return -(-len(range(self._rank, len(self._shards.names), self._world)) // self._window)

    def _in_window(self, window: int) -> np.ndarray:
        epoch, within = divmod(window, self._windows_an_epoch)
        order = np.random.default_rng([self._seed, epoch]).permutation(len(self._shards.names))
        return order[self._rank :: self._world][within * self._window : (within + 1) * self._window]

    def _batches(self, window: int) -> list[np.ndarray]:
        frames = (self._seconds(window) * 1000 / self._features.hop_ms).astype(int) + 1
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
        wanted = (window, window + 1) if self._read_ahead else (window,)
        self._held = {which: future for which, future in self._held.items() if which in wanted}
        for which in wanted:
            if which not in self._held:
                self._held[which] = self._reader.submit(self._read, which)
        return self._held[window].result()

    def _read(self, window: int) -> list[memoryview | None]:
        """The encoded recordings of a window, each shard read once from its start to its end."""
        found: list[memoryview | None] = []
        for i in self._in_window(window):
            name = self._shards.names[i]
            data, places, problem = self._shards.remote.shard(name)
            members = self._shards.members[i].decode().split("\0")
            missing = [member for member in members if member not in places]
            if missing and problem:
                self.skipped.add(name, problem, len(missing))
            for member in missing if not problem else ():
                self.skipped.add(f"{name}/{member}", "not in the shard")
            for member in members:
                first, size = places.get(member, (0, 0))
                found.append(memoryview(data)[first : first + size] if member in places else None)
        return found

    def _mels(self, job: tuple[str, memoryview | None, float]) -> torch.Tensor | None:
        name, data, seconds = job
        if data is None:
            return None
        try:
            samples, rate = decode(bytes(data), name)
        except UserError as error:
            self.skipped.add(name, str(error).removeprefix(f"{name}: "))
            return None
        if len(samples) > (1.05 * seconds + 0.1) * rate:  # one such would pad its whole batch
            self.skipped.add(name, f"{len(samples) / rate:.1f} s long, {seconds:.1f} s in the manifest")
            return None
        return extract(resample(samples, rate, self._features.sample_rate_hz), self._transform)


class StreamDataset(IterableDataset[Batch]):
    """The steps of a rank from `first` on, for a `DataLoader(dataset, batch_size=None, num_workers=n)`.

    The rank's shards are shared out over its workers. Batch i of the loader is the same whatever was before it, for
    the same number of workers.
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
        self._shards, self._made = shards, (features, budget, seed)
        self._rank, self._world, self._window, self._first = rank, world, window, first

    def __iter__(self) -> Iterator[Batch]:
        info = get_worker_info()
        workers, worker = (info.num_workers, info.id) if info else (1, 0)
        # The loader asks worker 0 first, wherever the run goes on.
        step, turn = divmod(self._first + worker, workers)
        rank, world = self._rank * workers + turn, self._world * workers
        remote = self._shards.remote  # connections of the process that this one was forked from are of no use
        shards = replace(self._shards, remote=Remote(remote.url, remote.tries, remote.wait_s))
        with Stream(shards, *self._made, rank=rank, world=world, window=self._window) as stream:
            while True:
                yield stream(step)
                step += 1
