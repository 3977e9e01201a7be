"""What a source of recordings yields: the small protocol every parser in this folder follows."""

import unicodedata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Recording:
    """One recording with its original encoded bytes.

    `name` is the path inside the shard and ends in the suffix of the encoding; it is unique in its source.
    `unit` is digit (nothing but spoken digits, any language), letter (letters and syllables), word (up to
    three words) or sentence. `text_kind` is spoken, inferred or concept: how far the text can be trusted.
    """

    name: str
    data: bytes = field(repr=False)
    text: str
    speaker: str
    language: str
    unit: str
    license: str
    text_kind: str = "spoken"
    speaker_group: str = ""
    environment: str = ""


Parser = Callable[[Mapping[str, Path]], Iterator[Recording]]
"""Folders of unpacked packages by package name -> recordings, in an order that depends on nothing else."""


@dataclass(frozen=True)
class Source:
    name: str
    packages: tuple[str, ...]
    license: str
    holds: str
    recordings: Parser


# The ten spoken digits, with the forms that gender or usage gives them. Digits of a language from one or two
# speakers are no training set, so every one of them has to be found and marked.
DIGITS: dict[str, tuple[str, ...]] = {
    "ar": ("صفر", "واحد", "اثنان", "ثلاثة", "أربعة", "خمسة", "ستة", "سبعة", "ثمانية", "تسعة"),
    "be": (
        "нуль",
        "адзін",
        "два",
        "тры",
        "чатыры",
        "пяць",
        "шэсць",
        "сем",
        "восем",
        "дзевяць",
        "адна",
        "дзве",
    ),
    "bg": (
        "нула",
        "едно",
        "две",
        "три",
        "четири",
        "пет",
        "шест",
        "седем",
        "осем",
        "девет",
        "един",
        "една",
        "два",
    ),
    "ca": ("zero", "un", "dos", "tres", "quatre", "cinc", "sis", "set", "vuit", "nou", "una", "dues"),
    "cs": ("nula", "jedna", "dva", "tři", "čtyři", "pět", "šest", "sedm", "osm", "devět", "jeden", "dvě"),
    "da": ("nul", "en", "to", "tre", "fire", "fem", "seks", "syv", "otte", "ni", "et"),
    "de": ("null", "eins", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun", "zwo"),
    "el": (
        "μηδέν",
        "ένα",
        "δύο",
        "τρία",
        "τέσσερα",
        "πέντε",
        "έξι",
        "επτά",
        "οκτώ",
        "εννέα",
        "μία",
        "εφτά",
        "οχτώ",
        "εννιά",
    ),
    "en": (
        "zero",
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
        "seven",
        "eight",
        "nine",
    ),
    "es": ("cero", "uno", "dos", "tres", "cuatro", "cinco", "seis", "siete", "ocho", "nueve", "un", "una"),
    "fi": (
        "nolla",
        "yksi",
        "kaksi",
        "kolme",
        "neljä",
        "viisi",
        "kuusi",
        "seitsemän",
        "kahdeksan",
        "yhdeksän",
    ),
    "fr": ("zéro", "un", "deux", "trois", "quatre", "cinq", "six", "sept", "huit", "neuf", "une"),
    "gl": ("cero", "un", "dous", "tres", "catro", "cinco", "seis", "sete", "oito", "nove", "unha", "dúas"),
    "he": ("אפס", "אחת", "שתיים", "שלוש", "ארבע", "חמש", "שש", "שבע", "שמונה", "תשע", "אחד", "שניים"),
    "hu": ("nulla", "egy", "kettő", "három", "négy", "öt", "hat", "hét", "nyolc", "kilenc", "két"),
    "it": ("zero", "uno", "due", "tre", "quattro", "cinque", "sei", "sette", "otto", "nove", "un", "una"),
    "ja": (
        "ぜろ",
        "いち",
        "に",
        "さん",
        "よん",
        "ご",
        "ろく",
        "なな",
        "はち",
        "きゅう",
        "れい",
        "し",
        "しち",
        "く",
    ),
    "ko": ("공", "하나", "둘", "셋", "넷", "다섯", "여섯", "일곱", "여덟", "아홉", "영"),
    "lt": (
        "nulis",
        "vienas",
        "du",
        "trys",
        "keturi",
        "penki",
        "šeši",
        "septyni",
        "aštuoni",
        "devyni",
        "viena",
        "dvi",
    ),
    "ml": ("പൂജ്യം", "ഒന്ന്", "രണ്ട്", "മൂന്ന്", "നാല്", "അഞ്ച്", "ആറ്", "ഏഴ്", "എട്ട്", "ഒമ്പത്"),
    "nb": ("null", "en", "to", "tre", "fire", "fem", "seks", "sju", "åtte", "ni", "én", "ett", "syv"),
    "nds": ("null", "een", "twee", "dree", "veer", "fief", "söss", "söven", "acht", "negen"),
    "nl": ("nul", "een", "twee", "drie", "vier", "vijf", "zes", "zeven", "acht", "negen", "eén", "één"),
    "nn": ("null", "ein", "to", "tre", "fire", "fem", "seks", "sju", "åtte", "ni", "éin", "eitt"),
    "pl": (
        "zero",
        "jeden",
        "dwa",
        "trzy",
        "cztery",
        "pięć",
        "sześć",
        "siedem",
        "osiem",
        "dziewięć",
        "jedna",
        "dwie",
    ),
    "pt": ("zero", "um", "dois", "três", "quatro", "cinco", "seis", "sete", "oito", "nove", "uma", "duas"),
    "ro": ("zero", "unu", "doi", "trei", "patru", "cinci", "șase", "șapte", "opt", "nouă", "una", "două"),
    "ru": (
        "ноль",
        "один",
        "два",
        "три",
        "четыре",
        "пять",
        "шесть",
        "семь",
        "восемь",
        "девять",
        "одно",
        "одна",
        "две",
    ),
    "sl": ("nič", "ena", "dva", "tri", "štiri", "pet", "šest", "sedem", "osem", "devet", "dve"),
    "sv": ("noll", "ett", "två", "tre", "fyra", "fem", "sex", "sju", "åtta", "nio", "en"),
    "tn": ("lefela", "nngwe", "pedi", "tharo", "nne", "tlhano", "thataro", "supa", "robedi", "robong"),
    "uk": (
        "нуль",
        "один",
        "два",
        "три",
        "чотири",
        "п'ять",
        "шість",
        "сім",
        "вісім",
        "дев'ять",
        "одна",
        "дві",
    ),
    "zh": ("零", "一", "二", "三", "四", "五", "六", "七", "八", "九"),
}


def plain(text: str) -> str:
    """Lower case, letters, marks and digits only, single spaces: for comparing, never for storing."""
    kept = (c if unicodedata.category(c)[0] in "LMN" or c == "'" else " " for c in text.lower())
    return " ".join("".join(kept).split())


def unit_of(text: str, language: str) -> str:
    """digit (nothing but spoken digits), word or sentence, from the text."""
    words = plain(text).split()
    if words and all(word in DIGITS.get(language, ()) for word in words):
        return "digit"
    return "word" if len(words) <= 3 else "sentence"


def spell_digits(text: str, language: str) -> str | None:
    """Lone digits 0..9 as words of `language`; None when another number is left that is not spelled out."""
    words = DIGITS.get(language)
    out = []
    for token in text.split():
        core = token.strip(".,;:!?\"'()")
        if len(core) == 1 and core in "0123456789" and words:
            token = token.replace(core, words[int(core)])
        if any(c.isdigit() for c in token):
            return None
        out.append(token)
    return " ".join(out)
