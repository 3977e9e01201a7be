"""Which labels are one word, and properties of the forms in which texts are compared."""

import unicodedata
from random import Random

import pytest

from metavox.text import label_key, one_spelling, scoring_text, without_spaces

CHARACTERS = [
    chr(code)
    for code in range(0x20000)
    if unicodedata.category(chr(code)) not in ("Cs", "Cn", "Co")
    and unicodedata.name(chr(code), "").split(" ")[0]
    not in ("CJK", "HANGUL", "TANGUT", "CUNEIFORM", "EGYPTIAN")
]


@pytest.mark.parametrize("form", [scoring_text, label_key])
@pytest.mark.parametrize("language", ["", "tr"])
def test_forms_are_idempotent_and_independent_of_composition(form, language: str) -> None:  # type: ignore[no-untyped-def]
    """Checks sampled characters, and random strings of marks, signs, joiners and letters of all scripts."""
    random = Random(0)
    marks = [c for c in CHARACTERS if unicodedata.category(c)[0] in "MPSC"]
    texts = [f"a{c}b" for c in random.sample(CHARACTERS, 1500)]
    texts += ["".join(random.choices(CHARACTERS, k=6)) for _ in range(500)]
    texts += [
        f"a{''.join(random.choices(marks, k=3))}'b{''.join(random.choices(marks, k=2))}" for _ in range(500)
    ]
    for text in texts:
        found = form(text, language)
        assert form(found, language) == found, ascii(text)
        for composition in ("NFC", "NFD"):
            assert form(unicodedata.normalize(composition, text), language) == found, ascii(text)


ONE_WORD = [
    ("Stop", "stop", "stop.", " STOP! ", "«stop»", "sto\u00adp", "ｓｔｏｐ"),
    ("Café", "cafe\u0301", "CAFÉ,"),
    ("Straße", "STRASSE", "straße"),
    ("كـتاب", "كِتَاب", "كتاب"),
    ("نمی\u200cدانم", "نمیدانم"),
    ("❤️", "❤"),
    ("C++", "c++."),
    ("-5", "−5"),
]
SEPARATE = [
    ("C", "C++", "C#"),
    ("5", "-5", "5%"),
    ("👍", "👎", "👍🏽"),
    ("👨\u200d👩\u200d👧", "👨👩👧"),
    ("🇩🇪", "🇫🇷"),
    (
        "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
        "🏴\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f",
    ),
    ("resume", "résumé"),
    ("أمل", "امل"),
    ("?", "!"),
]


@pytest.mark.parametrize("labels", ONE_WORD)
def test_spellings_of_one_word_become_the_first_spelling(labels: tuple[str, ...]) -> None:
    assert len(set(map(label_key, labels))) == 1
    assert one_spelling([*labels, *labels]) == [labels[0]] * 2 * len(labels)


@pytest.mark.parametrize("labels", SEPARATE)
def test_different_words_stay_separate(labels: tuple[str, ...]) -> None:
    assert one_spelling(labels) == list(labels)


def test_the_capital_i_depends_on_the_language() -> None:
    assert one_spelling(["ISI", "ısı"], ["tr", "tr-TR"]) == ["ISI", "ISI"]
    assert one_spelling(["ISI", "isi", "ısı"], ["en"] * 3) == ["ISI", "ISI", "ısı"]
    assert label_key("İzmir") == label_key("izmir") == label_key("İzmir", "tr")


def test_every_label_has_a_key() -> None:
    for character in CHARACTERS:
        if not character.isspace() and unicodedata.category(character)[0] in "LNSP":
            blank = not scoring_text(character) and not label_key(character)
            assert not blank or not character.isprintable() or "FILLER" in unicodedata.name(character), ascii(
                character
            )


def test_scripts_without_spaces() -> None:
    for text in (
        "我爱你",
        "ひらがな",
        "カタカナ",
        "ภาษาไทย",
        "ພາສາລາວ",
        "ភាសាខ្មែរ",
        "မြန်မာ",
        "用 iPhone 拍照片吧",
    ):
        assert without_spaces(text), text
    for text in ("한국어", "नमस्ते", "stop", "", "123", "👍", "the word 猫", "Tiếng Việt"):
        assert not without_spaces(text), text
