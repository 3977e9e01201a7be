"""fewshot, adapt, score and transcribe through the command line, on recordings of every format."""

import csv
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from recordings import write_rows
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner, Result

from metavox.cli.main import app

NEXT = "next, on recordings that it did not learn from: metavox score OTHERS.csv --delta"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def rows_of(manifest: Path) -> list[dict[str, str]]:
    """The rows with absolute paths, so that they can be written elsewhere."""
    with manifest.open(encoding="utf-8") as file:
        return [{**row, "path": str(manifest.parent / row["path"])} for row in csv.DictReader(file)]


def fewshot(manifest: Path, model: str, *more: object) -> tuple[Result, dict[str, Any]]:
    shape = ("--way", 3, "--shot", 2, "--queries", 2, "--episodes", 10, "--views", 1)
    result = run("fewshot", manifest, *shape, "--base", model, "--json", "found.json", *more)
    return result, json.loads(Path("found.json").read_text()) if result.exit_code == 0 else {}


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("pairing", ["same-speaker", "cross-speaker"])
def test_fewshot_reads_every_format_and_reports_its_settings(words: Path, model: str, pairing: str) -> None:
    result, found = fewshot(words, model, "--pairing", pairing, "--seed", 3)
    assert result.exit_code == 0, result.output
    assert found["unreadable"] == []
    assert (found["way"], found["shot"], found["queries"], found["episodes"]) == (3, 2, 2, 10)
    assert (found["pairing"], found["seed"], found["method"]) == (pairing, 3, "head")
    assert set(found["accuracy"]) == {"mean", "ci95", "low", "high"}
    for measure in ("precision", "recall", "f1"):
        assert 0 <= found[measure] <= 1
    assert 0 < found["adaptation_ms"]["p50"] <= found["adaptation_ms"]["p95"]
    assert found["accuracy"]["mean"] > 0.5, (
        "words differ only in the order of tones, and the network is untrained"
    )
    assert len(found["model"]) == 64
    assert "3-way 2-shot" in result.output


@pytest.mark.usefixtures("here")
def test_fewshot_is_the_same_for_the_same_seed(words: Path, model: str) -> None:
    first, again = (fewshot(words, model)[1] for _ in range(2))
    for found in (first, again, *first["by_shots"].values(), *again["by_shots"].values()):
        del found["adaptation_ms"]
    assert first == again


def test_fewshot_without_speakers_or_languages(words: Path, model: str, here: Path) -> None:
    bare = write_rows(here / "bare.csv", [{k: r[k] for k in ("path", "text")} for r in rows_of(words)])
    assert fewshot(bare, model)[0].exit_code == 0
    refused, _ = fewshot(bare, model, "--pairing", "cross-speaker")
    assert refused.exit_code == 2
    assert "all 40 recordings have one speaker (no name)" in one_line(refused)
    empty = write_rows(here / "empty.csv", [{**row, "speaker": "", "language": ""} for row in rows_of(words)])
    assert fewshot(empty, model, "--pairing", "any")[0].exit_code == 0


def test_fewshot_skips_unreadable_recordings_with_a_notice(words: Path, model: str, here: Path) -> None:
    (here / "broken.wav").write_bytes(b"RIFF no sound")
    broken = {"path": "broken.wav", "text": "one", "speaker": "v0", "language": "xx"}
    missing = {**broken, "path": "missing.wav", "text": "two"}
    manifest = write_rows(here / "some.csv", [*rows_of(words), *[broken] * 3, *[missing] * 3])
    result, found = fewshot(manifest, model)
    assert result.exit_code == 0, result.output
    assert 0 < len(found["unreadable"]) <= 6
    assert f"skipping {len(found['unreadable'])} recordings that cannot be read" in result.stderr
    assert result.stderr.count("\n") == 1


def test_fewshot_refusals_are_one_line(words: Path, model: str, here: Path) -> None:
    for value, name in ((1, "--way"), (0, "--shot"), (0, "--episodes"), (-1, "--seed"), ("x", "--pairing")):
        assert name in one_line(run("fewshot", words, name, value))
    assert "cannot be drawn from 40 clips of 4 words" in one_line(run("fewshot", words, "--base", model))
    assert "no such file" in one_line(run("fewshot", "nothing.csv"))
    assert "no model there" in one_line(run("fewshot", words, "--base", "nowhere"))
    lost = [{**row, "path": f"lost/{i}.wav"} for i, row in enumerate(rows_of(words))]
    line = one_line(run("fewshot", write_rows(here / "lost.csv", lost), "--base", model))
    assert "lost/0.wav: no such recording, nor can the next ones be read" in line
    (here / "folder").mkdir()
    (here / "folder" / "kept").touch()
    assert "folder" in one_line(run("fewshot", words, "--json", "folder"))
    assert (here / "folder" / "kept").is_file()


