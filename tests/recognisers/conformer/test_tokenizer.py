"""Conversion of texts to character IDs and back, in any script."""

import unicodedata

import pytest

from metavox.recognisers.conformer.tokenizer import BLANK, Tokenizer, normalise_text

TEXTS = ["Hello, world!", "Ёлка — зелёная", "Straße", "今日は 東京", "नमस्ते दुनिया", "مرحبا بالعالم", "don’t"]


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_is_decoded_in_normalised_form(text: str) -> None:
    tokenizer = Tokenizer.of(TEXTS)
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == normalise_text(text) != ""
    assert BLANK not in ids
    assert max(ids) < len(tokenizer)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  Two\t words\n", "two words"),
        ("ﬁne ２", "fine 2"),
        ("cafe\u0301", "caf\u00e9"),
        ("don’t 'quote' rock 'n' roll", "don't quote rock n roll"),
        ("a,b", "a b"),
        ("!?…", ""),
        ("", ""),
        ("МОСКВА", "москва"),
    ],
)
def test_texts_are_normalised(text: str, expected: str) -> None:
    assert normalise_text(text) == expected


@pytest.mark.parametrize("text", TEXTS)
def test_normalisation_is_idempotent_and_ignores_composition(text: str) -> None:
    assert normalise_text(normalise_text(text)) == normalise_text(text)
    assert normalise_text(unicodedata.normalize("NFD", text)) == normalise_text(text)


def test_combining_marks_are_kept() -> None:
    assert normalise_text("नमस्ते") == "नमस्ते"


def test_unknown_characters_are_left_out() -> None:
    tokenizer = Tokenizer("abc")
    assert tokenizer.encode("a да b") == [1, 2]
    assert tokenizer.encode("да") == []


def test_ids_are_positions_in_the_alphabet_and_blanks_are_left_out() -> None:
    tokenizer = Tokenizer("xyz")
    assert tokenizer.encode("zyx") == [3, 2, 1]
    assert tokenizer.decode([BLANK, 3, BLANK, 1]) == "zx"


def test_the_alphabet_does_not_depend_on_the_order_of_texts() -> None:
    assert Tokenizer.of(TEXTS) == Tokenizer.of(reversed(TEXTS))
