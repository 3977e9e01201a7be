"""Text as the recognisers spell it, as labels are compared, and as transcripts are scored."""

import re
import unicodedata
from collections.abc import Iterable, Sequence

# Unicode's Default_Ignorable_Code_Point: joiners, variation selectors, direction marks, soft hyphens, fillers.
_IGNORABLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
_VARIATION_SELECTORS = re.compile("[\ufe00-\ufe0f]")
# Tatweel, harakat with the superscript alef, honorifics and Quranic signs. Madda and hamza (U+0653 to U+0655) make
# letters of their own, and the marks after them are letters of other languages, as of Kashmiri.
_ARABIC_OPTIONAL = re.compile(
    "[\u0640\u0610-\u061a\u064b-\u0652\u0670\u06d6-\u06dc\u06df-\u06e4\u06e7\u06e8\u06ea-\u06ed]"
)
_APOSTROPHES = re.compile("[\u02bb\u02bc\u2018\u2019]")
_MINUS = re.compile(r"(?<![\w-])-(?=\d)")
_LETTERS = re.compile(r"[^\W\d_]+")
_SPOKEN_SIGNS = "#%&*@"  # punctuation to Unicode, but part of what a label says
_DOTTED_AND_DOTLESS_I = frozenset({"tr", "tur", "az", "aze", "azj"})
_UNSPACED = (
    "[\u0e00-\u0eff"  # Thai, Lao
    "\u1000-\u109f\ua9e0-\ua9ff\uaa60-\uaa7f"  # Burmese
    "\u1780-\u17ff"  # Khmer
    "\u3005-\u3007\u3040-\u30ff\u3100-\u312f\u31a0-\u31bf\u31f0-\u31ff"  # kana, bopomofo
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U0001b000-\U0001b16f\U00020000-\U0003ffff]"  # Han, old kana
)
_WITHOUT_SPACES = re.compile(_UNSPACED)
_NEEDLESS_SPACES = re.compile(f"(?<={_UNSPACED}) | (?={_UNSPACED})")


def has_controls(text: str) -> bool:
    """Whether there is a control character in it, or half of a surrogate pair. Joiners, as in emoji, are none."""
    return any(unicodedata.category(c) in ("Cc", "Cs") for c in text)


def normalise_text(text: str) -> str:
    """Lower case, NFKC, letters, marks, numbers and apostrophes only, single spaces: the form that the small network
    learns to spell.

    Checkpoints depend on it. To compare transcripts use `scoring_text`, to compare labels `label_key`.
    """
    text = unicodedata.normalize("NFKC", text).lower().replace("’", "'")
    kept = "".join(c if unicodedata.category(c)[0] in "LMN" or c == "'" else " " for c in text)
    return " ".join(re.sub(r"(?<!\w)'|'(?!\w)", " ", kept).split())


def scoring_text(text: str, language: str = "") -> str:
    """The form in which references and transcripts are compared; applying it twice changes nothing.

    - Unicode's NFKC_Casefold: width, ligatures and composition do not count, nor does case; ß is ss. Default-ignorable
      characters, such as zero-width joiners, variation selectors and soft hyphens, are removed.
    - I is the capital of ı, and İ of i, where `language` (an ISO 639 code or a BCP 47 tag) is Turkish or Azerbaijani;
      in every other language, and where none is given, the capital of i is I, and İ loses its dot.
    - Arabic script loses tatweel, harakat and Quranic signs, which writers may leave out. Letters are not unified:
      أ is not ا, and ة is not ه.
    - What remains is letters, their marks, numbers and the apostrophes inside words, with one space between words. The
      apostrophes ’ ‘ ʼ ʻ are '. In text `without_spaces`, a space beside a character of its script is removed.
    """
    return _kept(_folded(text, language), spoken_signs=False)


def label_key(text: str, language: str = "") -> str:
    """What identifies a label: two labels are the same word if and only if their keys are equal.

    `Stop`, `stop` and `stop.`, composed or decomposed, are one word: labels are compared as `scoring_text` compares
    transcripts, but the signs that are part of a name count, so that C, C++ and C# are three words, and 5 is not -5. A
    label without any letter or number, such as an emoji, is compared as it is written, but for variation selectors.
    """
    if not scoring_text(text, language):
        return " ".join(_VARIATION_SELECTORS.sub("", unicodedata.normalize("NFC", text)).split())
    return _kept(_MINUS.sub("\u2212", _folded(text, language)), spoken_signs=True)


def one_spelling(labels: Sequence[str], languages: Sequence[str] = ()) -> list[str]:
    """The labels, each word in the spelling in which it came first. `languages` gives the language of each label."""
    first: dict[str, str] = {}
    spelling: dict[tuple[str, str], str] = {}
    for pair in zip(labels, languages or [""] * len(labels), strict=True):
        if pair not in spelling:
            spelling[pair] = first.setdefault(label_key(*pair), pair[0])
    return [spelling[pair] for pair in zip(labels, languages or [""] * len(labels), strict=True)]


def without_spaces(text: str) -> bool:
    """Whether it is written in a script that puts no space between words: Chinese, Japanese, Thai, Lao, Khmer or Burmese.

    Such text has no words that could be counted without a segmenter. It may hold words of other scripts, but fewer than
    characters of these.
    """
    others, characters = _WITHOUT_SPACES.subn(" ", text)
    return characters > len(_LETTERS.findall(others))


def word_units(reference: str, transcript: str, language: str = "") -> tuple[list[str], list[str]]:
    """The units that a word error rate counts, of a reference and of what was heard.

    They are words, or characters where the reference is written without spaces between words: the word error rate of
    such text is its character error rate.
    """
    said, heard = scoring_text(reference, language), scoring_text(transcript, language)
    return (list(said), list(heard)) if without_spaces(said) else (said.split(), heard.split())


def any_words(texts: Iterable[str]) -> bool:
    """Whether any of the texts has words to count, so that a word error rate says more than a character error rate."""
    return not all(map(without_spaces, texts))


def _folded(text: str, language: str) -> str:
    """NFKC_Casefold, and what languages and scripts ask for on top of it."""
    text = _IGNORABLE.sub("", text)
    if re.split("[-_]", language.lower())[0] in _DOTTED_AND_DOTLESS_I:
        text = unicodedata.normalize("NFKC", text).replace("İ", "i").replace("I", "ı")
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFD", text).casefold())
    text = unicodedata.normalize("NFKC", text.casefold()).replace("i\u0307", "i")
    text = _APOSTROPHES.sub("'", _ARABIC_OPTIONAL.sub("", text))
    return unicodedata.normalize("NFC", text)


def _kept(text: str, spoken_signs: bool) -> str:
    """Words of letters, marks, numbers and inner apostrophes, and of `spoken_signs` where these count."""
    kept: list[str] = []
    for character in text:
        kind = unicodedata.category(character)
        sign = spoken_signs and (kind in ("Sm", "Sc", "So") or character in _SPOKEN_SIGNS)
        if kind[0] == "M" and (not kept or kept[-1] in " '"):
            continue  # a mark on nothing
        kept.append(character if kind[0] in "LMN" or character == "'" or sign else " ")
    words = [word.strip("'") for word in re.sub("'+", "'", "".join(kept)).split()]
    spaced = " ".join(filter(None, words))
    return _NEEDLESS_SPACES.sub("", spaced) if without_spaces(spaced) else spaced
