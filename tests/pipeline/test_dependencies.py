"""A stage does not run when params.yaml names a folder that is not a dependency in dvc.yaml."""

from pathlib import Path

import pytest
import yaml

from metavox.errors import UserError
from metavox.params import Params
from metavox.pipeline.dependencies import check_dependencies


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models/whisper").mkdir(parents=True)
    return tmp_path


def declare(project: Path, *deps: str) -> None:
    stages = {name: {"cmd": "c", "deps": ["data", *deps]} for name in ("pretrain", "metatrain")}
    (project / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))


@pytest.mark.parametrize(
    ("stage", "key", "values"),
    [
        ("metatrain", "base", {"base": "models/whisper"}),
        ("metatrain", "metatrain.start", {"metatrain": {"start": "models/whisper"}}),
        ("pretrain", "pretrain.stream", {"pretrain": {"stream": "models/whisper"}}),
        ("pretrain", "encoder.weights", {"encoder": {"weights": "models/whisper"}}),
    ],
)
def test_a_folder_has_to_be_a_dependency(
    project: Path, stage: str, key: str, values: dict[str, object]
) -> None:
    params = Params.model_validate(values)
    check_dependencies(stage, params, project)  # without dvc.yaml there is nothing to declare
    declare(project)
    with pytest.raises(
        UserError, match=rf"^{key}: models/whisper is not a dependency of the stage {stage} in"
    ):
        check_dependencies(stage, params, project)
    check_dependencies("evaluate", params, project)
    for dep in ("models/whisper", "models", str(project / "models"), f"${{{key}}}"):
        declare(project, dep)
        check_dependencies(stage, params, project)


def test_names_of_bases_need_no_dependency(project: Path) -> None:
    declare(project)
    params = Params.model_validate({"base": "whisper-tiny.en", "metatrain": {"start": "conformer"}})
    check_dependencies("metatrain", params, project)
