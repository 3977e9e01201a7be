"""Pretraining by hours of speech: held-out speakers, the amount drawn, and the table against random weights."""

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


def test_held_out_speakers_are_recorded_or_for_development() -> None:
    speakers = [f"speaker-{n}" for n in range(6)] + ["dev-1", "espeak-1", "espeak-2", "espeak-3"]
    rows = pd.DataFrame({"speaker": speakers * 2})
    rows["split"] = rows["speaker"].str.startswith("dev").map({True: "dev", False: "train"})
    rows["synthetic"] = rows["speaker"].str.startswith("espeak")
    assert held_out_speakers(rows) == {"speaker-2", "speaker-5", "dev-1"}


def test_hours_are_whole_recordings_and_at_most_what_was_asked(make_store: Callable[..., Store]) -> None:
    store = make_store()
    total = store.rows["duration_s"].sum() / 3600
    half = draw_hours(store, total / 2, seed=1)
    assert 0.4 * total < half.rows["duration_s"].sum() / 3600 <= total / 2
    assert set(half.rows["path"]) < set(store.rows["path"])
    assert set(half.rows["path"]) != set(draw_hours(store, total / 2, seed=2).rows["path"])
    assert len(draw_hours(store, 100, seed=1)) == len(store)
    with pytest.raises(UserError, match="shorter than any recording"):
        draw_hours(store, 1e-9, seed=1)


def test_a_run_an_encoder_and_a_table_of_them(
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
    heard = learnable(clean_store(tmp_path), "train", "dev")
    heard = heard.where(~heard.rows["speaker"].isin(held_out_speakers(heard.rows)))
    assert runs["100-1"]["hours"] == round(heard.rows["duration_s"].sum() / 3600, 2)
    assert (runs["0-1"]["steps"], runs["100-1"]["steps"]) == (0, STEPS)
    assert runs["0-1"]["right"] != runs["0-2"]["right"]
    found = table(tmp_path).set_index("probe")
    assert {"words, unheard", "10 words by 1 clip, unheard"} <= set(found.index)
    assert next(iter(found.columns)) == "random weights"
    assert len(found.columns) == 2
    assert re.fullmatch(r"[\d.]+( ± [\d.]+)? \(-?[\d.]+( ± [\d.]+)?\)", found.iloc[0, 1])
