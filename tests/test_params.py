"""A wrong parameter gives a one-line error that names it, before anything runs."""

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from metavox.errors import UserError
from metavox.params import Params, load_params

ROOT = Path(__file__).parents[1]
BY_HAND = """# Ours.
metatrain:
    # Short, for a laptop.
    warmup_steps: 5  # a few

# What is judged.
evaluate:
    shots: [1, 2]
"""


def from_text(folder: Path, text: str) -> Params:
    (folder / "params.yaml").write_text(text, encoding="utf-8")
    return load_params(folder / "params.yaml")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("sed: 1", ["unknown key sed", "seed"]),
        ("pretrain: {stepz: 3}", ["unknown key pretrain.stepz", "steps", "learning_rate"]),
        ("validate: {max_silense: 1}", ["unknown key validate.max_silense", "max_silence"]),
        ("pretrain: {steps: 0}", ["pretrain.steps = 0", "greater than or equal to 1"]),
        ("pretrain: {steps: many}", ["pretrain.steps = 'many'", "integer"]),
        ("metatrain: {learner: maml2}", ["metatrain.learner = 'maml2'", "'fomaml'"]),
        ("features: {mels: 65}", ["features.mels = 65", "multiple of 16"]),
        ("features: {mels: 8}", ["features.mels = 8", "16"]),
        ("features: {extras: [prosody, prosody]}", ["features.extras", "each once"]),
        ("features: {extras: [pitch]}", ["features.extras.0 = 'pitch'", "'prosody'"]),
        (
            "frontend: {streams: [mel, prosody]}",
            ["frontend.streams: prosody is not stored", "features.extras"],
        ),
        (
            "features: {kind: waveform, extras: [prosody]}\nencoder: {kind: bundle, bundle: HUBERT_BASE}",
            ["features.extras", "waveform"],
        ),
        ("encoder: {dim: 144, heads: 5}", ["encoder.heads = 5", "dim = 144"]),
        ("encoder: {kernel: 8}", ["encoder.kernel = 8", "odd"]),
        ("package: {name: Big Name}", ["package.name = 'Big Name'", "pattern"]),
        ("seed: -1\npretrain: {steps: 0}", ["seed = -1", "(and 1 more)"]),
        ("- a\n- b", ["got a list", "expected sections"]),
        ("seed: [1", ["not valid YAML"]),
        ("augment: 3", ["augment = 3"]),
        ("metatrain: {learner: protonet, kind: utterances}", ["protonet needs words"]),
    ],
)
def test_one_line_names_the_key_the_value_and_what_is_allowed(
    tmp_path: Path, text: str, parts: list[str]
) -> None:
    with pytest.raises(UserError) as caught:
        from_text(tmp_path, text)
    message = str(caught.value)
    assert message.startswith(str(tmp_path / "params.yaml"))
    assert "\n" not in message
    for part in parts:
        assert part in message


def test_a_missing_file_says_where_to_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file; run in the project's folder"):
        load_params(tmp_path / "params.yaml")


def test_an_empty_file_gives_the_defaults(tmp_path: Path) -> None:
    assert from_text(tmp_path, "") == Params()


def test_given_values_replace_defaults_and_the_rest_stays(tmp_path: Path) -> None:
    params = from_text(tmp_path, "seed: 3\nvalidate: {max_silence: 0.5}\nevaluate: {shots: [1, 2]}")
    assert (params.seed, params.validate_.max_silence, params.evaluate.shots) == (3, 0.5, (1, 2))
    assert params.pretrain == Params().pretrain


def test_parameters_are_frozen() -> None:
    with pytest.raises(ValidationError):
        Params().pretrain.steps = 3  # type: ignore[misc]


@pytest.mark.parametrize("name", ["params.yaml", "params.base.yaml", "params.whisper.yaml"])
def test_the_files_of_the_project_are_valid(name: str) -> None:
    load_params(ROOT / name)


def test_a_stage_needs_every_key_because_dvc_sees_no_default(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    text = (ROOT / "params.yaml").read_text()
    path.write_text(text.replace("  tasks: 1\n", ""))
    load_params(path)
    with pytest.raises(UserError) as caught:
        load_params(path, complete=True)
    message = str(caught.value)
    assert message.startswith(f"{path}: metatrain.tasks is missing; its default is 1. ")
    path.write_text("seed: 1\n")
    with pytest.raises(UserError, match=r"base is missing \(and \d+ more keys\); its default is conformer"):
        load_params(path, complete=True)


@pytest.mark.parametrize("name", ["params.yaml", "params.base.yaml", "params.whisper.yaml"])
def test_the_files_of_the_project_set_every_key(name: str) -> None:
    load_params(ROOT / name, complete=True)


@pytest.mark.parametrize(
    "text",
    ["", "seed: 3", BY_HAND, "adapt:\n    shots: 5\n    # Of each speaker.\n\n\npackage: {name: own}\n"],
)
def test_missing_keys_are_written_and_the_rest_stays(tmp_path: Path, text: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    before = load_params(path)
    command = [sys.executable, str(ROOT / "tools/complete_params.py"), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "{" in text:
        assert done.returncode == 1
        assert "expected sections as indented blocks" in done.stderr
        assert path.read_text() == text
        return
    assert done.returncode == 0, done.stderr
    assert load_params(path, complete=True) == before
    lines = iter(path.read_text().splitlines())
    assert all(line in lines for line in text.splitlines()), "each line is still there, in the same order"
