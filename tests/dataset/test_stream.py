"""A stream yields every training row once per epoch, is the same from any step, and survives broken shards."""

import importlib.util
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pandas as pd
import pytest
import torch
from torch.utils.data import DataLoader

from metavox.config import FeatureConfig
from metavox.dataset.remote import Remote
from metavox.dataset.stream import Shards, Stream, StreamDataset, read_shards
from metavox.errors import UserError
from tests.dataset.shards_at_a_url import Served, served, write_corpus

CONFIG = FeatureConfig(sample_rate_hz=8000, mels=16)
BUDGET = 600


@pytest.fixture
def rows(tmp_path: Path) -> pd.DataFrame:
    return write_corpus(tmp_path / "corpus")


@pytest.fixture
def server(rows: pd.DataFrame, tmp_path: Path) -> Iterator[Served]:
    with served(tmp_path / "corpus") as server:
        yield server


def shards_of(url: Path | str) -> Shards:
    return read_shards(Remote(str(url), wait_s=0.0))


def stream_of(url: Path | str, seed: int = 0, window: int = 2, **options: object) -> Stream:
    return Stream(shards_of(url), CONFIG, BUDGET, seed, window=window, **options)  # type: ignore[arg-type]


def epoch_lengths(stream: Stream, epoch: int = 0) -> list[list[int]]:
    """Lengths in frames, batch by batch, of one epoch."""
    steps, step = [], 0
    while (position := stream.at(step)).epoch <= epoch:
        if position.epoch == epoch:
            steps.append(step)
        step += 1
    return [stream(step)[1].tolist() for step in steps]


def learnable(rows: pd.DataFrame) -> list[int]:
    training = rows[(rows["split"] == "train") & (rows["unit"] != "digit")]
    return sorted((training["duration_s"] * 100).round().astype(int) + 1)


def flat(batches: list[list[int]]) -> list[int]:
    return sorted(length for batch in batches for length in batch)


def test_an_epoch_holds_every_training_row_once_and_no_other(rows: pd.DataFrame, tmp_path: Path) -> None:
    with stream_of(tmp_path / "corpus") as stream:
        first, second = epoch_lengths(stream), epoch_lengths(stream, 1)
    assert flat(first) == flat(second) == learnable(rows)
    assert len(set(learnable(rows))) == len(learnable(rows)) == 50
    orders = set()
    for seed in range(6):
        with stream_of(tmp_path / "corpus", seed=seed) as other:
            orders.add(other.at(0).shards)
    assert len(orders) > 2
    assert first != second
    assert not stream.skipped.reasons


def test_batches_are_padded_within_the_budget_and_zero_beyond_their_lengths(
    rows: pd.DataFrame, tmp_path: Path
) -> None:
    with stream_of(tmp_path / "corpus") as stream:
        for step in range(12):
            mels, lengths = stream(step)
            assert mels.shape == (len(lengths), int(lengths.max()), 16)
            assert mels.shape[0] * mels.shape[1] <= BUDGET
            assert mels.isfinite().all()
            for item, length in zip(mels, lengths, strict=True):
                assert (item[length:] == 0).all()
                assert (item[:length] != 0).any(dim=1).all()


def test_a_step_is_the_same_from_http_disk_and_memory_whatever_was_read_before(
    rows: pd.DataFrame, server: Served, tmp_path: Path
) -> None:
    fsspec.filesystem("memory").put(str(tmp_path / "corpus"), "/corpus", recursive=True)
    with stream_of(server.url) as stream:
        forward = [stream(step) for step in range(20)]
    for url in (tmp_path / "corpus", f"file://{tmp_path}/corpus/", "memory://corpus", server.url):
        for ahead in (True, False):
            with stream_of(url, read_ahead=ahead) as other:
                for step in (13, 14, 2, 19, 0):
                    for actual, expected in zip(other(step), forward[step], strict=True):
                        assert torch.equal(actual, expected)
    with stream_of(server.url, seed=1) as other:
        assert [other(step)[1].tolist() for step in range(20)] != [lengths.tolist() for _, lengths in forward]


def test_each_shard_is_one_request_and_a_late_start_reads_no_earlier_shard(
    rows: pd.DataFrame, server: Served
) -> None:
    with stream_of(server.url, read_ahead=False) as stream:
        epoch_lengths(stream)
        last = max(step for step in range(60) if stream.at(step).epoch == 0)
    requests = [path for path in server.requests if path.endswith(".tar")]
    assert sorted(requests) == [f"shards/part{i}-000.tar" for i in range(5)]
    assert not server.ranges
    server.requests.clear()
    with stream_of(server.url, read_ahead=False) as stream:
        stream(last)
        assert [path for path in server.requests if path.endswith(".tar")] == list(stream.at(last).shards)


