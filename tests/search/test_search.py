"""Studies on a small real problem: killed, resumed, shared and pruned."""

import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml
from descent import SPACE, search

from metavox.errors import UserError
from metavox.params import Params, load_params
from metavox.search.space import Choice, Range, read_space, with_values
from metavox.search.study import BEST, TABLE


def start(folder: Path, trials: int, behaviour: str) -> subprocess.Popen[str]:
    """A process that has started its first trial."""
    script = Path(__file__).with_name("descent.py")
    process = subprocess.Popen(
        [sys.executable, str(script), str(folder), str(trials), behaviour],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert process.stdout.readline() == "trial\n"
    return process


def finished(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["state"].isin(("complete", "pruned"))]


def test_a_search_finds_good_parameters_and_writes_them(tmp_path: Path) -> None:
    table = search(tmp_path, 25).run()
    assert len(table) == 25
    best = table.iloc[0]
    assert best["value"] < 0.02, "the noise is 0.01"
    assert best["value"] == table["value"].where(table["state"] == "complete").min()
    assert "pruned" in set(table["state"]), "trials with a far too low or too high rate are stopped early"
    assert set(table["seed"]) == {Params().seed}
    found = yaml.safe_load((tmp_path / BEST).read_text())
    assert found == {"adapt": {"learning_rate": best["adapt.learning_rate"], "steps": best["adapt.steps"]}}
    (tmp_path / "params.yaml").write_text((tmp_path / BEST).read_text())
    assert load_params(tmp_path / "params.yaml").adapt.steps == best["adapt.steps"]
    assert len(pd.read_csv(tmp_path / TABLE)) == 25


def test_the_seed_fixes_a_search(tmp_path: Path) -> None:
    values = [search(tmp_path / name, 8).run()["value"].tolist() for name in ("one", "same")]
    assert values[0] == values[1]


def test_a_killed_trial_is_marked_and_retried_and_the_search_continues(tmp_path: Path) -> None:
    process = start(tmp_path, 4, "hangs")
    process.send_signal(signal.SIGKILL)
    process.wait()
    table = search(tmp_path, 4).run()
    killed = table[table["state"] == "fail"]
    assert killed["trial"].tolist() == [0]
    again = table[table["of"] == 0]
    assert again["state"].tolist()[0] in ("complete", "pruned")
    for name in SPACE:
        assert again[name].iloc[0] == killed[name].iloc[0]
    assert len(finished(table)) == 4
    assert len(search(tmp_path, 4).run()) == 5, "four trials have finished, so none is added"
    assert len(finished(search(tmp_path, 6).run())) == 6


def test_processes_share_a_study_and_neither_repeats_the_other(tmp_path: Path) -> None:
    first = start(tmp_path, 8, "waits")
    second = start(tmp_path, 8, "waits")
    for process in (first, second):
        assert process.stdin
        process.stdin.close()
    for process in (first, second):
        assert process.wait(timeout=120) == 0
    table = search(tmp_path, 8).run()
    assert len(table) == 8
    assert sorted(table["trial"]) == list(range(8))
    assert set(table["worker"]) == {0, 1}
    assert table["sampler_seed"].nunique() == 2
    assert table["adapt.learning_rate"].nunique() == 8


def test_another_study_is_refused(tmp_path: Path) -> None:
    search(tmp_path, 1).run()
    other = search(tmp_path, 2)
    object.__setattr__(other, "space", {"adapt.steps": Range(5, 60)})
    with pytest.raises(UserError, match="holds a study of another space"):
        other.run()


@pytest.mark.parametrize("pruner", ["halving", "none"])
def test_other_pruners(tmp_path: Path, pruner: str) -> None:
    states = set(search(tmp_path, 10, pruner=pruner).run()["state"])
    assert ("pruned" in states) == (pruner == "halving")


def test_a_space_is_read_and_checked_against_the_parameters(tmp_path: Path) -> None:
    file = tmp_path / "space.yaml"
    file.write_text("adapt.steps: {low: 5, high: 80, log: true}\nmetatrain.learner: [fomaml, reptile]\n")
    space = read_space(file, Params())
    assert space == {
        "adapt.steps": Range(5, 80, log=True),
        "metatrain.learner": Choice(("fomaml", "reptile")),
    }
    for text, message in (
        ("adapt.step: {low: 1, high: 2}", "adapt.step: no such parameter"),
        ("adapt.steps: {low: 0, high: 2}", "adapt.steps = 0"),
        ("adapt.steps: {low: 5, high: 5}", "with A below B"),
        ("adapt.learning_rate: {low: 0, high: 1, log: true}", "log: true only where A is above 0"),
        ("metatrain.learner: [fomaml, gradient]", "metatrain.learner = gradient"),
        ("adapt.steps: 5", "expected {low: A"),
        ("", "no parameter"),
        ("a: [", "not valid YAML"),
    ):
        file.write_text(text)
        with pytest.raises(UserError, match=message) as caught:
            read_space(file, Params())
        assert "\n" not in str(caught.value)


def test_values_are_put_into_parameters_by_name() -> None:
    changed = with_values(Params(), {"adapt.steps": 7, "metatrain.inner_learning_rate": 0.5})
    assert (changed.adapt.steps, changed.metatrain.inner_learning_rate) == (7, 0.5)
    assert changed.evaluate == Params().evaluate
