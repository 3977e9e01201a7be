from pathlib import Path

import pytest
from small_packages import prompt_package, queen_dialogue, queen_file

from metavox.audio.read import decode
from metavox.sources import SOURCES, asterisk, gcin, klettres, queen, saytime
from metavox.sources.base import DIGITS, spell_digits, unit_of


def put(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(path.encode())
    return root


@pytest.mark.parametrize("language", sorted(DIGITS))
def test_ten_digits_of_every_language_are_marked(language: str) -> None:
    assert len(DIGITS[language]) >= 10
    assert {unit_of(f"{word.capitalize()}.", language) for word in DIGITS[language]} == {"digit"}


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("five five", "digit"),
        ("five cards", "word"),
        ("Oh, no.", "word"),
        ("press the pound key", "sentence"),
    ],
)
def test_units(text: str, unit: str) -> None:
    assert unit_of(text, "en") == unit


def test_lone_digits_are_spelled_and_numbers_are_not() -> None:
    assert spell_digits("Press 1, or 2.", "en") == "Press one, or two."
    assert spell_digits("Dial 500 now", "en") is None


@pytest.mark.parametrize(
    ("line", "cleaned"),
    [
        ("dash [-]", ("dash", "spoken")),
        ("[sound of monkeys screaming]", ("", "spoken")),
        ("<beep ascending>", ("", "spoken")),
        ("leave your message (tone follows)", ("leave your message", "spoken")),
        ("Sorry, [that] is wrong", ("Sorry, is wrong", "inferred")),
        ("... to speak.", ("to speak.", "spoken")),
        ("Press 7", ("Press seven", "spoken")),
        ("H.323", ("H.323", "inferred")),
    ],
)
def test_prompt_texts_hold_what_is_spoken(line: str, cleaned: tuple[str, str]) -> None:
    assert asterisk.clean(line, "en") == cleaned


def test_asterisk(tmp_path: Path) -> None:
    texts = "﻿; a comment\nhello: Hello!\nbeep: a beep\ndigits/5: five\ndigits/h-5: fifth\nletters/a: a\n"
    sounds = "usr/share/asterisk/sounds/en_US_f_Allison"
    unpacked = {
        "asterisk-core-sounds-en": prompt_package(tmp_path, "asterisk-core-sounds-en", texts),
        "asterisk-core-sounds-en-wav": put(
            tmp_path / "wav",
            *(
                f"{sounds}/{n}.wav"
                for n in ("hello", "beep", "digits/5", "digits/h-5", "letters/a", "unknown")
            ),
        ),
    }
    found = {r.name: (r.text, r.unit, r.speaker_group) for r in asterisk.recordings(unpacked)}
    assert found == {
        "asterisk-en-allison/hello.wav": ("Hello!", "word", "allison"),
        "asterisk-en-allison/digits/5.wav": ("five", "digit", "allison"),
        "asterisk-en-allison/digits/h-5.wav": ("fifth", "word", "allison"),
        "asterisk-en-allison/letters/a.wav": ("a", "letter", "allison"),
    }


def test_allison_is_one_speaker_group_in_two_languages() -> None:
    assert {v.language for v in asterisk.SPEAKERS if v.speaker_group == "allison"} == {"en", "es"}


def test_queen_matches_segments_to_files_and_speakers(tmp_path: Path) -> None:
    entries = {
        "BOB1.DOG": queen_dialogue(2, {6: "Hi there.*02Eh?"}, {6: "*02Hello.*XY00(237,112)(sighs) Well.*00"}),
        "APE.DOG": queen_dialogue(3, {6: "Hi, ape."}, {6: "Oop!"}),
        "QUEEN2.JAS": b"It's sharp*24\r\nNo file for this*24\r\n",
        **{f"{n}.SB": n.encode() for n in ("020006J1", "020006P2", "020006P3", "030006P1", "JOE00411")},
    }
    game = tmp_path / "usr/share/scummvm/flight-of-the-amazon-queen/queen.1c"
    game.parent.mkdir(parents=True)
    game.write_bytes(queen_file(entries))
    found = {
        r.data.decode(): (r.speaker, r.text, r.text_kind) for r in queen.recordings({queen.PACKAGE: tmp_path})
    }
    assert found == {
        "020006J1": ("queen-joe", "Hi there.", "spoken"),
        "020006P2": ("queen-bob", "Hello.", "spoken"),
        "020006P3": ("queen-bob", "Well.", "inferred"),
        "JOE00411": ("queen-joe", "It's sharp", "spoken"),
    }


def test_klettres(tmp_path: Path) -> None:
    root = tmp_path / "usr/share/klettres"
    put(root, "nl/alpha/a.ogg", "nl/syllab/een.ogg", "nl/syllab/aap.ogg")
    (root / "nl/sounds.xml").write_text(
        '<!-- <sound name="X" file="nl/alpha/a.ogg" /> --><sound name="A" file="nl/alpha/a.ogg" />'
        '<sound name="AAP"  file="nl/syllab/aap.ogg"/><sound name="EEN" file="nl/syllab/een.ogg" />'
        '<sound name="B" file="nl/alpha/absent.ogg" />'
    )
    found = {r.text: (r.speaker, r.unit) for r in klettres.recordings({klettres.PACKAGE: tmp_path})}
    speaker = "klettres-nl"
    assert found == {"A": (speaker, "letter"), "aap": (speaker, "letter"), "een": (speaker, "digit")}


def test_gcin(tmp_path: Path) -> None:
    put(
        tmp_path / "usr/share/gcin-voice/ogg",
        "ㄌㄜ4/3.ogg",
        "ㄌㄜ4/5.ogg",
        "ㄨ3/3.ogg",
        "ㄨ/3.ogg",
        "ㄇㄛ1/3.ogg",
    )
    found = sorted((r.text, r.speaker, r.unit) for r in gcin.recordings({gcin.PACKAGE: tmp_path}))
    assert found == [
        ("ㄌㄜˋ", "gcin-3", "letter"),
        ("ㄌㄜˋ", "gcin-5", "letter"),
        ("ㄨ", "gcin-3", "letter"),
        ("ㄨˇ", "gcin-3", "digit"),
    ]


def test_saytime_samples_get_the_header_they_lack() -> None:
    samples, rate = decode(saytime.with_header(b"\xff\x7f\x00\x80" * 2000), "one.au")
    assert (len(samples), rate) == (8000, 8000)
    assert samples.min() < -0.9
    assert samples.max() > 0.9


def test_sources_state_their_name_packages_and_licence() -> None:
    for name, source in SOURCES.items():
        assert name == source.name
        assert source.packages
        assert source.license