@pytest.mark.parametrize("world", [2, 5])
def test_ranks_share_an_epoch_without_overlap(rows: pd.DataFrame, tmp_path: Path, world: int) -> None:
    parts = []
    for rank in range(world):
        with stream_of(tmp_path / "corpus", rank=rank, world=world) as stream:
            parts.append(flat(epoch_lengths(stream)))
    assert all(parts)
    assert sorted(length for part in parts for length in part) == learnable(rows)


@pytest.mark.parametrize("first", [0, 5])
def test_workers_of_a_loader_share_a_rank_and_resume_where_it_stopped(
    rows: pd.DataFrame, server: Served, first: int
) -> None:
    def batches(begin: int, count: int) -> list[list[int]]:
        dataset = StreamDataset(shards_of(server.url), CONFIG, BUDGET, 0, window=2, first=begin)
        loader = iter(DataLoader(dataset, batch_size=None, num_workers=2))
        return [next(loader)[1].tolist() for _ in range(count)]

    with stream_of(server.url, rank=0, world=2) as even, stream_of(server.url, rank=1, world=2) as odd:
        expected = [(even, odd)[step % 2](step // 2)[1].tolist() for step in range(first, first + 6)]
    assert batches(first, 6) == expected


def test_a_recording_that_cannot_be_decoded_is_left_out_named_and_counted(
    rows: pd.DataFrame, tmp_path: Path
) -> None:
    broken, longer = rows[rows["split"] == "train"].iloc[[0, 8]].itertuples()
    path = tmp_path / "corpus" / "shards/part0-000.tar"
    data = bytearray(path.read_bytes())
    with tarfile.open(path) as archive:
        member = archive.getmember(broken.path.partition(".tar/")[2])
    data[member.offset_data : member.offset_data + member.size] = bytes(member.size)
    path.write_bytes(data)
    table = rows.assign(duration_s=rows["duration_s"].where(rows["path"] != longer.path, 0.1))
    table.to_csv(tmp_path / "corpus/manifest.csv", index=False)
    with stream_of(tmp_path / "corpus") as stream:
        remaining = flat(epoch_lengths(stream))
        epoch_lengths(stream, 1)
    skipped_lengths = [round(row.duration_s * 100) + 1 for row in (broken, longer)]
    assert remaining == [length for length in learnable(rows) if length not in skipped_lengths]
    assert set(stream.skipped.reasons) == {broken.path, longer.path}
    assert stream.skipped.recordings == 2
    assert "0.1 s in the manifest" in stream.skipped.reasons[longer.path]


def test_a_member_that_is_missing_from_its_shard_is_named(rows: pd.DataFrame, tmp_path: Path) -> None:
    rows.loc[0, "path"] = "shards/part0-000.tar/gone.flac"
    rows.to_csv(tmp_path / "corpus/manifest.csv", index=False)
    with stream_of(tmp_path / "corpus") as stream:
        epoch_lengths(stream)
    assert stream.skipped.as_dict() == {
        "recordings": 1,
        "names": 1,
        "first": {"shards/part0-000.tar/gone.flac": "not in the shard"},
    }


def test_a_shard_that_fails_half_way_is_read_again(rows: pd.DataFrame, server: Served) -> None:
    with stream_of(server.url) as stream:
        expected = epoch_lengths(stream)
    server.failures["shards/part2-000.tar"] = 2
    with stream_of(server.url) as stream:
        assert epoch_lengths(stream) == expected
    assert not stream.skipped.reasons


def test_a_shard_that_keeps_failing_is_left_out_named_and_counted(
    rows: pd.DataFrame, server: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    server.failures["shards/part2-000.tar"] = 1000
    with stream_of(server.url) as stream:
        remaining = flat(epoch_lengths(stream))
    of_others = rows[~rows["path"].str.startswith("shards/part2-")]
    assert set(remaining) == set(learnable(of_others))
    assert list(stream.skipped.reasons) == ["shards/part2-000.tar"]
    assert "3 tries" in stream.skipped.reasons["shards/part2-000.tar"]
    assert stream.skipped.recordings == 10
    assert "skipped shards/part2-000.tar" in capsys.readouterr().out


def test_the_complete_recordings_of_a_truncated_shard_are_used(rows: pd.DataFrame, tmp_path: Path) -> None:
    path = tmp_path / "corpus/shards/part1-000.tar"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with stream_of(tmp_path / "corpus") as stream:
        remaining = flat(epoch_lengths(stream))
    assert len(learnable(rows)) - 10 < len(remaining) < len(learnable(rows))
    assert set(remaining) < set(learnable(rows))
    assert stream.skipped.recordings == len(learnable(rows)) - len(remaining)
    assert list(stream.skipped.reasons) == ["shards/part1-000.tar"]


def test_an_unreadable_window_stops_the_run(rows: pd.DataFrame, server: Served) -> None:
    server.failures |= {f"shards/part{i}-000.tar": 1000 for i in range(5)}
    with (
        stream_of(server.url) as stream,
        pytest.raises(UserError, match=r"nothing in shards/part.* could be read"),
    ):
        stream(0)


def test_parquet_is_preferred_to_csv_and_gives_the_same_digest(
    rows: pd.DataFrame, server: Served, tmp_path: Path
) -> None:
    digest = shards_of(server.url).digest
    rows.to_parquet(tmp_path / "corpus/manifest.parquet", index=False)
    assert shards_of(server.url).digest == shards_of(tmp_path / "corpus").digest == digest
    rows[rows["path"].str.contains("part[01]")].to_parquet(tmp_path / "corpus/manifest.parquet", index=False)
    assert shards_of(server.url).names == ("shards/part0-000.tar", "shards/part1-000.tar")
    assert shards_of(server.url).digest != digest


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows.assign(split="test"), "none of 60 rows can be trained on"),
        (lambda rows: rows.drop(columns="split"), "none of 60 rows can be trained on"),
        (lambda rows: rows.assign(duration_s=""), "none of 60 rows can be trained on"),
        (lambda rows: rows.assign(path="a.wav"), "row 'a.wav' is in no shard"),
        (lambda rows: rows.assign(path="../x.tar/a.wav"), "is in no shard of that folder"),
        (lambda rows: rows.assign(duration_s="long"), "none of 60 rows can be trained on"),
        (lambda rows: pd.DataFrame(), "manifest.csv: cannot be read"),
    ],
)
def test_an_unusable_manifest_is_refused_with_a_reason(
    rows: pd.DataFrame, tmp_path: Path, change, message: str
) -> None:  # type: ignore[no-untyped-def]
    change(rows).to_csv(tmp_path / "corpus/manifest.csv", index=False)
    with pytest.raises(UserError, match=message):
        shards_of(tmp_path / "corpus")


