"""Rows whose recording is good but whose metadata has a fault.

Each function turns a correct row into the faulty one.
"""

from collections.abc import Callable
from typing import Any

from planted.fault import REFUSE, TAKE, Fault, register

TEXTS: list[Fault] = []
Row = dict[str, str]


def written(file: str, message: str, outcome: str = REFUSE) -> Callable[..., Any]:
    return register(TEXTS, f"text-{file}.wav", outcome, message)


NOTHING = "text .* contains no letter|text.*(empty|missing)|no text"


@written("empty", NOTHING)
def text_empty(row: Row) -> Row:
    return {**row, "text": ""}


@written("blank", NOTHING)
def text_of_spaces_only(row: Row) -> Row:
    return {**row, "text": " \u00a0 \u3000 "}


@written("points", NOTHING)
def text_of_punctuation_only(row: Row) -> Row:
    return {**row, "text": "... ?!"}


@written("invisible", NOTHING + "|control character")
def text_of_invisible_characters_only(row: Row) -> Row:
    return {**row, "text": "\u200b\u200d"}


@written("script", "CYRILLIC.*expected LATIN")
def text_in_the_script_of_another_language(row: Row) -> Row:
    return {**row, "text": "раз два три", "language": "en"}


@written("script-too", "LATIN.*expected CYRILLIC")
def text_in_latin_letters_for_russian(row: Row) -> Row:
    return {**row, "text": "raz dva tri", "language": "ru", "speaker": "ru-latin"}


@written("html", "markup")
def text_with_html(row: Row) -> Row:
    return {**row, "text": f"<b>{row['text']}</b>"}


@written("entity", "markup")
def text_with_an_entity(row: Row) -> Row:
    return {**row, "text": "no&nbsp;go"}


@written("numeric-entity", "markup")
def text_with_a_numeric_entity(row: Row) -> Row:
    return {**row, "text": "it&#39;s"}


@written("bell", "control character")
def text_with_a_control_character(row: Row) -> Row:
    return {**row, "text": f"{row['text']}\x07"}


@written("newline", "control character|newline|line break")
def text_with_a_quoted_newline(row: Row) -> Row:
    return {**row, "text": f"{row['text']}\nthree"}


@written("escape", "control character")
def text_with_a_terminal_sequence(row: Row) -> Row:
    return {**row, "text": f"\x1b[31m{row['text']}\x1b[0m"}


@written("override", "control character|direction")
def text_with_a_direction_override(row: Row) -> Row:
    return {**row, "text": f"\u202e{row['text']}\u202c"}


@written("isolate", "control character|direction")
def text_with_a_direction_isolate(row: Row) -> Row:
    return {**row, "text": f"{row['text']} \u2067two\u2069"}


@written("replacement", "control character|decod|U\\+FFFD|replacement")
def text_with_replacement_characters(row: Row) -> Row:
    return {**row, "text": "caf\ufffd no\ufffdl"}


@written("bom", "control character|byte order")
def text_with_a_byte_order_mark_inside(row: Row) -> Row:
    return {**row, "text": f"one \ufeff{row['text']}"}


@written("novel", "characters per second|characters in")
def text_of_ten_thousand_characters(row: Row) -> Row:
    return {**row, "text": "so it goes " * 910}


@written("no-speaker", "speaker .* contains no letter|speaker.*(empty|missing)|no speaker")
def speaker_empty(row: Row) -> Row:
    return {**row, "speaker": " "}


@written("no-language", "language .* contains no letter|language.*(empty|missing)|no language")
def language_empty(row: Row) -> Row:
    return {**row, "language": ""}


@written("split", "split 'validation'")
def split_that_is_not_known(row: Row) -> Row:
    return {**row, "split": "validation", "speaker": "on-no-split"}


@written("synthetic", "synthetic speech")
def synthetic_speech_to_test_with(row: Row) -> Row:
    return {**row, "split": "test", "synthetic": "true", "speaker": "machine"}


@written("digest", "SHA-256|changed")
def digest_of_another_recording(row: Row) -> Row:
    return {**row, "sha256": "0" * 64}


@written("formula", "", TAKE)
def text_that_looks_like_a_formula(row: Row) -> Row:
    """A spreadsheet would run it; here it is two words."""
    return {**row, "text": "=one+two"}


@written("quotes", "", TAKE)
def text_with_quotes_and_commas(row: Row) -> Row:
    return {**row, "text": '"two", to'}


@written("na", "", TAKE)
def text_that_reads_as_a_missing_value(row: Row) -> Row:
    """By default, pandas reads the words NA, null and nan as missing values."""
    return {**row, "text": "null"}