def test_words_are_enrolled_scored_and_transcribed(words: Path, model: str, here: Path) -> None:
    rows = rows_of(words)
    support = write_rows(here / "support.csv", [row for row in rows if row["speaker"] == "v0"])
    queries = write_rows(here / "queries.csv", [row for row in rows if row["speaker"] == "v1"])
    adapted = run("adapt", support, "--out", "new/numbers", "--base", model)
    assert adapted.exit_code == 0, adapted.output
    assert (
        "treated as words, because each of the 4 texts, of at most 1 words, occurs more than once"
        in adapted.output
    )
    assert "new/numbers: 4 words from 20 recordings" in adapted.output
    assert f"{NEXT} new/numbers --base {model}" in adapted.output

    scored = run("score", queries, "--delta", "new/numbers", "--base", model, "--json", "scores.json")
    assert scored.exit_code == 0, scored.output
    found = json.loads(Path("scores.json").read_text())
    assert found["enrolled_recordings"] == found["recordings"] == 20
    for measure in ("wer", "cer", "accuracy", "precision", "recall", "f1"):
        assert set(found[measure]) == {"before", "after"}
    assert found["accuracy"]["before"]["mean"] == 0
    assert found["accuracy"]["after"]["mean"] > 0.5
    assert found["wer"]["after"]["mean"] < found["wer"]["before"]["mean"]

    clip = next(row["path"] for row in rows if row["speaker"] == "v0" and row["text"] == "three")
    transcribed = run("transcribe", clip, "--delta", "new/numbers", "--base", model)
    assert transcribed.output == "three\n"
    srt = run("transcribe", clip, "--delta", "new/numbers", "--base", model, "--format", "srt")
    assert re.match(r"1\n00:00:00,\d{3} --> 00:00:00,\d{3}\n", srt.output)
    assert srt.output.endswith("\nthree\n\n")


def test_score_without_a_delta_reports_only_before(words: Path, model: str, here: Path) -> None:
    some = write_rows(here / "some.csv", rows_of(words)[:6])
    assert run("score", some, "--base", model, "--json", "scores.json").exit_code == 0
    found = json.loads((here / "scores.json").read_text())
    assert set(found["cer"]) == {"before"}
    assert "accuracy" not in found


def test_utterances_adapt_a_speaker(words: Path, model: str, here: Path) -> None:
    utterances = [{**row, "text": f"this is number {row['text']}"} for row in rows_of(words)[:6]]
    manifest = write_rows(here / "utterances.csv", utterances)
    adapted = run("adapt", manifest, "--out", "speaker", "--steps", 3, "--folds", 0, "--base", model)
    assert adapted.exit_code == 0, adapted.output
    assert "treated as utterances, because a text has 4 words" in adapted.output
    assert json.loads((here / "speaker/delta.json").read_text())["about"]["steps"] == 3
    assert run("score", manifest, "--delta", "speaker", "--base", model).exit_code == 0
    again = run("adapt", manifest, "--out", "speaker", "--steps", 2, "--base", model)
    assert again.exit_code == 0, "a delta can be replaced"
    small = run(
        "adapt",
        manifest,
        "--out",
        "room",
        "--steps",
        2,
        "--folds",
        0,
        "--preset",
        "frontend",
        "--base",
        model,
    )
    assert small.exit_code == 0, small.output
    moved = load_file(here / "room/delta.safetensors")
    assert moved
    assert all(name.startswith("weights.encoder.frontend.") for name in moved)


def test_a_speaker_is_learned_at_the_rates_that_meta_sgd_found(words: Path, model: str, here: Path) -> None:
    base = shutil.copytree(model, here / "model")
    command = ("adapt", words, "--kind", "utterances", "--steps", 2, "--folds", 0, "--base", base)
    refused = run(*command, "--learned-rates", "--out", here / "none")
    assert refused.exit_code == 2
    assert "no learned rates found" in refused.output
    assert not (here / "none").exists()
    logs = {
        f"rate.{name}": torch.tensor(-40.0 if name.startswith("ctc") else -3.0)
        for name in load_file(base / "model.safetensors")
    }
    save_file(logs, base / "rates.safetensors")
    largest = {}
    for name, more in (("even", ()), ("learned", ("--learned-rates",))):
        adapted = run(*command, *more, "--out", here / name)
        assert adapted.exit_code == 0, adapted.output
        moved = load_file(here / name / "delta.safetensors")
        largest[name] = {
            key.startswith("weights.ctc"): float(value.abs().max()) for key, value in moved.items()
        }
    assert largest["even"][True] > 1e-4
    assert largest["learned"].get(True, 0.0) < 1e-9
    assert largest["learned"][False] > 1e-4


@pytest.mark.usefixtures("here")
def test_adapt_never_replaces_a_folder_that_is_not_a_delta(words: Path, model: str, here: Path) -> None:
    (here / "mine").mkdir()
    (here / "mine" / "thesis.txt").write_text("years of work")
    assert "exists and is not a delta" in one_line(run("adapt", words, "--out", "mine"))
    assert (here / "mine" / "thesis.txt").read_text() == "years of work"
    other = run("score", words, "--delta", "mine", "--base", model)
    assert "not a complete delta" in one_line(other)


