import subprocess
import sys
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest

from metavox.dataset.manifest import write_manifest
from metavox.errors import UserError
from metavox.sources.base import DIGITS, plain
from metavox.sources.build import _synthetic
from metavox.sources.profile import Synthetic, read_profile
from metavox.sources.synthetic import espeak
from metavox.sources.synthetic.languages import find_language, languages, scripts
from metavox.sources.synthetic.texts import MAX_CHARACTERS, Texts, of_list, of_manifest, of_profile, to_prompt
from metavox.sources.synthetic.words import ALL_DIGITS, names_of, words_of


def listed(tmp_path: Path, content: bytes | str, *languages: str) -> Texts:
    path = tmp_path / "list.txt"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return of_list(path, languages)


def accepted(texts: Texts) -> list[tuple[str, str]]:
    return [(text.language, text.text) for text in texts.accepted]


# CLDR


def test_words_are_short_and_of_one_script_without_digits() -> None:
    for language in ("en", "el", "hi", "ko", "ar", "vi"):
        words = words_of(language, 85, seed=1)
        assert words == words_of(language, 85, seed=1)
        assert len(set(words)) == 85
        for word in words:
            assert len(word.split()) <= 2
            assert not any(c.isdigit() for c in word)
            assert not ALL_DIGITS & set(plain(word).split())
    assert not any(c.isascii() and c.isalpha() for word in words_of("el", 85, 1) for c in word)


def test_words_of_a_language_do_not_depend_on_earlier_languages() -> None:
    """babel's cache once gave Spanish the months of Interlingua, and German the weekdays of Swahili."""
    before = ["ia", "sw", "ca", "ig", "es", "de", "sv"]
    code = "import sys; from metavox.sources.synthetic.words import names_of; n = [names_of(a) for a in sys.argv[1:]]; "
    code += "print(sorted(n[-1]))"
    for last in ("es", "de", "sv"):
        alone, after = (
            subprocess.run(
                [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True
            )
            for arguments in ([last], [*before, last])
        )
        assert alone.stdout == after.stdout
    assert "octobre" in names_of("ia")
    assert "octobre" not in names_of("es")


def test_no_words_where_cldr_has_none_of_the_language() -> None:
    for language in ("jbo", "piqd", "quc"):  # the last has placeholders only: Sun, Mon, M01
        with pytest.raises(UserError, match=f"language {language}: CLDR has no words in this language"):
            words_of(language, 5, 1)


# Languages


def test_a_language_is_found_by_code_case_and_alias() -> None:
    codes = {"it": "it", "PT-BR": "pt-br", "pt_BR": "pt-br", "zh": "cmn", "no": "nb", "en-gb": "en"}
    assert {code: find_language(code) for code in codes} == codes
    assert len(languages()) > 130


@pytest.mark.parametrize(
    ("wrong", "near"), [("italian", "it"), ("swahilli", "sw"), ("de-at", "de"), ("jp", "ja")]
)
def test_a_wrong_language_names_near_ones(wrong: str, near: str) -> None:
    with pytest.raises(UserError, match=rf"language {wrong}: .*similar:.* {near} \(") as caught:
        find_language(wrong)
    assert "\n" not in str(caught.value)


def test_every_listed_language_is_spoken() -> None:
    letters = {
        "LATIN": "mama",
        "ARABIC": "سلام",
        "CYRILLIC": "мама",
        "GREEK": "μαμά",
        "CJK": "你好",
        "HANGUL": "안녕",
        "DEVANAGARI": "मकान",
        "GEORGIAN": "მამა",
        "ARMENIAN": "մամա",
        "SHAVIAN": "𐑣𐑧𐑤𐑴",
    }
    texts = []
    for language in languages():
        readable = sorted(scripts(language) & set(letters))
        try:
            word = letters[readable[0]] if readable else words_of(espeak.manifest_language(language), 1, 1)[0]
        except UserError:
            word = "mama"
        texts.append(espeak.Text(word, language))
    found = list(espeak.recordings(espeak.plan(texts, espeak.SynthesisConfig(renditions=1))))
    assert len(found) == len(languages())


def test_the_scripts_that_espeak_reads_are_known() -> None:
    assert scripts("de") == scripts("pt-br") == {"LATIN", "MODIFIER"}
    # espeak-ng reads each kanji as "Chinese letter".
    assert scripts("ja") == {"HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA"}
    assert scripts("fa-latn") == {"LATIN"}
    assert "LATIN" not in scripts("ru")
    assert scripts("jbo") == set()


# Which texts can be spoken


@pytest.mark.parametrize(
    ("text", "language", "reason"),
    [
        ("", "en", "it is empty"),
        (" \u200b\u00ad ", "en", "it is empty"),
        ("?! ...", "en", "it contains no letter or digit"),
        ("bell\a", "en", r"U\+0007 is not a printable character"),
        ("a\0b", "en", r"U\+0000 is not a printable character"),
        ("x" * (MAX_CHARACTERS + 1), "en", "2001 characters; expected at most 2000"),
        ("hello мир", "en", "espeak-ng cannot read мир in en"),
        ("漢字", "ja", "espeak-ng cannot read 漢字 in ja"),
    ],
)
def test_a_text_that_cannot_be_spoken_has_a_reason(text: str, language: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        to_prompt(text, language)


def test_a_text_is_stored_as_it_will_be_spoken() -> None:
    assert to_prompt("  cafe\u0301\u200b \t noir ", "fr").text == "caf\u00e9 noir"
    assert to_prompt("می\u200cروم", "fa").text == "می\u200cروم"  # this joiner is spelling
    assert to_prompt("x" * MAX_CHARACTERS, "en").text == "x" * MAX_CHARACTERS


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("twelve pence", "spoken"),
        ("12 pence", "inferred"),
        ("50% off", "inferred"),
        ("I ♥ you", "inferred"),
        ("Press 7 now!", "spoken"),
        ("rock'n'roll, well-known", "spoken"),
        ("€ sign", "inferred"),
    ],
)
def test_figures_and_symbols_are_inferred(text: str, kind: str) -> None:
    assert to_prompt(text, "en").text_kind == kind


