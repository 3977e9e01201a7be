"""Whether dvc.yaml names the folders and files outside the pipeline that params.yaml lets a stage read.

DVC sees the value `base: models/whisper` in params.yaml, and what is in that folder only if the folder is a dependency.
"""

from operator import attrgetter
from pathlib import Path
from typing import Any

import yaml

from metavox.errors import UserError
from metavox.params import Params

# Keys whose value may be a path, by the stage that reads it. `metatrain.environment` is not here: it always is a path, and
# dvc.yaml refers to it.
PATHS = {"pretrain": ("pretrain.stream", "encoder.weights"), "metatrain": ("base", "metatrain.start")}


def check_declared(stage: str, params: Params, root: Path) -> None:
    """Raise UserError where a stage would read a path that is no dependency of it in `root`/dvc.yaml.

    Names of bases are left alone, and so is a project without dvc.yaml.
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
                f"{key}: {value} is no dependency of the stage {stage} in {pipeline}, so DVC would not notice when it "
                f"changes; add `- {path}` to the stage's deps"
            )
