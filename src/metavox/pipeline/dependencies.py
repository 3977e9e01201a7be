"""Check that dvc.yaml declares the files and folders outside the pipeline that params.yaml makes a stage read.

DVC tracks the value `base: models/whisper` in params.yaml, but the contents of that folder only if it is a dependency.
"""

from operator import attrgetter
from pathlib import Path
from typing import Any

import yaml

from metavox.errors import UserError
from metavox.params import Params

# Keys whose value may be a path, by stage. `metatrain.environment` is always a path, and dvc.yaml refers to it itself.
PATHS = {"pretrain": ("pretrain.stream", "encoder.weights"), "metatrain": ("base", "metatrain.start")}


def check_dependencies(stage: str, params: Params, root: Path) -> None:
    """Raise UserError when a stage would read a path that `root`/dvc.yaml does not list among its dependencies.

    Names of bases are not paths and always pass, as does a project without dvc.yaml.
    """
    pipeline = root / "dvc.yaml"
    if not pipeline.is_file():
        return
    entry: dict[str, Any] = yaml.safe_load(pipeline.read_text(encoding="utf-8"))["stages"].get(stage, {})
    declared = [str(dep if isinstance(dep, str) else next(iter(dep))) for dep in entry.get("deps", ())]
    inside = {(root / dep).resolve() for dep in declared}
    for key in PATHS.get(stage, ()):
        value = str(attrgetter(key)(params))
        path = Path(value.removeprefix("file://")).expanduser()
        if not value or not path.exists() or f"${{{key}}}" in declared:
            continue
        if not inside & {path.resolve(), *path.resolve().parents}:
            raise UserError(
                f"{key}: {value} is not a dependency of the stage {stage} in {pipeline}, so DVC would miss changes to "
                f"it; add `- {path}` to the stage's deps"
            )
