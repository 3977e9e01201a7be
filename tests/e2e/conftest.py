"""A separate checkout with a corpus of small real packages and synthetic words, and parameters for a short run."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
STAGE_INPUTS = Path(__file__).with_name("stage_inputs.py")
SMALL: dict[str, dict[str, object]] = {
    "encoder": {"channels": 8, "dim": 32, "layers": 1, "embedding": 32},
    "prepare": {"workers": 1},
    "validate": {"max_quarantined": 0.5},
    "augment": {"steps": 6, "batch": 4, "crop_frames": 48, "samples": 1},
    "pretrain": {"steps": 6, "batch_s": 10.0, "checkpoint_every": 2},
    "metatrain": {
        "start": "",
        "warmup_steps": 12,
        "arm_steps": 4,
        "batch_s": 10.0,
        "way": 4,
        "checkpoint_every": 2,
    },
    "adapt": {"shots": 2, "steps": 2, "max_speakers": 2},
    "evaluate": {"way": 3, "shots": [1], "queries": 1, "episodes": 20, "utterances": 5, "min_accuracy": 0.0},
    "ablation": {"steps": 6, "batch_s": 5.0, "episodes": 10},
}


@dataclass(frozen=True)
class Project:
    root: Path
    tracing: Path  # a folder with a `metavox` command that also records what each stage reads

    @property
    def environment(self) -> dict[str, str]:
        path = os.pathsep.join([str(self.tracing), str(Path(sys.executable).parent), os.environ["PATH"]])
        home = self.root / ".metavox/prefect"
        # Import the copy's source instead of the installed checkout.
        own = {"PATH": path, "PYTHONPATH": str(self.root / "src"), "PREFECT_HOME": str(home)}
        return {**os.environ, **own, "METAVOX_READS": str(self.tracing)}

    def read_by(self, stage: str) -> dict[str, list[str]]:
        """What the stage read when it last ran: `files`, `keys` of params.yaml, `modules`."""
        found: dict[str, list[str]] = json.loads((self.tracing / f"{stage}.json").read_text())
        return found

    def start(self, *command: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            command,
            cwd=self.root,
            env=self.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
        )

    def run(self, *command: str, status: int = 0) -> str:
        process = self.start(*command)
        output, _ = process.communicate(timeout=600)
        assert process.returncode == status, output
        return output


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    root = tmp_path_factory.mktemp("project")
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        text=True,
        capture_output=True,
    ).stdout.split("\n")
    for name in filter(None, listed):
        if (ROOT / name).is_file() and name not in ("data.dvc", "dvc.lock"):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, root / name)
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    for section, values in SMALL.items():
        params[section] |= values
    params["base"] = "conformer"
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    stages = (root / "dvc.yaml").read_text()
    (root / "dvc.yaml").write_text(stages.replace("retry_delay_s: 30", "retry_delay_s: 0.1"))
    tracing = tmp_path_factory.mktemp("tracing")
    (tracing / "metavox").write_text(f'#!/bin/sh\nexec {sys.executable} {STAGE_INPUTS} "$@"\n')
    (tracing / "metavox").chmod(0o755)
    project = Project(root, tracing)
    project.run("git", "init", "--quiet")
    downloads = ROOT / ".metavox/debs"
    if downloads.is_dir():
        shutil.copytree(downloads, root / ".metavox/debs")
    project.run("metavox", "corpus", "build", "--profile", "tiny")
    project.run("dvc", "add", "--quiet", "data")
    return project
