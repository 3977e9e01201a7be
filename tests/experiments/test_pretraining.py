"""Pretraining on some hours of speech: held-out speakers, the hours drawn, and the comparison with random weights."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from experiments.pretraining import FOLDER, by_hours, draw_hours, held_out_speakers, table
from metavox.dataset.store import Store
from metavox.errors import UserError
from metavox.pipeline.artifacts import clean_store, learnable
from tests.stages.test_pretrain_stage import STEPS, project


def test_held_out_speakers_are_recorded_speakers_or_dev_speakers() -> None:
    speakers = [f"speaker-{n}" for n in range(6)] + ["dev-1", "espeak-1", "espeak-2", "espeak-3"]
    rows = pd.DataFrame({"speaker": speakers * 2})
    rows["split"] = rows["speaker"].str.startswith("dev").map({True: "dev", False: "train"})
    rows["synthetic"] = rows["speaker"].str.startswith("espeak")
    assert held_out_speakers(rows) == {"speaker-2", "speaker-5", "dev-1"}


def test_hours_are_whole_recordings_and_at_most_the_requested_amount(
    make_store: Callable[..., Store],
) -> None:
    store = make_store()
    total = store.rows["duration_s"].sum() / 3600
    half = draw_hours(store, total / 2, seed=1)
    assert 0.4 * total < half.rows["duration_s"].sum() / 3600 <= total / 2
    assert set(half.rows["path"]) < set(store.rows["path"])
    assert set(half.rows["path"]) != set(draw_hours(store, total / 2, seed=2).rows["path"])
    assert len(draw_hours(store, 100, seed=1)) == len(store)
    with pytest.raises(UserError, match="shorter than any recording"):
        draw_hours(store, 1e-9, seed=1)


def test_runs_are_compared_in_a_table(
    tmp_path: Path, make_store: Callable[..., Store], capsys: pytest.CaptureFixture[str]
) -> None:
    store = make_store(tuple(f"w{n}" for n in range(12)), sentences=60)
    store.rows["speaker"] = [f"speaker-{n // 12 % 6}" for n in range(len(store))]
    params = project(tmp_path, store, "")
    split = store.rows["speaker"].map(lambda speaker: "dev" if speaker == "speaker-0" else "train")
    store.rows.assign(split=split).to_parquet(tmp_path / "artifacts/validated/manifest.parquet", index=False)
    with pytest.raises(UserError, match="no run of random weights"):
        table(tmp_path)
    for seed in (1, 2):
        for hours in (0, 100):
            by_hours(params, tmp_path, tmp_path / FOLDER / f"{hours}-{seed}.json", hours, seed)
    runs = {p.stem: json.loads(p.read_text()) for p in (tmp_path / FOLDER).glob("*.json")}
    pretraining_pool = learnable(clean_store(tmp_path), "train", "dev")
    pretraining_pool = pretraining_pool.where(
        ~pretraining_pool.rows["speaker"].isin(held_out_speakers(pretraining_pool.rows))
    )
    assert runs["100-1"]["hours"] == round(pretraining_pool.rows["duration_s"].sum() / 3600, 2)
    assert (runs["0-1"]["steps"], runs["100-1"]["steps"]) == (0, STEPS)
    assert runs["0-1"]["right"] != runs["0-2"]["right"]
    result = table(tmp_path).set_index("probe")
    assert {"words, unheard", "10 words by 1 clip, unheard"} <= set(result.index)
    assert next(iter(result.columns)) == "random weights"
    assert len(result.columns) == 2
    assert re.fullmatch(r"[\d.]+( ± [\d.]+)? \(-?[\d.]+( ± [\d.]+)?\)", result.iloc[0, 1])
