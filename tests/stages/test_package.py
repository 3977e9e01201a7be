"""The package stage turns a small model into a bundle that can be served."""

import hashlib
import json
import shutil
import subprocess
import tarfile
from pathlib import Path

import httpx
import numpy as np
import pandas as pd
import pytest
import soundfile
import torch

from metavox.code import code_digest
from metavox.config import EncoderConfig
from metavox.errors import UserError
from metavox.params import Params
from metavox.recognisers.conformer.artifact import PROFILE, digest, load_model, save_model
from metavox.recognisers.conformer.network import ModelConfig, Network
from metavox.serve.client import running_service
from metavox.stages.package import content_version, run

PROJECT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project folder after its evaluate stage, packaged."""
    root = tmp_path_factory.mktemp("project")
    for name in ("bentofile.yaml", "requirements.lock"):
        shutil.copy(PROJECT / name, root)
    torch.manual_seed(0)
    small = ModelConfig(encoder=EncoderConfig(channels=8, dim=32, layers=1, heads=2, embedding=32))
    save_model(Network(small), root / "artifacts/recogniser", "# A small recogniser\n")
    (root / "data.dvc").write_text("outs:\n- md5: 0123abcd.dir\n  path: data\n")
    rows = pd.DataFrame({"license": ["CC-BY-4.0", "CC-BY-4.0", ""], "source": ["a", "a", "b"]})
    (root / "artifacts/validated").mkdir(parents=True)
    rows.to_parquet(root / "artifacts/validated/manifest.parquet")
    (root / "artifacts/validated/profile.json").write_text('{"rows": 3}\n')
    (root / "artifacts/metrics").mkdir()
    passed = {"fewshot": {"accuracy_5": 0.91234}, "gate": {"passed": True, "reason": ""}}
    (root / "artifacts/metrics/evaluate.json").write_text(json.dumps(passed))
    (root / "artifacts/metrics/validate.json").write_text('{"success": true, "failed": []}')
    run(Params(), root)
    return root


def test_the_model_and_its_card(project: Path) -> None:
    model = project / "artifacts/bundle/model"
    assert digest(model) == digest(project / "artifacts/recogniser")
    assert (model / PROFILE).read_text() == '{"rows": 3}\n'
    card = (model / "card.md").read_text()
    assert card.startswith("# A small recogniser\n")
    for line in (
        f"model digest: `{digest(model)}`",
        "data digest: `0123abcd.dir`",
        f"code digest: `{code_digest('metavox.stages.metatrain')}`",
        "| evaluate | fewshot.accuracy_5 | 0.9123 |",
        "| CC-BY-4.0 | a | 2 |",
        "| not stated | b | 1 |",
        "seed: 17",
    ):
        assert line in card


@pytest.mark.parametrize(
    ("stage", "metrics", "said"),
    [
        ("validate", {"success": False, "failed": ["speakers", "splits"]}, "closed \\(speakers, splits\\)"),
        ("evaluate", {"gate": {"passed": False, "reason": "0.31 < 0.5"}}, "closed \\(0.31 < 0.5\\)"),
        ("evaluate", {}, "has no gate.passed"),
    ],
)
def test_a_closed_gate_leaves_the_last_bundle(
    project: Path, stage: str, metrics: dict[str, object], said: str
) -> None:
    path = project / f"artifacts/metrics/{stage}.json"
    before, bundled = path.read_text(), digest(project / "artifacts/bundle/model")
    path.write_text(json.dumps(metrics))
    try:
        with pytest.raises(UserError, match=f"the gate of {stage} is {said}" if "closed" in said else said):
            run(Params(), project)
    finally:
        path.write_text(before)
    assert digest(project / "artifacts/bundle/model") == bundled


def test_the_metrics(project: Path) -> None:
    metrics = json.loads((project / "artifacts/metrics/package.json").read_text())
    model = load_model(project / "artifacts/recogniser")
    assert metrics["parameters"] == sum(p.numel() for p in model.parameters())
    assert metrics["bytes"] == (project / "artifacts/bundle/metavox.tar").stat().st_size
    assert metrics["model_digest"] == digest(project / "artifacts/recogniser")
    assert metrics["tag"].startswith("metavox:")


def test_the_bundle_holds_all_it_needs_and_nothing_else(project: Path) -> None:
    with tarfile.open(project / "artifacts/bundle/metavox.tar") as bundle:
        names = {name.removeprefix("./") for name in bundle.getnames()}
        locked = bundle.extractfile("./env/python/requirements.txt")
        assert locked is not None
        text = locked.read().decode()
    assert "src/metavox/serve/service.py" in names
    assert "torch==" in text
    assert any(name.endswith("/model.safetensors") for name in names)
    assert not [name for name in names if name.endswith((".pkl", ".pickle", ".pyc", ".pt"))]
    assert not list((project / ".metavox/bentoml").iterdir())
    assert str(Path.home()) not in text


def test_the_same_inputs_give_the_same_bytes_at_another_commit(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outputs = (
        "artifacts/bundle/metavox.tar",
        "artifacts/bundle/model/card.md",
        "artifacts/metrics/package.json",
    )
    first = {name: hashlib.sha256((project / name).read_bytes()).hexdigest() for name in outputs}
    git = ("git", "-c", "user.name=a", "-c", "user.email=a@example.org")
    subprocess.run([*git, "init", "--quiet"], cwd=project, check=True)
    subprocess.run([*git, "commit", "--quiet", "--allow-empty", "-m", "one"], cwd=project, check=True)
    head = subprocess.run(
        [*git, "rev-parse", "HEAD"], cwd=project, check=True, capture_output=True, text=True
    )
    run(Params(), project)
    assert {name: hashlib.sha256((project / name).read_bytes()).hexdigest() for name in outputs} == first
    assert f"git commit {head.stdout.strip()}" in capsys.readouterr().out


def test_the_bundle_serves(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    soundfile.write("clip.wav", np.random.default_rng(0).standard_normal(16000) * 0.1, 16000)
    clip = Path("clip.wav").read_bytes()
    with running_service(project / "artifacts/bundle/metavox.tar", tmp_path / "store") as url:
        answer = httpx.post(
            f"{url}/v1/audio/transcriptions",
            files={"file": clip},
            data={"response_format": "verbose_json"},
            timeout=60,
            trust_env=False,
        )
        assert answer.json()["duration"] == 1.0
        soundfile.write("word.wav", np.hanning(8000) * np.sin(np.arange(8000) / 4), 16000)
        word = {"files": Path("word.wav").read_bytes()}
        enrolled = httpx.post(f"{url}/v1/vocabularies/a", files=word, timeout=60, trust_env=False)
        assert enrolled.status_code == 201
    about = json.loads((tmp_path / "store/vocabularies/a/delta.json").read_text())
    assert about["base"] == digest(project / "artifacts/recogniser")


def test_the_same_files_give_the_same_version(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("same")
    assert content_version(tmp_path / "a") == content_version(tmp_path / "b")
    (tmp_path / "b" / "file").write_text("other")
    assert content_version(tmp_path / "a") != content_version(tmp_path / "b")


def test_a_missing_model_is_reported(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a complete model"):
        run(Params(), tmp_path)
    assert not (tmp_path / "artifacts/bundle").exists()
