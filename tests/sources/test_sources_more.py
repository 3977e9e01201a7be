"""Parsers of spoken games, stamps and spelling books, on small packages in the real format."""

import io
import shutil
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import pytest
import soundfile
from small_packages import prompt_package

from metavox.sources import SOURCES, asterisk, fillets, ktuberling, qabcs, tuxpaint
from metavox.sources.base import Recording
from metavox.sources.profile import read_profile

STAMPS = "usr/share/tuxpaint/stamps"
Unpacked = Mapping[str, Path]


def sound(seconds: float, pitch_hz: float = 220) -> bytes:
    """A recording that differs from those of another length or pitch."""
    out = io.BytesIO()
    time_s = np.arange(int(seconds * 8000)) / 8000
    soundfile.write(out, 0.3 * np.sin(2 * np.pi * pitch_hz * time_s), 8000, format="OGG", subtype="VORBIS")
    return out.getvalue()


def put(root: Path, files: Mapping[str, bytes | str]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return root


def stamps(root: Path) -> Unpacked:
    yak, flower = sound(1, 200), sound(1, 210)
    files: dict[str, bytes | str] = {
        "yak.txt": "A yak.\nes.utf8=Un yak.\nbe.utf8=Як.\nnl.utf8=Een yak.\nxx.utf8=Yak.\nca.utf8=\n",
        "yak.ogg": sound(2, 300),  # its noise
        "yak_desc.ogg": yak,
        "yak_desc_es.ogg": sound(1, 220),
        "yak_desc_be.ogg": sound(1, 230),
        "yak_desc_nl.ogg": sound(1, 240),
        "yak_desc_ca.ogg": sound(1, 245),  # without a text
        "yak_desc_da.ogg": sound(1, 246),
        "yak_desc_xx.ogg": sound(1, 247),  # an unknown speaker
        "rose1.txt": "A flower.\nes.utf8=Una flor.\n",
        "rose2.txt": "A flower.\nes.utf8=Una flor.\n",
        "rose1_desc_es.ogg": flower,
        "rose2_desc_es.ogg": flower,
        "cent.txt": "A cent.\nes.utf8=Una moneda de 1 centavo ($0,01).\n",
        "cent_desc_es.ogg": sound(2, 250),
        "queen.txt": "A queen.\nes.utf8=La dama. Puede moverse en todas las direcciones que hay en el tablero.\n",
        "queen_desc_es.ogg": sound(0.8, 260),  # 'La dama' and no more
        "symbols/math/8.txt": "Eight!\nes.utf8=¡Ocho!\nzh_TW.utf8=八\nfr.utf8=Huit.\n",
        "symbols/math/8.ogg": sound(1, 270),
        "symbols/math/8_es.ogg": sound(1, 280),
        "symbols/math/8_zh_tw.ogg": sound(1, 290),
        "symbols/math/8_desc_fr.ogg": sound(1, 295),
        "symbols/alphabets/english/filled/lowercase/b_filled.txt": "The letter b.\nfr.utf8=La lettre b.\n",
        "symbols/alphabets/english/filled/lowercase/b_filled_en_GB.ogg": sound(1, 310),
        "symbols/alphabets/english/filled/lowercase/b_filled_desc_fr.ogg": sound(1, 320),
        "symbols/alphabets/english/filled/lowercase/b_filled_desc_es.ogg": sound(1, 325),
        "symbols/alphabets/asl/asl_zzz_4.txt": "The sign for 4.\nca.utf8=El signe pel nombre 4.\n",
        "symbols/alphabets/asl/asl_zzz_4_desc_ca.ogg": sound(1, 330),
    }
    return {tuxpaint.PACKAGE: put(root / "stamps" / STAMPS, files).parents[3]}


def fish(root: Path) -> Unpacked:
    script = (
        'dialogId("a-m-hej", "font_small", "Hey!")\ndialogStr("Hej, \\"hráči\\"!")\n\n'
        'dialogId("a-v-kam", "font_big", "Where?")\ndialogStr(\n"Kam jdeš, a proč?")\n'
        'dialogId("z-1", "", "")\ndialogStr("")\ndialogId("n", "font_white", "%1 h")\ndialogStr("%1 hodin")\n'
        'dialogId("oba", "font_both", "Hm")\ndialogStr("Hmm")\n'
        'dialogId("hs-1", "font_statue", "Well")\ndialogStr("Loď LC-10.")\ndialogId("no", "font_big", "a")\n'
    )
    cs, names = fillets.GAME, ("a-m-hej", "a-v-kam", "z-1", "n", "oba", "hs-1", "no", "unknown")
    put(root / "s", {f"{cs}/script/hole2/dialogs_cs.lua": script})
    put(
        root / "s",
        {
            f"{cs}/script/share/bore_dialogs_nl.lua": 'dialogId("ob-m-co", "font_small", "")\ndialogStr("Wat?")'
        },
    )
    put(root / "cs", {f"{cs}/sound/hole2/cs/{n}.ogg": n for n in names})
    put(root / "nl", {f"{cs}/sound/share/borejokes/nl/ob-m-co.ogg": "wat"})
    return {
        fillets.SCRIPTS: root / "s",
        "fillets-ng-data-cs": root / "cs",
        "fillets-ng-data-nl": root / "nl",
    }


def novel(root: Path) -> Unpacked:
    speaker = "usr/share/festival/voices/russian/msu_ru_nsh_clunits"
    lines = '( ru_0002 "Завела прядь вол+ос, за ухо." )\n( ru_0001 "+Окна  домов." )\n( ru_0003 "Нет." )\n'
    files = {
        f"{speaker}/etc/txt.done.data": lines,
        **{f"{speaker}/wav/ru_000{i}.wav": str(i) for i in (1, 2, 4)},
    }
    return {"festvox-ru": put(root / "ru", files)}


def potato(root: Path) -> Unpacked:
    def theme(language: str, *pairs: tuple[str, str]) -> str:
        sounds = "".join(f'<sound name="{name}" file="{file}" />\n' for name, file in pairs)
        return f'<language code="{language}">{sounds}</language>'

    files = {
        "sr.soundtheme": theme("sr", ("eye", "sr/oko.ogg"), ("hat", "sr/absent.ogg")),
        "sr@latin.soundtheme": theme("sr@latin", ("eye", "sr@latin/oko.ogg")),
        "nn.soundtheme": theme(
            "nn", ("moon_star", "nn/a.opus"), ("xmas_star", "nn/b.opus"), ("tux-bow", "nn/c.wav")
        ),
        "sr/oko.ogg": "oko",
        "sr@latin/oko.ogg": "oko",
        "nn/a.opus": "stjerne",
        "nn/b.opus": "stjerne",
        "nn/c.wav": "oko",
        "nn/unused.ogg": "?",
    }
    return {ktuberling.PACKAGE: put(root / "k/usr/share/ktuberling/sounds", files).parents[3]}


def spelling(root: Path) -> Unpacked:
    book = (
        '{"general": {"language": "English (US)"}, "letters": [\n {"A": {"sound_letter": "A.ogg",\n'
        '"misc": {"name": "APPLE PIE", "sound_pic": "apple_pie.ogg", "noises": "apple.ogg"},\n'
        '"food": {"name": "APPLE PIE", "sound_pic": "apple_pie.ogg"},\n'
        '"toys": {"name": "ANKLET", "sound_pic": "anklet.ogg"}}}]}'
    )
    en, de = "abcs/en", "abcs/de"
    files = {
        f"{en}/abc1.json": book,
        f"{en}/sounds/alpha/a.ogg": "a",
        f"{en}/sounds/words/apple_pie.ogg": "p",
    }
    files |= {f"{de}/abc1.properties": "#a\nmisc:a=apfel==apple", f"{de}/sounds/words/apfel.ogg": "synthetic"}
    return {qabcs.PACKAGE: put(root / "q/usr/share/qabcs", files).parents[2]}


PACKAGES: dict[str, Callable[[Path], Unpacked]] = {
    "tuxpaint": stamps,
    "fillets": fish,
    "festvox": novel,
    "ktuberling": potato,
    "qabcs": spelling,
}


def read(source: str, root: Path) -> list[Recording]:
    return list(SOURCES[source].recordings(PACKAGES[source](root)))


@pytest.mark.parametrize("source", sorted(PACKAGES))
def test_every_recording_is_listed_once_in_a_fixed_order(source: str, tmp_path: Path) -> None:
    unpacked = PACKAGES[source](tmp_path / "one")
    found = list(SOURCES[source].recordings(unpacked))
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    moved = {name: tmp_path / "two" / path.relative_to(tmp_path / "one") for name, path in unpacked.items()}
    assert found
    assert list(SOURCES[source].recordings(moved)) == found
    assert len({r.name for r in found}) == len(found)
    assert len({(r.language, r.data) for r in found}) == len(found)
    for recording in found:
        assert recording.text == recording.text.strip() != ""
        assert recording.speaker.startswith(f"{source}-")
        assert recording.unit in ("digit", "letter", "word", "sentence")
        assert recording.text_kind in ("spoken", "inferred", "concept")
        assert recording.license
    assert SOURCES[source].packages == tuple(unpacked)


def test_tuxpaint_takes_spoken_texts_only(tmp_path: Path) -> None:
    found = {r.name: (r.speaker, r.language, r.text, r.unit, r.text_kind) for r in read("tuxpaint", tmp_path)}
    letters = "symbols/alphabets/english/filled/lowercase/b_filled"
    assert found == {
        "yak_desc.ogg": ("tuxpaint-en", "en", "A yak.", "word", "spoken"),
        "yak_desc_es.ogg": ("tuxpaint-es", "es", "Un yak.", "word", "spoken"),
        "yak_desc_be.ogg": ("tuxpaint-be", "be", "Як.", "word", "spoken"),
        "yak_desc_nl.ogg": ("tuxpaint-nl", "nl", "yak.", "word", "inferred"),
        "rose1_desc_es.ogg": ("tuxpaint-es", "es", "Una flor.", "word", "spoken"),
        "cent_desc_es.ogg": ("tuxpaint-es", "es", "Una moneda de uno centavo.", "sentence", "inferred"),
        "symbols/math/8.ogg": ("tuxpaint-en-numbers", "en", "Eight!", "digit", "spoken"),
        "symbols/math/8_es.ogg": ("tuxpaint-es-numbers", "es", "¡Ocho!", "digit", "spoken"),
        "symbols/math/8_zh_tw.ogg": ("tuxpaint-zh_tw-numbers", "zh", "八", "digit", "spoken"),
        "symbols/math/8_desc_fr.ogg": ("tuxpaint-fr", "fr", "Huit.", "digit", "spoken"),
        f"{letters}_en_GB.ogg": ("tuxpaint-en_GB", "en", "b", "letter", "spoken"),
        f"{letters}_desc_fr.ogg": ("tuxpaint-fr", "fr", "b", "letter", "spoken"),
        "symbols/alphabets/asl/asl_zzz_4_desc_ca.ogg": ("tuxpaint-ca", "ca", "quatre", "digit", "inferred"),
    }


def test_fillets_matches_lines_to_files_and_colours_to_speakers(tmp_path: Path) -> None:
    found = {r.name: (r.speaker, r.text, r.text_kind) for r in read("fillets", tmp_path)}
    assert found == {
        "cs/hole2/cs/a-m-hej.ogg": ("fillets-cs-small", 'Hej, "hráči"!', "spoken"),
        "cs/hole2/cs/a-v-kam.ogg": ("fillets-cs-big", "Kam jdeš, a proč?", "spoken"),
        "cs/hole2/cs/hs-1.ogg": ("fillets-cs-hole-statue", "Loď LC-10.", "inferred"),
        "nl/share/borejokes/nl/ob-m-co.ogg": ("fillets-nl-small", "Wat?", "spoken"),
    }


def test_festvox_drops_stress_marks(tmp_path: Path) -> None:
    assert {r.name: r.text for r in read("festvox", tmp_path)} == {
        "ru_0001.wav": "Окна домов.",
        "ru_0002.wav": "Завела прядь волос, за ухо.",
    }


def test_ktuberling_names_concepts(tmp_path: Path) -> None:
    found = {r.name: (r.text, r.speaker, r.text_kind) for r in read("ktuberling", tmp_path)}
    assert found == {
        "sr/oko.ogg": ("eye", "ktuberling-sr", "concept"),
        "nn/a.opus": ("moon star", "ktuberling-nn", "concept"),
        "nn/c.wav": ("tux bow", "ktuberling-nn", "concept"),
    }


def test_qabcs_leaves_synthetic_speakers_out(tmp_path: Path) -> None:
    assert {r.name: (r.text, r.unit) for r in read("qabcs", tmp_path)} == {
        "en/alpha/a.ogg": ("a", "letter"),
        "en/words/apple_pie.ogg": ("apple pie", "word"),
    }


def test_each_prompt_gets_its_own_text(tmp_path: Path) -> None:
    texts = (
        "a-one: Mute... a-two: Unmute now a-three: Only here.a-four: Dot before\n"
        "a-two: Unmute later\nb-one: b-one: Said twice\nb-two: As follows:\nis:\nc-one: ? {\n"
    )
    package = prompt_package(tmp_path, "asterisk-core-sounds-en", texts)
    assert asterisk.prompt_texts(package, "en") == {
        "a-one": ("Mute...",),
        "a-two": ("Unmute later", "Unmute now"),
        "a-three": ("Only here.",),
        "a-four": ("Dot before",),
        "b-one": ("Said twice",),
        "b-two": ("As follows:",),
        "is": (),
        "c-one": ("? {",),
    }
    wav = put(
        tmp_path / "wav", {f"{asterisk.FOLDER}/en_US_f_Allison/{n}.wav": n for n in ("a-one", "a-two", "is")}
    )
    unpacked = {"asterisk-core-sounds-en": package, "asterisk-core-sounds-en-wav": wav}
    assert [(r.text, r.text_kind) for r in asterisk.recordings(unpacked)] == [
        ("Mute", "spoken"),
        ("Unmute later", "inferred"),
    ]


def test_letters_lost_in_the_italian_list_are_restored(tmp_path: Path) -> None:
    package = prompt_package(tmp_path, "asterisk-core-sounds-it", "full: La conferenza ? piena.\nwho: Chi?\n")
    assert asterisk.prompt_texts(package, "it") == {"full": ("La conferenza è piena.",), "who": ("Chi?",)}


def test_full_keeps_the_splits_of_demo_and_contains_every_source() -> None:
    demo, full = read_profile("demo"), read_profile("full")
    assert set(full.sources) == set(SOURCES)
    assert set(full.packages) == {package for source in SOURCES.values() for package in source.packages}
    assert demo.packages.items() <= full.packages.items()
    for side in ("dev", "test"):
        assert set(getattr(demo.splits, side)) <= set(getattr(full.splits, side))
    both = [
        (d, t) for d in full.splits.dev for t in full.splits.test if fnmatchcase(d, t) or fnmatchcase(t, d)
    ]
    assert not both


def test_languages_of_the_test_split_only_are_not_synthesised() -> None:
    full = read_profile("full")
    assert full.synthetic
    for language, speaker in (("el", "tuxpaint-el"), ("sl", "ktuberling-sl"), ("lt", "tuxpaint-lt-numbers")):
        assert full.splits.of(speaker) == "test"
        assert language not in full.synthetic.languages
    assert not {"it", "zh", "he", "ja", "ca"} & set(full.synthetic.languages)
