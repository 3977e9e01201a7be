"""experiments/dvc.yaml."""

from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
STAGES = yaml.safe_load((ROOT / "experiments/dvc.yaml").read_text())["stages"]


@pytest.mark.parametrize("stage", STAGES)
def test_source_dependencies_exist(stage: str) -> None:
    sources = [path for path in STAGES[stage]["deps"] if path.startswith(("src/", "experiments/"))]
    assert not [path for path in sources if not (ROOT / path).exists()]
