"""The experiment on starts of adapters: choice on development tasks, resumption, and the tables."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from experiments import starts
from experiments.starts_results import Measurement, append, chosen_rate, curve, read, results_file, table
from metavox.errors import UserError
from metavox.recognisers.delta import load_delta
from tests.small_corpus import write_corpus
from tests.small_whisper import save_small_whisper

REFERENCES = ("one two three four", "five six seven eight")


def measured(arm: str, task: int, wrong: int, split: str = "test", **values: object) -> Measurement:
    """`wrong` words of the first reference are missing."""
    words = REFERENCES[0].split()[wrong:]
    texts = (REFERENCES, (" ".join(words), REFERENCES[1])) if split == "test" else ((), ())
    settings: dict = {"seed": 1, "shots": 5, "steps": 5, "learning_rate": 0.1, "loss": 1.0 + wrong} | values
    return Measurement(
        arm, split=split, task=task, name="x", references=texts[0], hypotheses=texts[1], **settings
    )


def filled(tmp_path: Path, *measurements: Measurement) -> Path:
    for one in measurements:
        append(tmp_path / "starts", one)
    return tmp_path / "starts"


def test_measurements_are_read_as_they_were_appended(tmp_path: Path) -> None:
    kept = [measured("joint", 0, 1), measured("zero", 0, 2, split="dev")]
    folder = filled(tmp_path, *kept)
    with results_file(folder).open("a") as file:
        file.write('{"arm": "joi')  # as if the process had been killed
    assert read(folder) == kept
    assert len({one.key for one in kept}) == 2


def test_arms_are_compared_on_the_tasks_that_joint_training_has_finished_too(tmp_path: Path) -> None:
    folder = filled(
        tmp_path,
        *(measured("joint", task, 2) for task in range(4)),
        *(measured("zero", task, 1) for task in (1, 2, 3)),
        *(measured("unadapted", task, 4, shots=0) for task in range(3)),
        measured("joint", 0, 4, shots=20),
    )
    rows = table(folder)
    five = rows[rows["recordings"] == 5].set_index("arm")
    assert list(five.index) == ["joint", "unadapted", "zero"]
    assert list(five["tasks"]) == [4, 3, 3]
    assert five.at["joint", "WER"].startswith("25.0")
    assert five.at["zero", "less error than joint"].startswith("50.0")
    assert five.at["unadapted", "less error than joint"].startswith("-100.0")
    assert five.at["zero", "loss above joint"].startswith("-1.000")
    assert five.at["joint", "less error than joint"] == ""
    assert (tmp_path / "starts.csv").is_file()


def test_seeds_of_a_recording_are_averaged(tmp_path: Path) -> None:
    seeds = [measured("joint", 0, wrong, seed=seed) for seed, wrong in ((1, 0), (2, 4))]
    rows = table(filled(tmp_path, *seeds, *(measured("joint", 1, 2, seed=seed) for seed in (1, 2))))
    assert rows.at[0, "WER"].startswith("25.0")


def test_the_rate_with_the_lowest_loss_on_common_development_tasks_is_chosen() -> None:
    done = [
        measured("joint", 0, 1, "dev", learning_rate=0.1),
        measured("joint", 0, 2, "dev", learning_rate=0.3),
        measured("joint", 1, 0, "dev", learning_rate=0.3),  # finished for one rate only
        measured("joint", 0, 0, "dev", learning_rate=0.3, steps=20),  # after other steps
        measured("joint", 0, 0, learning_rate=0.3),  # a test task
    ]
    assert chosen_rate(done, "joint", 5) == 0.1
    with pytest.raises(UserError, match="no development task of zero"):
        chosen_rate(done, "zero", 5)


def test_steps_to_reach_the_best_of_joint_training(tmp_path: Path) -> None:
    losses = {
        "joint": {1: 3.0, 5: 2.0, 20: 2.5},
        "zero": {1: 4.0, 5: 3.0, 20: 2.5},
        "maml": {1: 2.5, 5: 1.5, 20: 1.0},
    }
    rows = curve(
        filled(
            tmp_path,
            *(
                measured(arm, 0, 0, "dev", steps=steps, loss=loss)
                for arm, by_steps in losses.items()
                for steps, loss in by_steps.items()
            ),
        ),
        5,
    ).set_index("arm")
    assert rows.at["joint", "steps to joint's best"] == 5
    assert rows.at["maml", "steps to joint's best"] == 5
    assert np.isnan(rows.at["zero", "steps to joint's best"])
    assert rows.at["maml", "1 steps"] == "2.500"


def test_joint_training_must_have_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no test task of joint"):
        table(filled(tmp_path, measured("zero", 0, 1)))


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("TASKS", 2), ("SHOTS", 2), ("QUERIES", 1), ("STEPS", 1), ("LORA_RATES", (1e-3,))):
        monkeypatch.setattr(starts, name, value)
    monkeypatch.setattr(starts, "RATES", {})
    small = {name: replace(one, shots=1, inner_steps=1) for name, one in starts.ARMS.items()}
    monkeypatch.setattr(starts, "ARMS", small)
    monkeypatch.setattr(starts, "MEASURE", replace(starts.MEASURE, shots=1))


def test_the_experiment_runs_to_its_table_and_repeats_nothing(
    tmp_path: Path, short: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("METAVOX_BASES", str(tmp_path / "bases"))
    base, folder = str(save_small_whisper(tmp_path / "tiny", states=1500)), tmp_path / "out" / "starts"
    write_corpus(tmp_path / "data")
    starts.train(tmp_path, folder, base, ["joint", "metasgd"], 1, 1)
    assert load_delta(folder / "joint-1").about["rates"] == {}
    assert len(load_delta(folder / "metasgd-1").about["rates"]) > 10
    arms = ["joint", "metasgd", starts.ZERO]
    starts.choose(tmp_path, folder, base, 1, arms)
    starts.evaluate(tmp_path, folder, base, 2, 1, [*arms, starts.BASE])
    done = read(folder)
    starts.evaluate(tmp_path, folder, base, 2, 1, [*arms, starts.BASE])
    assert read(folder) == done
    assert {one.arm for one in done if one.split == "test"} == {*arms, starts.BASE}
    assert len({one.loss for one in done if one.split == "test"}) == 4
    assert list(table(folder)["tasks"]) == [1] * 4
    with pytest.raises(UserError, match="arm maml2: no such learner"):
        starts.train(tmp_path, folder, base, ["maml2"], 1, 1)
