"""Objectives on development speakers: the accuracy of arms and character errors, never those of test speakers."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from small_pipeline import PARAMS
from typer.testing import CliRunner

from metavox.cli.main import app
from metavox.dataset.store import Store
from metavox.errors import UserError
from metavox.pipeline.artifacts import CHECKPOINTS
from metavox.recognisers.conformer.kind import ConformerRecogniser
from metavox.recognisers.conformer.network import Network
from metavox.search.objectives import ARM_PARAMETERS, SpeakerObjective, WordObjective, dev_tasks
from metavox.search.space import with_values


def test_an_arm_reports_intermediate_values_and_returns_the_final_one(project: Path) -> None:
    seen: list[tuple[int, float]] = []
    objective = WordObjective(PARAMS, project)
    value = objective(PARAMS, lambda percent, value: seen.append((percent, value)))
    assert 0 <= value <= 1
    assert [percent for percent, _ in seen] == sorted({percent for percent, _ in seen})
    assert all(0 < percent < 100 and 0 <= value <= 1 for percent, value in seen)
    warm = list((project / CHECKPOINTS).glob("metatrain-search-warmup-*.safetensors"))
    assert len(warm) == 1
    before = warm[0].stat().st_mtime_ns
    objective(with_values(PARAMS, {"metatrain.inner_learning_rate": 0.3}), lambda *_: None)
    assert list((project / CHECKPOINTS).glob("metatrain-search-*.safetensors")) == warm, (
        "one warm-up for both"
    )
    assert objective(PARAMS, lambda *_: None) == value
    longer = with_values(PARAMS, {"metatrain.warmup_steps": 8})
    objective(longer, lambda *_: None)
    assert len(list((project / CHECKPOINTS).glob("metatrain-search-warmup-*.safetensors"))) == 2
    assert warm[0].stat().st_mtime_ns >= before


def test_arm_parameters_exist() -> None:
    assert set(type(PARAMS.metatrain).model_fields) >= ARM_PARAMETERS


def test_adaptation_is_measured_on_development_speakers_alone(project: Path) -> None:
    objective = SpeakerObjective(PARAMS, project)
    value = objective(PARAMS, lambda *_: None)
    assert value > 0
    hidden = pd.read_parquet(project / "artifacts/validated/manifest.parquet")
    hidden.loc[hidden["split"] == "test", "text"] = "zzz"
    hidden.to_parquet(project / "artifacts/validated/manifest.parquet", index=False)
    assert objective(PARAMS, lambda *_: None) == value


def test_no_development_speaker_is_a_one_line_error(
    project: Path, make_model: Callable[..., Network]
) -> None:
    store = Store(project / "artifacts/prepared")
    none = store.where(np.array(store.rows["split"] != "dev"))
    with pytest.raises(UserError, match="no development speaker has 3 \\+ 10 recordings"):
        dev_tasks(none, ConformerRecogniser(make_model(), "small", "0" * 64), PARAMS)


def test_the_command_searches_and_resumes(project: Path) -> None:
    params = yaml.safe_load((Path(__file__).parents[2] / "params.yaml").read_text())
    for section, values in PARAMS.model_dump(exclude_unset=True, mode="json").items():
        params[section] |= values
    (project / "params.yaml").write_text(yaml.safe_dump(params))
    space = project / "space.yaml"
    space.write_text("adapt.learning_rate: {low: 0.001, high: 0.01, log: true}\nadapt.steps: [1, 2]\n")
    command = ("search", "speakers", "--root", str(project), "--space", str(space), "--trials")
    for trials in ("1", "2"):
        result = CliRunner().invoke(app, [*command, trials])
        assert result.exit_code == 0, result.output
        assert f"{trials} trials, the lowest value first" in result.output
    best = yaml.safe_load((project / ".metavox/search/speakers/best.yaml").read_text())
    assert set(best["adapt"]) == {"learning_rate", "steps"}
    space.write_text("adapt.stepping: [1, 2]\n")
    refused = CliRunner().invoke(app, [*command, "3"])
    assert refused.exit_code == 2
    assert "adapt.stepping: no such parameter" in refused.stderr
