"""adapt, score and transcribe with a foundation model: languages, adapters, and enrolled words."""

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
def utterances(words: Path, here: Path) -> Path:
    rows = [{**row, "text": f"this is number {row['text']}", "language": "en"} for row in rows_of(words)[:6]]
    return write_rows(here / "utterances.csv", rows)


def test_a_speaker_is_adapted_scored_and_transcribed(utterances: Path, whisper: str, here: Path) -> None:
    adapted = run("adapt", utterances, "--out", "speaker", "--steps", 2, "--folds", 0, "--base", whisper)
    assert adapted.exit_code == 0, (adapted.output, adapted.exception)
    assert "for small-whisper (" in adapted.output
    assert (
        f"next, on recordings that it did not learn from: metavox score OTHERS.csv --delta speaker --base {whisper}"
        in adapted.output
    )
    delta = load_delta(here / "speaker")
    assert delta.about["base_name"] == "small-whisper"
    assert "guards" in delta.about
    scored = run(
        "score",
        utterances,
        "--delta",
        "speaker",
        "--base",
        whisper,
        "--json",
        "found.json",
        "--context",
        "full",
    )
    assert scored.exit_code == 0, (scored.output, scored.exception)
    found = json.loads((here / "found.json").read_text())
    assert (found["base"], found["context"], found["language"]) == ("small-whisper", "full", "en")
    assert set(found["wer"]) == {"before", "after"}
    clip = rows_of(utterances)[0]["path"]
    transcribed = run(
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
    assert transcribed.exit_code == 0, (transcribed.output, transcribed.exception)
    assert json.loads(transcribed.stdout)["language"] == "fr"


def test_a_language_that_the_base_lacks(
    utterances: Path, whisper: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A named base continues with a notice of one line; the default base is refused in one line that says what to do."""
    rows = [{**row, "language": "it"} for row in rows_of(utterances)]
    italian = write_rows(here / "italian.csv", rows)
    continued = run("score", italian, "--base", whisper)
    assert continued.exit_code == 0, continued.output
    assert continued.stderr.startswith("metavox: small-whisper does not know it (Italian): ")
    assert continued.stderr.endswith("continuing with small-whisper\n")
    assert continued.stderr.count("\n") == 1
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


def test_words_are_recognised_beside_a_foundation_model(words: Path, whisper: str, here: Path) -> None:
    """The embedder that words were enrolled with recognises them, whatever base transcribes."""
    adapted = run("adapt", words, "--out", "numbers", "--folds", 0)
    assert adapted.exit_code == 0, (adapted.output, adapted.exception)
    assert load_delta(here / "numbers").about["base_name"] in ("whisper-tiny.en", "conformer")
    clip = next(row["path"] for row in rows_of(words) if row["text"] == "three")
    transcribed = run("transcribe", clip, "--delta", "numbers", "--base", whisper)
    assert transcribed.output == "three\n", (transcribed.output, transcribed.exception)


def test_refusals(utterances: Path, whisper: str, model: str) -> None:
    assert (
        run("adapt", utterances, "--out", "speaker", "--steps", 1, "--folds", 0, "--base", model).exit_code
        == 0
    )
    line = one_line(run("score", utterances, "--delta", "speaker", "--base", whisper))
    assert "--delta speaker: made for base" in line
    assert "(recogniser)" in line
    assert "(small-whisper)" in line
    test_time = one_line(
        run("transcribe", rows_of(utterances)[0]["path"], "--base", whisper, "--test-time", "episodic")
    )
    assert "only a conformer can adapt at test time" in test_time
    rates = one_line(
        run("adapt", utterances, "--out", "x", "--base", whisper, "--learned-rates", "--kind", "utterances")
    )
    assert "--learned-rates: small-whisper is of the kind whisper" in rates
    preset = one_line(run("adapt", utterances, "--out", "x", "--base", whisper, "--preset", "frontend"))
    assert "expected one of lora" in preset


def test_incompatible_environments_are_one_line_errors(
    utterances: Path, whisper: str, model: str, here: Path
) -> None:
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
        assert line in one_line(run("adapt", utterances, *options))


def test_old_option_names_are_accepted(utterances: Path, model: str) -> None:
    adapted = run(
        "adapt",
        utterances,
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
    assert adapted.exit_code == 0, (adapted.output, adapted.exception)
    for line in (
        "--model is called --base now",
        "--part is called --preset now",
        "--preset lowrank is called lora now",
        "--pull is called --l2-sp-weight now",
    ):
        assert f"metavox: {line}\n" in adapted.stderr


def test_guards_use_the_general_recordings(utterances: Path, words: Path, model: str, here: Path) -> None:
    adapted = run(
        "adapt", utterances, "--out", "v", "--steps", 1, "--folds", 0, "--base", model, "--general", words
    )
    assert adapted.exit_code == 0, (adapted.output, adapted.exception)
    assert f"recordings of {words}" in adapted.output
    assert load_delta(here / "v").about["guards"]["general"]["recordings"] == 20
