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
    """Whether the text contains a control character or an unpaired surrogate. Joiners, as in emoji, are allowed."""
    return any(unicodedata.category(c) in ("Cc", "Cs") for c in text)


def normalise_text(text: str) -> str:
    """The form of text that the conformer learns: NFKC, lower case, only letters, marks, numbers and apostrophes, with
    single spaces.

    Trained models depend on this form. Use `scoring_text` to compare transcripts and `label_key` to compare labels.
    """
    text = unicodedata.normalize("NFKC", text).lower().replace("’", "'")
    kept = "".join(c if unicodedata.category(c)[0] in "LMN" or c == "'" else " " for c in text)
    return " ".join(re.sub(r"(?<!\w)'|'(?!\w)", " ", kept).split())


def scoring_text(text: str, language: str = "") -> str:
    """The form in which references and transcripts are compared; applying it twice changes nothing.

    - Unicode's NFKC_Casefold is applied: width, ligatures, composition and case are ignored, and ß equals ss.
      Default-ignorable characters, such as zero-width joiners, variation selectors and soft hyphens, are removed.
    - If `language` (an ISO 639 code or a BCP 47 tag) is Turkish or Azerbaijani, I is the capital of ı, and İ that of i.
      Otherwise I is the capital of i, and İ loses its dot.
    - In Arabic script, tatweel, harakat and Quranic signs are removed, because they are optional. Letters are not
      unified: أ is not ا, and ة is not ه.
    - Only letters, their marks, numbers and apostrophes inside words are kept, with one space between words. The
      apostrophes ’ ‘ ʼ ʻ become '. In text `without_spaces`, spaces next to a character of the script are removed.
    """
    return _words_only(_casefolded(text, language), spoken_signs=False)


def label_key(text: str, language: str = "") -> str:
    """The identity of a label: two labels are the same word if and only if their keys are equal.

    Labels are compared as `scoring_text` compares transcripts, so `Stop`, `stop` and `stop.` are one word, composed or
    decomposed. Signs that are part of a name are kept, however: C, C++ and C# are three words, and 5 is not -5. A label
    without a letter or number, such as an emoji, is compared as it is written, except for variation selectors.
    """
    if not scoring_text(text, language):
        return " ".join(_VARIATION_SELECTORS.sub("", unicodedata.normalize("NFC", text)).split())
    return _words_only(_MINUS.sub("\u2212", _casefolded(text, language)), spoken_signs=True)


def one_spelling(labels: Sequence[str], languages: Sequence[str] = ()) -> list[str]:
    """The labels, with each word in its first spelling. `languages` gives the language of each label."""
    first: dict[str, str] = {}
    spelling: dict[tuple[str, str], str] = {}
    for pair in zip(labels, languages or [""] * len(labels), strict=True):
        if pair not in spelling:
            spelling[pair] = first.setdefault(label_key(*pair), pair[0])
    return [spelling[pair] for pair in zip(labels, languages or [""] * len(labels), strict=True)]


def without_spaces(text: str) -> bool:
    """Whether a text is in a script without spaces between words: Chinese, Japanese, Thai, Lao, Khmer or Burmese.

    The words of such a text cannot be counted without a segmenter. It may contain words in other scripts, as long as
    these are fewer than its characters in the unspaced scripts.
    """
    others, characters = _WITHOUT_SPACES.subn(" ", text)
    return characters > len(_LETTERS.findall(others))


def word_units(reference: str, transcript: str, language: str = "") -> tuple[list[str], list[str]]:
    """The units of a reference and of a transcript for the word error rate.

    These are words, or characters if the reference is written without spaces between words; the word error rate of such
    text is therefore its character error rate.
    """
    expected, actual = scoring_text(reference, language), scoring_text(transcript, language)
    return (list(expected), list(actual)) if without_spaces(expected) else (expected.split(), actual.split())


def any_words(texts: Iterable[str]) -> bool:
    """Whether any of the texts is written with spaces between words, so that it has a word error rate of its own."""
    return not all(map(without_spaces, texts))


def _casefolded(text: str, language: str) -> str:
    """NFKC_Casefold, plus the rules of some languages and scripts."""
    text = _IGNORABLE.sub("", text)
    if re.split("[-_]", language.lower())[0] in _DOTTED_AND_DOTLESS_I:
        text = unicodedata.normalize("NFKC", text).replace("İ", "i").replace("I", "ı")
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFD", text).casefold())
    text = unicodedata.normalize("NFKC", text.casefold()).replace("i\u0307", "i")
    text = _APOSTROPHES.sub("'", _ARABIC_OPTIONAL.sub("", text))
    return unicodedata.normalize("NFC", text)


def _words_only(text: str, spoken_signs: bool) -> str:
    """Only words of letters, marks, numbers and inner apostrophes, and with `spoken_signs` also signs."""
    kept: list[str] = []
    for character in text:
        kind = unicodedata.category(character)
        sign = spoken_signs and (kind in ("Sm", "Sc", "So") or character in _SPOKEN_SIGNS)
        if kind[0] == "M" and (not kept or kept[-1] in " '"):
            continue  # a mark without a base character
        kept.append(character if kind[0] in "LMN" or character == "'" or sign else " ")
    words = [word.strip("'") for word in re.sub("'+", "'", "".join(kept)).split()]
    spaced = " ".join(filter(None, words))
    return _NEEDLESS_SPACES.sub("", spaced) if without_spaces(spaced) else spaced
