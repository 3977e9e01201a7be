"""adapt, score and transcribe with a foundation model: its language, its adapter, and words beside it."""

import json
from pathlib import Path

import pytest
from recordings import write_rows
from small_whisper import save_small_whisper
from test_learning import one_line, rows_of, run

from metavox.config import FeatureConfig
from metavox.recognisers.delta import load_delta
from metavox.training.gan import Environment, GeneratorConfig, save_generator


@pytest.fixture(scope="session")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_small_whisper(tmp_path_factory.mktemp("small") / "small-whisper"))


@pytest.fixture
def said(words: Path, here: Path) -> Path:
    rows = [{**row, "text": f"this is number {row['text']}", "language": "en"} for row in rows_of(words)[:6]]
    return write_rows(here / "said.csv", rows)


def test_a_speaker_is_adapted_scored_and_transcribed(said: Path, whisper: str, here: Path) -> None:
    made = run("adapt", said, "--out", "speaker", "--steps", 2, "--folds", 0, "--base", whisper)
    assert made.exit_code == 0, (made.output, made.exception)
    assert "for small-whisper (" in made.output
    assert (
        f"next, on recordings that it did not learn from: metavox score OTHERS.csv --delta speaker --base {whisper}"
        in made.output
    )
    delta = load_delta(here / "speaker")
    assert delta.about["base_name"] == "small-whisper"
    assert "guards" in delta.about
    scored = run(
        "score", said, "--delta", "speaker", "--base", whisper, "--json", "found.json", "--context", "full"
    )
    assert scored.exit_code == 0, (scored.output, scored.exception)
    found = json.loads((here / "found.json").read_text())
    assert (found["base"], found["context"], found["language"]) == ("small-whisper", "full", "en")
    assert set(found["wer"]) == {"before", "after"}
    clip = rows_of(said)[0]["path"]
    heard = run(
        "transcribe",
        clip,
        "--delta",
        "speaker",
        "--base",
        whisper,
        "--format",
        "verbose_json",
        "--language",
        "fr",
    )
    assert heard.exit_code == 0, (heard.output, heard.exception)
    assert json.loads(heard.stdout)["language"] == "fr"


def test_a_language_that_the_base_lacks(
    said: Path, whisper: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A base that was named goes on, one that was not is refused: in one line each, which says what would do."""
    rows = [{**row, "language": "it"} for row in rows_of(said)]
    italian = write_rows(here / "italian.csv", rows)
    went_on = run("score", italian, "--base", whisper)
    assert went_on.exit_code == 0, went_on.output
    assert went_on.stderr.startswith("metavox: small-whisper does not know it (Italian): ")
    assert went_on.stderr.endswith("continuing with small-whisper\n")
    assert went_on.stderr.count("\n") == 1
    monkeypatch.setattr("metavox.session.find_base", _default_is(whisper))
    for command in (
        ("score", italian),
        ("adapt", italian, "--out", "x"),
        ("transcribe", rows[0]["path"], "--language", "it"),
    ):
        line = one_line(run(*command))
        assert "small-whisper does not know it (Italian)" in line
        assert "--base small-whisper uses it all the same" in line


def _default_is(folder: str):  # type: ignore[no-untyped-def]
    from metavox.recognisers.bases.find import find_base

    return lambda name=None: find_base(name or folder)


def test_words_are_found_beside_a_foundation_model(words: Path, whisper: str, here: Path) -> None:
    """Words go to the small network that comes with metavox, whatever transcribes."""
    made = run("adapt", words, "--out", "numbers", "--folds", 0)
    assert made.exit_code == 0, (made.output, made.exception)
    assert load_delta(here / "numbers").about["base_name"] == "conformer"
    clip = next(row["path"] for row in rows_of(words) if row["text"] == "three")
    heard = run("transcribe", clip, "--delta", "numbers", "--base", whisper)
    assert heard.output == "three\n", (heard.output, heard.exception)


def test_refusals(said: Path, whisper: str, model: str) -> None:
    assert run("adapt", said, "--out", "speaker", "--steps", 1, "--folds", 0, "--base", model).exit_code == 0
    line = one_line(run("score", said, "--delta", "speaker", "--base", whisper))
    assert "--delta speaker: made for base" in line
    assert "(recogniser)" in line
    assert "(small-whisper)" in line
    moving = one_line(
        run("transcribe", rows_of(said)[0]["path"], "--base", whisper, "--test-time", "episodic")
    )
    assert "only a conformer can adapt at test time" in moving
    rates = one_line(
        run("adapt", said, "--out", "x", "--base", whisper, "--learned-rates", "--kind", "utterances")
    )
    assert "--learned-rates: small-whisper is of the kind whisper" in rates
    preset = one_line(run("adapt", said, "--out", "x", "--base", whisper, "--preset", "frontend"))
    assert "expected one of lora" in preset


def test_environments_that_do_not_fit_are_a_line(said: Path, whisper: str, model: str, here: Path) -> None:
    for rate in (16000, 8000):
        features = FeatureConfig(sample_rate_hz=rate, mels=16)
        (here / f"site-{rate}").mkdir()
        save_generator(Environment(GeneratorConfig(features, latent=4, hidden=8)), here / f"site-{rate}")
    for base, site, line in (
        (whisper, "site-8000", "it changes samples at 8000 Hz; small-whisper reads samples at 16000 Hz"),
        (model, "site-16000", "reads log-mels, see metatrain.environment"),
        (whisper, "nowhere", "no environment generator found"),
    ):
        options = ("--out", "there", "--kind", "utterances", "--base", base, "--environment", site)
        assert line in one_line(run("adapt", said, *options))


def test_old_names_of_options(said: Path, model: str) -> None:
    made = run(
        "adapt",
        said,
        "--out",
        "v",
        "--steps",
        1,
        "--folds",
        0,
        "--model",
        model,
        "--part",
        "lowrank",
        "--pull=0.1",
    )
    assert made.exit_code == 0, (made.output, made.exception)
    for line in (
        "--model is called --base now",
        "--part is called --preset now",
        "--preset lowrank is called lora now",
        "--pull is called --l2-sp-weight now",
    ):
        assert f"metavox: {line}\n" in made.stderr


def test_other_speech_that_must_not_get_worse(said: Path, words: Path, model: str, here: Path) -> None:
    made = run("adapt", said, "--out", "v", "--steps", 1, "--folds", 0, "--base", model, "--general", words)
    assert made.exit_code == 0, (made.output, made.exception)
    assert f"recordings of {words}" in made.output
    assert load_delta(here / "v").about["guards"]["general"]["recordings"] == 20