def test_transcripts_of_several_files_and_a_broken_one(words: Path, model: str, here: Path) -> None:
    clips = [row["path"] for row in rows_of(words)[:2]]
    both = run("transcribe", *clips, "--base", model, "--format", "verbose_json", "--out", "transcripts.json")
    assert both.exit_code == 0, both.output
    found = json.loads((here / "transcripts.json").read_text())
    assert [one["file"] for one in found] == clips
    assert all({"text", "segments", "words", "duration"} <= set(one) for one in found)
    (here / "broken.wav").write_bytes(b"RIFF no sound")
    mixed = run("transcribe", clips[0], "broken.wav", "--base", model)
    assert mixed.exit_code == 2
    assert mixed.stdout.startswith(clips[0])
    assert "1 of 2 files could not be read" in mixed.stderr
    assert "broken.wav" in one_line(run("transcribe", "broken.wav", "--base", model))
    assert "expected one file" in one_line(run("transcribe", *clips, "--format", "srt", "--base", model))


def one_line(result: Result) -> str:
    """The message of a user error, which is one line with exit status 2 and no traceback."""
    assert result.exit_code == 2, (result.output, result.exception)
    # A slow run prints progress first.
    lines = [line for line in result.stderr.splitlines() if not line.startswith("learning: ")]
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("metavox: ")
    return lines[0] + "\n"


def test_adapt_prints_cross_validation_and_problems_of_the_recordings(
    words: Path, model: str, here: Path
) -> None:
    rows = rows_of(words)
    adapted = run("adapt", words, "--out", "numbers", "--base", model, "--method", "prototypes")
    assert adapted.exit_code == 0, adapted.output
    assert "expected accuracy on new clips of these speakers: " in adapted.output
    assert "expected accuracy on new clips of other speakers: " in adapted.output
    assert "5-fold cross-validation on your recordings, 40 clips" in adapted.output
    assert adapted.stderr == ""
    odd = write_rows(here / "odd.csv", [*rows[:4], {**rows[0], "text": "two"}])
    refused = run("adapt", odd, "--out", "odd", "--base", model)
    assert "the same recording as" in one_line(refused)
    assert "one is labelled 'one' and the other 'two'" in refused.stderr
    copied = write_rows(here / "copied.csv", [*rows[:4], rows[0]])
    with_copies = run("adapt", copied, "--out", "copied", "--base", model)
    assert with_copies.exit_code == 0, with_copies.output
    assert "recordings are copies of others" in with_copies.stderr
    alone = run("adapt", write_rows(here / "alone.csv", rows[:1]), "--out", "alone", "--base", model)
    assert alone.exit_code == 0, alone.output
    assert "only one word" in alone.stderr
    assert "expected" not in alone.stdout


def test_new_characters_and_a_fold_count_for_utterances(words: Path, model: str, here: Path) -> None:
    utterances = [{**row, "text": f"да {n}"} for n, row in enumerate(rows_of(words)[:6])]
    manifest = write_rows(here / "utterances.csv", utterances)
    options = ("--kind", "utterances", "--steps", 2, "--folds", 2, "--preset", "lora")
    adapted = run("adapt", manifest, "--out", "letters", *options, "--base", model)
    assert adapted.exit_code == 0, adapted.output
    assert "new characters, which the base model lacks: 0 1 2" in adapted.output
    assert "expected character error rate on new recordings" in adapted.output
    scored = run("score", manifest, "--delta", "letters", "--base", model, "--test-time", "episodic")
    assert scored.exit_code == 0, scored.output
    other = here / "letters/delta.json"
    other.write_text(json.dumps({**json.loads(other.read_text()), "base": "f" * 64}))
    refused = one_line(run("score", words, "--delta", "letters", "--base", model))
    assert "--delta letters: made for base ffffffffffff" in refused


@pytest.mark.parametrize("mode", ["episodic", "continual"])
def test_transcribing_with_test_time_adaptation(words: Path, model: str, here: Path, mode: str) -> None:
    clips = [row["path"] for row in rows_of(words)[:2]]
    transcribed = run("transcribe", *clips, "--base", model, "--test-time", mode)
    assert transcribed.exit_code == 0, transcribed.output
    assert transcribed.output.count("\n") == 2


@pytest.mark.usefixtures("here")
def test_fewshot_with_the_method_of_adapt(words: Path, model: str) -> None:
    result, found = fewshot(words, model, "--method", "adapt", "--unknown", 1)
    assert result.exit_code == 0, result.output
    assert found["method"] == "adapt"
    head = fewshot(words, model, "--unknown", 1)[1]
    assert found["expected_calibration_error"] != head["expected_calibration_error"], (
        "this method scores spellings too, and uses no views"
    )
    assert found["accuracy"]["mean"] > 0.5
    assert found["adaptation_ms"]["p50"] > 0
