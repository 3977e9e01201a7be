"""The commands on words in several spellings, unspaced scripts, Turkish letters, and few recordings."""

import json
import unicodedata
from pathlib import Path

import pytest
from recordings import write_rows
from test_learning import rows_of, run

SPELLINGS = {
    "one": ("Stop", "stop", "stop.", "STOP!", "«stop»"),
    "two": ("Café", "cafe\u0301", "CAFÉ", "café,", unicodedata.normalize("NFD", "Café")),
    "three": ("Straße", "STRASSE", "straße", "strasse", "Straße?"),
    "four": ("كِتَاب", "كتاب", "كـتاب", "كتاب.", "كتا\u200dب"),
}


@pytest.fixture
def spelled(words: Path, here: Path) -> Path:
    """A manifest with several spellings of each label."""
    rows = [{**row, "text": SPELLINGS[row["text"]][i // 4 % 5]} for i, row in enumerate(rows_of(words))]
    return write_rows(here / "spelled.csv", rows)


def test_fewshot_adapt_and_score_treat_spellings_as_one_word(spelled: Path, model: str, here: Path) -> None:
    shape = ("--way", 4, "--shot", 3, "--queries", 2, "--episodes", 3, "--views", 0)
    evaluated = run("fewshot", spelled, *shape, "--base", model)
    assert evaluated.exit_code == 0, evaluated.output
    adapted = run("adapt", spelled, "--out", "words", "--base", model)
    assert adapted.exit_code == 0, adapted.output
    delta = json.loads((here / "words/delta.json").read_text())
    assert set(delta["sections"]["vocabulary"]["words"]) == {ways[0] for ways in SPELLINGS.values()}
    scored = run("score", spelled, "--delta", "words", "--base", model, "--json", "scores.json")
    assert scored.exit_code == 0, scored.output
    found = json.loads((here / "scores.json").read_text())
    assert found["enrolled_recordings"] == 40
    assert found["accuracy"]["after"]["mean"] > 0.8, "whatever the spelling of the reference"


def test_a_delta_with_two_spellings_and_emoji_is_scored(words: Path, model: str, here: Path) -> None:
    """The service of an earlier version made such deltas: it enrolled each spelling as a word."""
    assert run("adapt", words, "--out", "made", "--base", model).exit_code == 0
    file = here / "made/delta.json"
    delta = json.loads(file.read_text())
    assert delta["sections"]["vocabulary"]["words"] == ["four", "one", "three", "two"]
    delta["sections"]["vocabulary"]["words"] = ["Stop", "stop", "👍", "👨\u200d👩\u200d👧"]
    file.write_text(json.dumps(delta))
    label = {"four": "stop", "one": "Stop.", "three": "👍", "two": "👨\u200d👩\u200d👧"}
    rows = [{**row, "text": label[row["text"]]} for row in rows_of(words)[:16]]
    command = ("score", write_rows(here / "queries.csv", rows), "--delta", "made", "--base", model)
    scored = run(*command, "--json", "scores.json")
    assert scored.exit_code == 0, scored.output
    found = json.loads((here / "scores.json").read_text())
    assert found["enrolled_recordings"] == 16
    assert found["accuracy"]["after"]["mean"] > 0.8
    assert "8 of 16 texts have no letter or digit" in scored.output
    emoji = write_rows(here / "emoji.csv", [row for row in rows if not row["text"].strip(".").isalpha()])
    alone = run("score", emoji, "--delta", "made", "--base", model, "--json", "scores.json")
    assert alone.exit_code == 0, alone.output
    assert "cer %" not in alone.output
    assert json.loads((here / "scores.json").read_text())["accuracy"]["after"]["mean"] > 0.8


def test_unspaced_scripts_are_scored_in_characters(words: Path, model: str, here: Path) -> None:
    texts = {"one": "我爱你", "two": "ภาษาไทย", "three": "ひらがな", "four": "မြန်မာ"}
    rows = [{**row, "text": texts[row["text"]]} for row in rows_of(words)[:4]]
    alone = run("score", write_rows(here / "unspaced.csv", rows), "--base", model)
    assert alone.exit_code == 0, alone.output
    assert "4 of 4 texts are written without spaces between words: errors are in characters" in alone.output
    assert "cer %" in alone.output
    assert "wer %" not in alone.output
    mixed = [*rows, {**rows_of(words)[4], "language": "en"}]
    both = run("score", write_rows(here / "mixed.csv", mixed), "--base", model)
    assert (
        "4 of 5 texts are written without spaces between words: their characters count as words"
        in both.output
    )
    assert "en, 1 recordings, wer %" in both.output
    assert "xx, 4 recordings, wer %" not in both.output


def test_turkish_is_scored_with_turkish_letters(words: Path, model: str, here: Path) -> None:
    rows = [{**row, "text": "ISIRGAN", "language": "tr"} for row in rows_of(words) if row["text"] == "one"]
    rows += [{**row, "text": "incir", "language": "tr"} for row in rows_of(words) if row["text"] == "two"]
    rows[1]["text"] = "ısırgan"
    adapted = run("adapt", write_rows(here / "support.csv", rows), "--out", "tr", "--base", model)
    assert adapted.exit_code == 0, adapted.output
    assert "tr: 2 words from 20 recordings" in adapted.output
    queries = [{**row, "text": row["text"].replace("I", "ı").lower()} for row in rows]
    scored = run(
        "score",
        write_rows(here / "queries.csv", queries),
        "--delta",
        "tr",
        "--base",
        model,
        "--json",
        "scores.json",
    )
    assert scored.exit_code == 0, scored.output
    found = json.loads((here / "scores.json").read_text())
    assert found["enrolled_recordings"] == len(rows)
    assert found["cer"]["after"]["mean"] < 0.3


def test_equal_results_on_few_recordings_have_a_wide_interval(words: Path, model: str, here: Path) -> None:
    rows = [row for row in rows_of(words) if row["speaker"] == "v0"]
    assert (
        run("adapt", write_rows(here / "support.csv", rows), "--out", "made", "--base", model).exit_code == 0
    )
    six = write_rows(here / "six.csv", rows[:6])
    scored = run("score", six, "--delta", "made", "--base", model, "--json", "scores.json")
    assert scored.exit_code == 0, scored.output
    found = json.loads((here / "scores.json").read_text())
    assert found["accuracy"]["before"]["mean"] == 0
    assert found["accuracy"]["before"]["high"] == pytest.approx(0.39, abs=0.01)
    shape = ("--way", 2, "--shot", 3, "--queries", 2, "--episodes", 1, "--views", 0, "--before")
    evaluated = run("fewshot", words, *shape, "--base", model, "--unknown", 2, "--pairing", "any")
    assert evaluated.exit_code == 0, evaluated.output
    for result in (scored, evaluated):
        assert "± 0.0" not in result.output, result.output