def test_isolated_digits_are_marked() -> None:
    spoken = {espeak.manifest_language(code) for code in languages()}
    for language in spoken & set(DIGITS):
        code = find_language(language)
        assert {to_prompt(digit, code).unit for digit in DIGITS[language]} == {"digit"}, language
    assert to_prompt("7", "en") == to_prompt("seven", "en")
    assert to_prompt("7", "en-us").text == "seven"
    assert to_prompt("sette due", "it").unit == "digit"
    # The words for digits in Albanian are unknown, so it is not spelled out, but it is still a digit.
    assert to_prompt("7", "sq").unit == "digit"
    assert to_prompt("seven", "en", "sentence").unit == "digit"
    assert to_prompt("seventeen", "en").unit == to_prompt("17", "en").unit == "word"
    assert to_prompt("one of the seven dwarfs", "en").unit == "sentence"
    assert to_prompt("a", "en", "letter").unit == "letter"


# Lists


def test_every_line_of_a_list_is_accepted_refused_or_counted(tmp_path: Path) -> None:
    content = (
        "\ufeffhello\nit\tciao\r\n\n  \nbad \udcff\nsw\tjambo\nhello \na\tb\tc\nnowhere\tfoo\n"
        + "y" * 10_000
        + "\nend"
    ).encode("utf-8", "surrogateescape")
    texts = listed(tmp_path, content, "en")
    assert accepted(texts) == [("en", "hello"), ("en", "end")]
    assert [(r.line, r.reason.split(";")[0]) for r in texts.refused] == [
        (5, "it is not UTF-8"),
        (8, "3 columns"),
        (10, "10000 characters"),
    ]
    assert (texts.blank, texts.repeated, dict(texts.left_out)) == (2, 1, {"another language": 3})


def test_lines_that_name_a_language_need_no_other(tmp_path: Path) -> None:
    texts = listed(tmp_path, "\ufeffit\tciao\nen\thello\nxq\tfoo\n")
    assert accepted(texts) == [("it", "ciao"), ("en", "hello")]
    assert texts.refused[0].line == 3
    assert "language xq: espeak-ng has no such language" in texts.refused[0].reason
    assert accepted(listed(tmp_path, "en\thello\n", "en-us", "en-029", "it")) == [
        ("en-us", "hello"),
        ("en-029", "hello"),
    ]
    with pytest.raises(UserError, match="line 2 has no language; give --language"):
        listed(tmp_path, "it\tciao\nhello\n")