def test_an_unreadable_url_is_a_one_line_error_that_says_what_to_do(server: Served, tmp_path: Path) -> None:
    for url, message in (
        (tmp_path, "no manifest.parquet and no manifest.csv"),
        (f"{server.url}/shards", "no manifest.parquet and no manifest.csv"),
        ("http://127.0.0.1:9/corpus", "cannot be read .* check the URL"),
        ("flop://bucket/corpus", "Protocol not known: flop; expected"),
    ):
        with pytest.raises(UserError, match=message) as caught:
            shards_of(url)
        assert "\n" not in str(caught.value)


@pytest.mark.skipif(importlib.util.find_spec("adlfs") is not None, reason="adlfs is installed")
def test_a_store_whose_package_is_missing_says_what_to_install() -> None:
    with pytest.raises(UserError, match="pip install adlfs"):
        Remote("az://bucket/corpus")


def test_training_rows_without_a_length_are_counted(rows: pd.DataFrame, tmp_path: Path) -> None:
    lengths = rows["duration_s"].astype(object)
    lengths[[0, 1, 2, 3]] = ["", "long", 13.0, ""]
    rows.assign(duration_s=lengths).to_csv(tmp_path / "corpus/manifest.csv", index=False)
    found = shards_of(tmp_path / "corpus")
    assert found.left_out == 3  # the fourth is of split dev
    assert sum(map(len, found.seconds)) == 47


def test_more_readers_than_shards_are_refused(rows: pd.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="5 shards cannot be shared by 6 readers"):
        stream_of(tmp_path / "corpus", rank=0, world=6)


PEAK = """
import resource, sys

from metavox.config import FeatureConfig
from metavox.dataset.remote import Remote
from metavox.dataset.stream import Stream, read_shards

shards = read_shards(Remote(sys.argv[1]))
with Stream(shards, FeatureConfig(sample_rate_hz=8000, mels=16), 4000, 0, window=2, threads=1) as stream:
    step = 0
    while stream.at(step).epoch == 0:
        stream(step)
        step += 1
print(len(shards.names), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_five_times_the_shards_need_no_more_memory(tmp_path: Path) -> None:
    """Shards of 2 MB each: if they stayed in memory, it would grow by more than half of their size."""
    peaks, sizes = {}, {}
    for count in (4, 20):
        write_corpus(tmp_path / str(count), shards=count, clips=16, first_s=8.0)
        run = [sys.executable, "-c", PEAK, str(tmp_path / str(count))]
        seen, kilobytes = subprocess.run(run, check=True, capture_output=True, text=True).stdout.split()
        assert int(seen) == count
        peaks[count] = int(kilobytes) / 1024
        sizes[count] = sum(path.stat().st_size for path in (tmp_path / f"{count}/shards").iterdir()) / 2**20
    assert sizes[20] > 5 * sizes[4] > 25
    assert peaks[20] - peaks[4] < (sizes[20] - sizes[4]) / 2, (peaks, sizes)
