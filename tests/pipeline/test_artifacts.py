"""Which rows training may use, and when a checkpoint belongs to the same run."""

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from metavox.dataset.store import Store
from metavox.params import Params
from metavox.pipeline.artifacts import clean_store, learnable, run_key, write_metrics, write_plot


def test_learnable_rows_are_of_the_split_and_neither_digits_nor_long_nor_empty(
    make_store: Callable[..., Store],
) -> None:
    store = make_store()
    store.rows["split"] = "test"
    store.rows.loc[:9, "split"] = "train"
    store.rows.loc[0, "unit"] = "digit"
    store.rows.loc[1, "frames"] = 0
    store.rows.loc[2, "duration_s"] = 12.5
    chosen = learnable(store, "train")
    assert chosen.rows["path"].tolist() == [f"{i}.wav" for i in range(3, 10)]
    assert learnable(store, "test").rows["split"].eq("test").all()
    assert len(learnable(store, "dev")) == 0


def test_clean_rows_are_those_that_passed_the_gate(make_store: Callable[..., Store], tmp_path: Path) -> None:
    store = make_store()
    (tmp_path / "artifacts/validated").mkdir(parents=True)
    store.folder.rename(tmp_path / "artifacts/prepared")
    store.rows.iloc[[5, 2]].to_parquet(tmp_path / "artifacts/validated/manifest.parquet")
    clean = clean_store(tmp_path)
    assert clean.rows["path"].tolist() == ["5.wav", "2.wav"]
    assert (clean[0] == store[5]).all()


def test_the_run_key_depends_on_seed_parameters_inputs_and_code(tmp_path: Path) -> None:
    (tmp_path / "input").write_text("a")

    def key(**values: object) -> str:
        sections = ("features", "pretrain", "evaluate.utterances")
        return run_key(code, Params.model_validate(values), sections, tmp_path, ("input",))

    code = "metavox.stages.pretrain"
    base = key()
    assert key(evaluate={"way": 3}) == base, "a parameter that the run does not use"
    others = {key(seed=1), key(pretrain={"steps": 7}), key(features={"mels": 32})}
    others.add(key(evaluate={"utterances": 3}))
    (tmp_path / "input").write_text("b")
    others |= {base, key()}
    code = "metavox.stages.augment"
    others.add(key())
    assert len(others) == 7


def test_metrics_and_plots_are_written_to_the_artifacts(tmp_path: Path) -> None:
    write_metrics(tmp_path, "adapt", {"speakers": 3})
    write_plot(tmp_path, "adapt", pd.DataFrame({"step": [0, 1], "loss": [1 / 3, float("nan")]}))
    assert json.loads((tmp_path / "artifacts/metrics/adapt.json").read_text()) == {"speakers": 3}
    assert (tmp_path / "artifacts/plots/adapt.csv").read_text() == "step,loss\n0,0.333333\n1,\n"
