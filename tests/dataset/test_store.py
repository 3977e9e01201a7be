"""A store returns the log-mels that were written, row by row and in batches."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from metavox.audio.features import extract, make_transform
from metavox.audio.trim import word_in
from metavox.config import FeatureConfig
from metavox.dataset.store import ABOUT, FEATURES, MANIFEST, Store
from metavox.errors import UserError


@pytest.fixture
def written(tmp_path: Path) -> tuple[Store, list[np.ndarray]]:
    items = [np.random.default_rng(n).normal(size=(n, 16)).astype("<f2") for n in (5, 0, 9, 3)]
    frames = np.array([len(item) for item in items])
    rows = {"path": list("abcd"), "text": "x", "frames": frames, "first_frame": frames.cumsum() - frames}
    pd.DataFrame(rows).to_parquet(tmp_path / MANIFEST)
    (tmp_path / FEATURES).write_bytes(np.concatenate(items).tobytes())
    (tmp_path / ABOUT).write_text(json.dumps(asdict(FeatureConfig(mels=16))))
    return Store(tmp_path), items


def test_rows_are_read_back_as_written(written: tuple[Store, list[np.ndarray]]) -> None:
    store, items = written
    assert len(store) == 4
    assert store.config == FeatureConfig(mels=16)
    assert store.frames.tolist() == [5, 0, 9, 3]
    for row, item in enumerate(items):
        assert store[row].dtype == torch.float32
        np.testing.assert_array_equal(store[row].numpy(), item.astype(np.float32))


def test_a_batch_keeps_the_order_of_its_rows_and_is_padded_with_zeros(
    written: tuple[Store, list[np.ndarray]],
) -> None:
    store, items = written
    mels, lengths = store.batch([3, 2])
    assert lengths.tolist() == [3, 9]
    assert mels.shape == (2, 9, 16)
    np.testing.assert_array_equal(mels[0, :3].numpy(), items[3].astype(np.float32))
    assert (mels[0, 3:] == 0).all()


@pytest.mark.parametrize("kind", ["mel", "whisper", "waveform"])
def test_a_word_is_what_is_enrolled_of_its_recording(tmp_path: Path, kind: str) -> None:
    config = FeatureConfig(mels=80, kind=kind)  # type: ignore[arg-type]
    random = np.random.default_rng(0)
    recordings = []
    for before_s, after_s in ((0.5, 0.9), (0.0, 0.4)):
        spoken = np.sin(np.arange(8000) / 4) * np.hanning(8000)
        silence = [np.zeros(round(16000 * seconds)) for seconds in (before_s, after_s)]
        recordings.append(np.concatenate([silence[0], spoken, silence[1]]).astype(np.float32))
        recordings[-1] += 1e-4 * random.standard_normal(len(recordings[-1])).astype(np.float32)
    items = [extract(samples, make_transform(config)).numpy() for samples in recordings]
    frames = np.array([len(item) for item in items])
    rows = {"path": ["a", "b"], "text": "x", "frames": frames, "first_frame": frames.cumsum() - frames}
    pd.DataFrame(rows).to_parquet(tmp_path / MANIFEST)
    (tmp_path / FEATURES).write_bytes(np.concatenate(items).astype("<f2").tobytes())
    (tmp_path / ABOUT).write_text(json.dumps(asdict(config)))
    store = Store(tmp_path)
    for row, samples in enumerate(recordings):
        expected = len(word_in(samples, 16000)[0]) / config.hop
        assert len(store.word(row)) == pytest.approx(expected, abs=3)
        with_margins = store.word(row, (10, 20))
        before = min(10, round(word_in(samples, 16000)[1] * 100))
        assert len(with_margins) == pytest.approx(len(store.word(row)) + before + 20, abs=2)
    words, lengths = store.words([1, 0, 1], 20, torch.Generator().manual_seed(0))
    assert words.shape == (3, int(lengths.max()), config.width)
    assert lengths[0] != lengths[2], "each has its own margins"


def test_selected_rows_keep_their_features(written: tuple[Store, list[np.ndarray]]) -> None:
    store, items = written
    selected = store.where(store.rows["path"].isin(["a", "d"])).where(np.array([False, True]))
    assert selected.rows["path"].tolist() == ["d"]
    np.testing.assert_array_equal(selected[0].numpy(), items[3].astype(np.float32))


def test_changing_returned_features_does_not_change_the_store(make_store: Callable[..., Store]) -> None:
    store = make_store()
    before = store[0].clone()
    store[0].fill_(7.0)
    assert torch.equal(store[0], before)


def test_a_folder_without_features_says_which_stage_to_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="metavox stage prepare"):
        Store(tmp_path)
