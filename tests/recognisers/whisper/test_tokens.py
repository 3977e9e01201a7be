from pathlib import Path

import pytest

from metavox.errors import UserError
from metavox.recognisers.whisper.tokens import Tokens
from tests.recognisers.whisper.conftest import MakeFolder, small_tokenizer


def test_text_comes_back_and_special_tokens_in_it_are_none() -> None:
    tokens = Tokens.of(small_tokenizer(), multilingual=False)
    assert tokens.decode(tokens.encode(" Così è, 話す")) == " Così è, 話す"
    assert tokens.end not in tokens.encode("a <|endoftext|> b")
    assert tokens.decode([*tokens.encode("hi"), tokens.end, tokens.first_timestamp + 3]) == "hi"


def test_prompts_name_language_and_task_where_there_are_several() -> None:
    english, several = (Tokens.of(small_tokenizer(), multilingual) for multilingual in (False, True))
    assert english.languages == {}
    assert english.prompt("en", "transcribe", timestamps=True) == [english.start]
    assert english.prompt(None, "transcribe", timestamps=False) == [english.start, english.no_timestamps]
    assert list(several.languages) == ["en", "it", "de"]
    assert several.prompt("it", "translate", timestamps=True) == [
        several.start,
        several.languages["it"],
        several.translate,
    ]
    assert several.time(several.first_timestamp + 50) == 1.0


def test_symbols_are_not_speech() -> None:
    tokens = Tokens.of(small_tokenizer(), multilingual=True)
    assert {*tokens.encode("["), *tokens.encode("#")} <= set(tokens.non_speech)
    assert {tokens.start, tokens.no_speech, tokens.previous} <= set(tokens.non_speech)
    assert tokens.end not in tokens.non_speech


@pytest.mark.parametrize(
    ("content", "says"), [(None, "no tokenizer"), ("{}", "cannot be read"), ("small", "no token")]
)
def test_another_tokenizer_is_refused_in_one_line(
    make_folder: MakeFolder, content: str | None, says: str
) -> None:
    folder: Path = make_folder()
    file = folder / "tokenizer.json"
    file.unlink()
    if content is not None:
        file.write_text(
            content if content == "{}" else small_tokenizer().to_str().replace("<|startoftranscript|>", "<s>")
        )
    with pytest.raises(UserError, match=says) as caught:
        Tokens.read(folder)
    assert "\n" not in str(caught.value)
