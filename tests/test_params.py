"""A wrong parameter is one line that names it, before anything runs."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from metavox.errors import UserError
from metavox.params import Params, load_params

ROOT = Path(__file__).parents[1]


def from_text(folder: Path, text: str) -> Params:
    (folder / "params.yaml").write_text(text, encoding="utf-8")
    return load_params(folder / "params.yaml")


@pytest.mark.parametrize(
    ("text", "says"),
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
        ("encoder: {dim: 144, heads: 5}", ["encoder.heads = 5", "encoder.dim = 144"]),
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
    tmp_path: Path, text: str, says: list[str]
) -> None:
    with pytest.raises(UserError) as caught:
        from_text(tmp_path, text)
    message = str(caught.value)
    assert message.startswith(str(tmp_path / "params.yaml"))
    assert "\n" not in message
    for part in says:
        assert part in message


def test_a_missing_file_says_where_to_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file; run in the project's folder"):
        load_params(tmp_path / "params.yaml")


def test_an_empty_file_is_the_defaults(tmp_path: Path) -> None:
    assert from_text(tmp_path, "") == Params()


def test_what_is_named_is_taken_and_the_rest_stays(tmp_path: Path) -> None:
    params = from_text(tmp_path, "seed: 3\nvalidate: {max_silence: 0.5}\nevaluate: {shots: [1, 2]}")
    assert (params.seed, params.validate_.max_silence, params.evaluate.shots) == (3, 0.5, (1, 2))
    assert params.pretrain == Params().pretrain


def test_frozen() -> None:
    with pytest.raises(ValidationError):
        Params().pretrain.steps = 3  # type: ignore[misc]


@pytest.mark.parametrize("name", ["params.yaml", "params.base.yaml"])
def test_the_files_of_the_project_hold(name: str) -> None:
    load_params(ROOT / name)
