"""End to end: from real packages to a served bundle, through Prefect and DVC, with a kill in the middle."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

import httpx
import pandas as pd
import psutil
import pytest
import yaml
from typer.testing import CliRunner

from experiments.__main__ import app
from metavox.code import NEUTRAL, PACKAGE, source_of
from metavox.pipeline.artifacts import NAMES
from metavox.serve.client import running_service
from tests.e2e.conftest import STAGE_INPUTS, Project
from tools.code_deps import has_code

# Parameters that a stage only logs.
ONLY_LOGGED = {"pretrain": {"base", "metatrain.start"}}


def lines_until(process: subprocess.Popen[str], wanted: str) -> str:
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if wanted in line:
            return "".join(lines)
    raise AssertionError(f"never printed {wanted!r}:\n{''.join(lines)}")


@pytest.fixture(scope="module")
def finished(project: Project) -> Project:
    """The pipeline, run by Prefect; meta-training is killed once and retried."""
    flow = project.start("python", "-m", "flows.pipeline")
    lines_until(flow, "metatrain-warmup: checkpoint at step 4 of 12")
    (stage,) = (
        process
        for process in psutil.Process(flow.pid).children(recursive=True)
        if process.cmdline()[1:] == [str(STAGE_INPUTS), "stage", "metatrain"]
    )
    stage.kill()
    assert not (project.root / "artifacts/recogniser").exists()
    output, _ = flow.communicate(timeout=600)
    assert flow.returncode == 0, output
    assert "metatrain-warmup: resuming from the checkpoint at step" in output
    return project


def test_every_stage_leaves_its_artifact_and_metrics(finished: Project) -> None:
    artifacts = finished.root / "artifacts"
    for stage in ("prepare", "validate", "augment", "pretrain", "metatrain", "adapt", "evaluate", "package"):
        assert json.loads((artifacts / f"metrics/{stage}.json").read_text()), stage
    headline = json.loads((artifacts / "metrics/evaluate.json").read_text())["headline"]
    for measure in ("accuracy", "precision", "recall", "f1", "cer", "wer"):
        for when in ("before", "after"):
            assert headline[measure][when]["mean"] >= 0
            assert headline[measure][when]["ci95"] >= 0
    assert "://" not in (artifacts / "report/report.html").read_text(), (
        "the page loads something from elsewhere"
    )


def test_a_second_run_executes_no_stage(finished: Project) -> None:
    lock = (finished.root / "dvc.lock").read_bytes()
    output = finished.run("dvc", "repro")
    assert "Running stage" not in output
    assert (finished.root / "dvc.lock").read_bytes() == lock


@pytest.mark.parametrize("stage", NAMES)
def test_every_input_of_a_stage_is_declared(finished: Project, stage: str) -> None:
    """DVC records every file, parameter and module that the stage used in the run above."""
    recorded = yaml.safe_load((finished.root / "dvc.lock").read_text())["stages"][stage]
    paths = {entry["path"] for kind in ("deps", "outs") for entry in recorded.get(kind, ())}
    declared = {"params.yaml", "dvc.yaml"} | paths | ({"data.dvc"} if "data" in paths else set())

    def missing(names: Iterable[str]) -> list[str]:
        return [name for name in names if not declared & {name, *map(str, Path(name).parents)}]

    read = finished.read_by(stage)
    files = [name for name in read["files"] if not name.endswith((".partial", ".py", ".pyc"))]
    assert not missing(files), "files that are no dependency"
    values = recorded["params"]["params.yaml"]
    keys = set(read["keys"]) - ONLY_LOGGED.get(stage, set())
    assert not [key for key in keys if not {key, key.partition(".")[0]} & set(values)], (
        "undeclared parameters"
    )
    sources = [source_of(name) for name in set(read["modules"]) - NEUTRAL]
    code = [str(Path("src/metavox", s.relative_to(PACKAGE))) for s in sources if s and has_code(s)]
    assert not missing(code), "code that is no dependency"


def test_the_folder_of_an_environment_is_tracked_wherever_it_is(finished: Project) -> None:
    params, site = finished.root / "params.yaml", finished.root / "site"
    good = params.read_text()
    shutil.copytree(finished.root / "artifacts/environments", site)
    try:
        params.write_text(good.replace("environment: artifacts/environments", "environment: site"))
        (changed,) = json.loads(finished.run("dvc", "status", "--json", "metatrain"))["metatrain"]
    finally:
        params.write_text(good)
        shutil.rmtree(site)
    assert "site" in changed["changed deps"]


def test_no_speaker_is_in_two_splits(finished: Project) -> None:
    rows = pd.read_parquet(finished.root / "artifacts/validated/manifest.parquet")
    assert (rows.groupby("speaker")["split"].nunique() == 1).all()
    assert set(rows.loc[rows["synthetic"], "split"]) == {"train"}


def test_the_bundle_transcribes_and_learns_words_over_http(finished: Project) -> None:
    rows = pd.read_parquet(finished.root / "artifacts/validated/manifest.parquet")
    clips = rows[(rows["split"] == "test") & (rows["speaker"] == "gcin-3")].head(2)
    from metavox.audio.read import read_bytes

    audio = [read_bytes(finished.root / "data" / path) for path in clips["path"]]
    bundle, store = finished.root / "artifacts/bundle/metavox.tar", finished.root / "store"
    with running_service(bundle, store) as url, httpx.Client(base_url=url, timeout=60) as client:
        transcribed = client.post("/v1/audio/transcriptions", files={"file": ("a.ogg", audio[0])})
        assert transcribed.status_code == 200, transcribed.text
        assert isinstance(transcribed.json()["text"], str)
        files = [("files", (f"{i}.ogg", data)) for i, data in enumerate(audio)]
        labels = {"labels": ["one", "other"]}
        enrolled = client.post("/v1/vocabularies/syllables", files=files, data=labels)
        assert enrolled.is_success, enrolled.text
        for data, word in zip(audio, labels["labels"], strict=True):
            guess = client.post("/v1/vocabularies/syllables/recognitions", files={"file": ("a.ogg", data)})
            assert guess.json()["similarities"][0]["word"] == word


def experiments(project: Project, *arguments: str, status: int = 0) -> str:
    """What `python -m experiments` prints, run in this process, which has imported its libraries already."""
    result = CliRunner().invoke(app, [*arguments, "--root", str(project.root)])
    assert result.exit_code == status, result.output
    return result.output


def test_an_ablation_trains_its_arms_and_makes_its_table(finished: Project) -> None:
    finished.run("dvc", "repro", "experiments/dvc.yaml:augmentation@none-1")
    runs = finished.root / "artifacts/ablation/runs"
    experiments(finished, "train", "gan", "--bfloat16", "--out", str(runs / "gan-1.json"))
    few = ("train", "classical", "--labels", "0.5", "--out")
    experiments(finished, *few, str(runs / "labels-0.5-1.json"))
    experiments(finished, *few, str(runs / "scratch-0.5-1.json"), "--scratch")
    assert "from nothing" in experiments(finished, "table")
    found = pd.read_csv(finished.root / "artifacts/ablation/tables/augmentation.csv")
    assert found["arm"].tolist() == ["none", "gan"]
    assert {"clean", "babble", "hall", "phone", "cheap"} <= set(found.columns)
    refused = experiments(finished, "train", "nothing", "--out", str(runs / "x.json"), status=2)
    assert "arm nothing: no such arm; expected one of none, specaugment" in refused


def test_every_front_end_and_encoder_is_trained_and_measured_alike(finished: Project) -> None:
    stages = [f"experiments/dvc.yaml:{stage}" for stage in ("words", "representation@mel-1")]
    finished.run("dvc", "repro", "--single-item", *stages)
    runs = finished.root / "artifacts/ablation/representation"
    for kind in ("mel-prosody", "cnn"):
        experiments(finished, "representation", kind, "--bfloat16", "--out", str(runs / f"{kind}-1.json"))
    assert "less error than mel, adverse" in experiments(finished, "representations")
    found = pd.read_csv(finished.root / "artifacts/ablation/representation.csv")
    assert found["kind"].tolist() == ["mel", "mel-prosody", "cnn"]
    parameters = [json.loads((runs / f"{kind}-1.json").read_text())["parameters"] for kind in found["kind"]]
    assert len(set(parameters)) == 3, "each has its own network"
    refused = experiments(finished, "representation", "mfcc", "--out", str(runs / "x.json"), status=2)
    assert "mfcc: no such representation; expected one of mel, mel-running, pcen" in refused


def test_a_parameter_out_of_range_is_a_one_line_error(finished: Project) -> None:
    params = finished.root / "params.yaml"
    good = params.read_text()
    try:
        params.write_text(good.replace("shots: 2", "shots: 0"))
        output = finished.run("metavox", "stage", "adapt", status=2)
    finally:
        params.write_text(good)
    assert output.strip().count("\n") == 0
    assert "adapt.shots = 0" in output


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system takes root")
def test_a_full_disk_is_a_one_line_error_and_loses_nothing(finished: Project) -> None:
    artifacts = finished.root / "artifacts"
    before = (artifacts / "deltas/support.json").read_bytes()
    small = finished.root / "small"
    small.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", small], capture_output=True)
    if mount.returncode:
        pytest.skip("this machine does not let tests mount a tmpfs")
    checkpoints = finished.root / ".metavox/checkpoints"
    moved = checkpoints.rename(checkpoints.with_name("checkpoints-kept"))
    try:
        checkpoints.symlink_to(small)
        output = finished.run("metavox", "stage", "metatrain", status=2)
    finally:
        checkpoints.unlink()
        subprocess.run(["umount", small], check=True)
        moved.rename(checkpoints)
    assert "disk" in output.strip().split("\n")[-1], output
    assert "Traceback" not in output
    assert (artifacts / "deltas/support.json").read_bytes() == before
    finished.run("dvc", "status", "--quiet", "dvc.yaml")
