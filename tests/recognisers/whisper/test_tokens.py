"""Whisper's tokenizer and special tokens."""

from pathlib import Path

import pytest

from metavox.errors import UserError
from metavox.recognisers.whisper.tokens import Tokens
from tests.recognisers.whisper.conftest import MakeFolder, small_tokenizer


def test_text_is_encoded_and_decoded_and_special_tokens_in_it_are_not() -> None:
    tokens = Tokens.of(small_tokenizer(), multilingual=False)
    assert tokens.decode(tokens.encode(" Così è, 話す")) == " Così è, 話す"
    assert tokens.end not in tokens.encode("a <|endoftext|> b")
    assert tokens.decode([*tokens.encode("hi"), tokens.end, tokens.first_timestamp + 3]) == "hi"


def test_prompts_of_multilingual_models_name_language_and_task() -> None:
    english, multilingual_tokens = (
        Tokens.of(small_tokenizer(), multilingual) for multilingual in (False, True)
    )
    assert english.languages == {}
    assert english.prompt("en", "transcribe", timestamps=True) == [english.start]
    assert english.prompt(None, "transcribe", timestamps=False) == [english.start, english.no_timestamps]
    assert list(multilingual_tokens.languages) == ["en", "it", "de"]
    assert multilingual_tokens.prompt("it", "translate", timestamps=True) == [
        multilingual_tokens.start,
        multilingual_tokens.languages["it"],
        multilingual_tokens.translate,
    ]
    assert multilingual_tokens.time(multilingual_tokens.first_timestamp + 50) == 1.0


def test_symbols_are_suppressed() -> None:
    tokens = Tokens.of(small_tokenizer(), multilingual=True)
    assert {*tokens.encode("["), *tokens.encode("#")} <= set(tokens.non_speech)
    assert {tokens.start, tokens.no_speech, tokens.previous} <= set(tokens.non_speech)
    assert tokens.end not in tokens.non_speech


@pytest.mark.parametrize(
    ("content", "message"), [(None, "no tokenizer"), ("{}", "cannot be read"), ("small", "no token")]
)
def test_an_invalid_tokenizer_is_a_one_line_error(
    make_folder: MakeFolder, content: str | None, message: str
) -> None:
    folder: Path = make_folder()
    file = folder / "tokenizer.json"
    file.unlink()
    if content is not None:
        file.write_text(
            content if content == "{}" else small_tokenizer().to_str().replace("<|startoftranscript|>", "<s>")
        )
    with pytest.raises(UserError, match=message) as caught:
        Tokens.read(folder)
    assert "\n" not in str(caught.value)