@pytest.mark.parametrize("content", ["ciao\n".encode("utf-16"), "ciao\n".encode("utf-16-le"), b"\x7fELF\0\1"])
def test_a_file_that_is_not_utf8_is_a_one_line_error(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(UserError, match=r"list.txt: UTF-16 or not a text file; save it as UTF-8"):
        listed(tmp_path, content, "it")


def test_latin_1_is_refused_by_line(tmp_path: Path) -> None:
    texts = listed(tmp_path, "perché\ncasa\n".encode("latin-1"), "it")
    assert accepted(texts) == [("it", "casa")]
    assert [(r.line, r.text, r.reason) for r in texts.refused] == [(1, "perch\ufffd", "it is not UTF-8")]


# Manifests


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    rows = [
        ("hello", "en", "train", "word", "spoken", "CC-BY"),
        ("hello", "en", "test", "word", "spoken", "CC-BY"),
        ("goodbye", "en", "test", "word", "spoken", ""),
        ("what is heard", "en", "dev", "sentence", "spoken", ""),
        ("maybe", "en", "train", "word", "inferred", ""),
        ("ciao", "it", "", "word", "spoken", espeak.LICENSE),
        ("b", "it", "train", "letter", "spoken", ""),
        ("", "it", "train", "word", "spoken", ""),
        ("moin", "nds", "train", "word", "spoken", ""),
    ]
    table = pd.DataFrame(rows, columns=["text", "language", "split", "unit", "text_kind", "license"])
    table.insert(0, "path", [f"{i}.wav" for i in range(len(rows))])
    write_manifest(table.assign(speaker="v"), tmp_path / "manifest.csv")
    return tmp_path / "manifest.csv"


def test_texts_of_a_manifest_are_those_of_its_training_split(manifest: Path) -> None:
    texts = of_manifest(manifest.parent)
    assert accepted(texts) == [("en", "hello"), ("it", "ciao"), ("it", "b")]
    assert texts.accepted[0].license == f"{espeak.LICENSE}; text: CC-BY"
    assert texts.accepted[1].license == espeak.LICENSE
    assert texts.accepted[2].unit == "letter"
    assert dict(texts.left_out) == {"split test": 2, "split dev": 1, "text_kind inferred": 1}
    assert [(r.line, r.reason.split(":")[0]) for r in texts.refused] == [
        (9, "it is empty"),
        (10, "language nds"),
    ]


def test_languages_choose_rows_and_accents(manifest: Path) -> None:
    texts = of_manifest(manifest, ["en-us"])
    assert accepted(texts) == [("en-us", "hello")]
    assert texts.left_out["another language"] == 4
    assert not texts.refused


# Profiles


PROFILE = """
description: synthetic words only
packages: {}
sources: []
splits: {dev: [], test: []}
synthetic:
"""


def profile(tmp_path: Path, synthetic: str) -> Synthetic:
    path = tmp_path / "own.yaml"
    path.write_text(PROFILE + "\n".join(f"  {line}" for line in synthetic.split("; ")), encoding="utf-8")
    found = read_profile(str(path)).synthetic
    assert found
    return found


def test_a_profile_can_speak_a_list_in_its_folder(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("sette\nsw\tjambo\nporta aperta\n", encoding="utf-8")
    settings = "languages: [it, sw]; texts: words.txt; renditions: 3; rate: [100, 110]; voices: [m1, f1]; pitch: [50, 50]"
    synthetic = profile(tmp_path, settings)
    found = list(_synthetic(synthetic, [], lambda *_: None))
    assert {(r.language, r.text, r.unit) for r in found} == {
        ("it", "sette", "digit"),
        ("sw", "sette", "word"),
        ("sw", "jambo", "word"),
        ("it", "porta aperta", "word"),
        ("sw", "porta aperta", "word"),
    }
    assert {r.speaker for r in found} == {"espeak-m1", "espeak-f1"}
    assert synthetic.config == espeak.SynthesisConfig((100, 110), (50, 50), voices=("m1", "f1"), renditions=3)
    both = of_profile(profile(tmp_path, f"{settings}; words: 4"))
    assert len(both) == 2 * 4 + 5


def test_the_defaults_of_a_profile_are_those_of_the_built_corpora() -> None:
    for name, renditions in (("demo", 3), ("tiny", 6)):
        synthetic = read_profile(name).synthetic
        assert synthetic
        assert synthetic.config == espeak.SynthesisConfig((125, 210), (30, 70), (25, 75), (), renditions, 1)


@pytest.mark.parametrize(
    ("synthetic", "line"),
    [
        ("languages: [xq]; words: 3; renditions: 1", "synthetic: .*language xq: espeak-ng has no such"),
        ("languages: [it]; renditions: 1", "nothing to say; expected words, texts or both"),
        ("languages: [it]; words: 3; renditions: 1; rate: [9, 10]", "rate 9:10: expected"),
        ("languages: [it]; words: 3; renditions: 1; voices: [nobody]", "voice nobody: no such"),
    ],
)
def test_a_wrong_profile_is_a_one_line_error(tmp_path: Path, synthetic: str, line: str) -> None:
    with pytest.raises(UserError, match=line):
        profile(tmp_path, synthetic)


def test_a_refused_line_of_a_profile_stops_the_build(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("porta\n...\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"words.txt: line 2: it contains no letter or digit"):
        of_profile(profile(tmp_path, "languages: [it]; texts: words.txt; renditions: 1"))
    with pytest.raises(UserError, match=r"none.txt: no such file"):
        of_profile(profile(tmp_path, "languages: [it]; texts: none.txt; renditions: 1"))


def test_a_profile_can_speak_the_texts_of_recorded_training_speakers(tmp_path: Path) -> None:
    synthetic = profile(tmp_path, "languages: [it]; words: 2; renditions: 3; recorded: 2; longest: 6")
    row = {"text": "addio", "language": "it", "split": "train", "unit": "word", "text_kind": "spoken"}
    others = [
        {"split": "test"},
        {"unit": "digit"},
        {"unit": "sentence"},
        {"text_kind": "concept"},
        {"language": "xx"},
    ]
    rows = [row, row, *({**row, "text": "no", **other} for other in others)]
    found = list(_synthetic(synthetic, rows, lambda *_: None))
    counted = Counter(r.text for r in found)
    assert counted.pop("addio") == 2
    assert sorted(counted.values()) == [3, 3]
    assert max(map(len, counted)) <= 6
    assert len({r.name for r in found}) == len(found) == 8
