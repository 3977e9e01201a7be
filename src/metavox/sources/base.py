"""The protocol of sources: a parser turns unpacked packages into recordings."""

import unicodedata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Recording:
    """One recording in its original encoding.

    `name` is the path within the shard, with the suffix of the encoding, and is unique in its source. `unit` is digit
    (only spoken digits, in any language), letter (letters and syllables), word (up to three words) or sentence.
    `text_kind` says how far to trust the text: spoken, inferred or concept.
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
"""Package name -> folder of the unpacked package; yields recordings in an order that depends on nothing else."""


@dataclass(frozen=True)
class Source:
    name: str
    packages: tuple[str, ...]
    license: str
    description: str
    recordings: Parser


# The ten spoken digits, then other forms by gender or usage. Pipelines leave isolated digits out of training, so all of
# them must be recognised and marked.
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
    """The text in lower case with letters, marks, digits and single spaces only, for comparison and never for storage."""
    kept = (c if unicodedata.category(c)[0] in "LMN" or c == "'" else " " for c in text.lower())
    return " ".join("".join(kept).split())


def unit_of(text: str, language: str) -> str:
    """The unit of a text: digit (only spoken digits), word (up to three words) or sentence."""
    words = plain(text).split()
    if words and all(word in DIGITS.get(language, ()) for word in words):
        return "digit"
    return "word" if len(words) <= 3 else "sentence"


def spell_digits(text: str, language: str) -> str | None:
    """The text with single digits 0 to 9 as words of `language`; None if any other number remains."""
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
