"""Whisper's tokenizer: text to ids and back, and the special tokens."""

import json
import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from metavox.errors import UserError

FRAME_S = 0.02  # the step of timestamp tokens, and the length of an encoder state
ENGLISH_ONLY = 51864  # vocabulary size of the English-only models
LANGUAGE = re.compile(r"<\|([a-z]{2,3})\|>")
# Symbols and sounds that transcripts of speech do not contain (openai/whisper, tokenizer.py, non_speech_tokens).
NON_SPEECH = [
    *'"#()*+/:;<=>@[\\]^_`{|}~「」『』',
    "<<",
    ">>",
    "<<<",
    ">>>",
    "--",
    "---",
    "-(",
    "-[",
    "('",
    '("',
    "((",
    "))",
    "(((",
    ")))",
    "[[",
    "]]",
    "{{",
    "}}",
    "♪♪",
    "♪♪♪",
]
MUSIC = "♩♪♫♬♭♮♯"


@dataclass(frozen=True)
class Tokens:
    """Whisper's token ids. Ids from `end` up are special; from `first_timestamp` up each is a time, in steps
    of 20 ms.
    """

    tokenizer: Tokenizer = field(repr=False)
    multilingual: bool
    end: int
    start: int
    transcribe: int
    translate: int
    previous: int  # before the text of an earlier window
    no_speech: int
    no_timestamps: int
    languages: dict[str, int]  # empty for English-only models

    @classmethod
    def read(cls, folder: Path) -> "Tokens":
        """Read `tokenizer.json`, and what the other files say about languages. Raises UserError if it is not
        Whisper's.
        """
        is_multilingual = read_json(folder / "generation_config.json").get("is_multilingual")
        size = read_json(folder / "config.json").get("vocab_size", 0)
        try:
            return cls.of(
                read_tokenizer(folder),
                size != ENGLISH_ONLY if is_multilingual is None else bool(is_multilingual),
            )
        except UserError as error:
            raise UserError(f"{folder}: {error}") from error

    @classmethod
    def of(cls, tokenizer: Tokenizer, multilingual: bool) -> "Tokens":
        ids = tokenizer.get_vocab(with_added_tokens=True)

        def find(*names: str) -> int:
            for name in names:
                if name in ids:
                    return ids[name]
            raise UserError(f"no token {names[0]}, expected a Whisper tokenizer; copy the model's own")

        no_timestamps = find("<|notimestamps|>")
        languages = {m[1]: i for name, i in ids.items() if (m := LANGUAGE.fullmatch(name)) is not None}
        return cls(
            tokenizer=tokenizer,
            multilingual=multilingual,
            end=find("<|endoftext|>"),
            start=find("<|startoftranscript|>"),
            transcribe=find("<|transcribe|>"),
            translate=find("<|translate|>"),
            previous=find("<|startofprev|>"),
            no_speech=find("<|nospeech|>", "<|nocaptions|>"),
            no_timestamps=no_timestamps,
            languages=dict(sorted(languages.items(), key=lambda pair: pair[1])) if multilingual else {},
        )

    @property
    def first_timestamp(self) -> int:
        return self.no_timestamps + 1

    def encode(self, text: str) -> list[int]:
        """Ids of plain text; text that looks like a special token is not encoded as one."""
        ids: list[int] = self.tokenizer.encode(re.sub(r"<\|.*?\|>", " ", text), add_special_tokens=False).ids
        return [i for i in ids if i < self.end]

    def decode(self, ids: list[int]) -> str:
        """The text of ids, without special tokens and times."""
        return str(self.tokenizer.decode([i for i in ids if i < self.end]))

    def time(self, token: int) -> float:
        """The time of a timestamp token, in seconds."""
        return (token - self.first_timestamp) * FRAME_S

    def prompt(self, language: str | None, task: str, timestamps: bool) -> list[int]:
        """The decoder's prompt: start, language and task if the model is multilingual, and whether to write
        times.
        """
        ids = [self.start]
        if self.multilingual:
            ids += [
                self.languages[language or "en"],
                self.translate if task == "translate" else self.transcribe,
            ]
        return ids if timestamps else [*ids, self.no_timestamps]

    @cached_property
    def non_speech(self) -> list[int]:
        """Ids that are never written (openai/whisper): symbols, music, and all special tokens but times and
        the end.
        """
        suppressed = {self.encode(" -")[0], self.encode(" '")[0]}
        for symbol in [*NON_SPEECH, *MUSIC]:
            for ids in (self.encode(symbol), self.encode(" " + symbol)):
                if len(ids) == 1 or symbol in MUSIC:
                    suppressed.add(ids[0])
        special = [self.start, self.transcribe, self.translate, self.previous, self.no_speech]
        return sorted(suppressed.union(special, range(self.translate, self.no_timestamps)))


def read_tokenizer(folder: Path) -> Tokenizer:
    """Read `tokenizer.json`. Raises UserError if there is none or it cannot be read."""
    file = folder / "tokenizer.json"
    if not file.is_file():
        raise UserError("no tokenizer.json, expected the one of a Whisper model; copy it there")
    try:
        return Tokenizer.from_file(str(file))
    except Exception as error:  # tokenizers raises plain Exception
        raise UserError(f"tokenizer.json cannot be read ({error}); copy it again") from error


def read_json(file: Path) -> dict[str, Any]:
    """Read a JSON object; an empty one if there is no file. Raises UserError for anything else."""
    if not file.is_file():
        return {}
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise UserError(f"{file}: not JSON ({error}); copy it again") from error
    if not isinstance(value, dict):
        raise UserError(f"{file}: holds {type(value).__name__}, expected a JSON object; copy it again")
    return value
