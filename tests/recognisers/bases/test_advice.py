"""Advice on base models for a language, and the list of known base models."""

import pytest

from metavox.recognisers.bases.catalogue import advice, two_letters
from metavox.recognisers.bases.describe import rows


@pytest.mark.parametrize(
    ("language", "name", "base"),
    [
        ("en", "en (English)", "whisper-tiny.en"),
        ("it", "it (Italian)", "openai/whisper-small"),
        ("ita", "ita (Italian)", "openai/whisper-small"),
        ("de-CH", "de-CH (German)", "openai/whisper-small"),
        ("ga", "ga (Irish)", "facebook/mms-1b-all"),
        ("quy", "quy", "facebook/mms-1b-all"),
    ],
)
def test_advice_names_a_base_in_one_line(language: str, name: str, base: str) -> None:
    line = advice(language)
    assert line.startswith(f"{name}: ")
    assert f"--base {base}" in line
    assert "\n" not in line


def test_two_letter_codes() -> None:
    assert [two_letters(code) for code in ("ita", "it_IT", "deu", "ger", "EN", "yue", "quy")] == [
        "it",
        "it",
        "de",
        "de",
        "en",
        "yue",
        "quy",
    ]


def test_known_bases_are_listed() -> None:
    listed = {row.name: row for row in rows()}
    assert listed["conformer"].here
    assert not listed["whisper-tiny.en"].here
    assert listed["facebook/mms-1b-all"].licence == "cc-by-nc-4.0"
