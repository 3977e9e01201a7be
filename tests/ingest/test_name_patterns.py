"""Patterns are inferred from common naming schemes, and ambiguous names give none."""

import pytest

from metavox.ingest.name_patterns import infer_pattern


@pytest.mark.parametrize(
    ("names", "pattern"),
    [
        ("yes/1 yes/2 no/1", "{text}/{}"),
        ("anna/yes/1 anna/no/1 bert/yes/1", "{speaker}/{text}/{}"),
        ("anna/yes/1 anna/no/1", "{speaker}/{text}/{}"),
        ("yes/s01/1 yes/s02/1 no/s01/1", "{text}/{speaker}/{}"),
        ("lights-on/anna/1 lights-on/bert/1 music/anna/1", "{text}/{speaker}/{}"),
        ("train/yes/1 test/yes/1 train/no/2", "{split}/{text}/{}"),
        ("anna_lights-on_01 anna_music_01 bert_lights-on_01", "{speaker}_{text}_{}"),
        ("anna_good_morning_1 anna_yes_2 bert_yes_1", "{speaker}_{text}_{}"),
        ("yes_anna no_anna yes_bert", "{text}_{speaker}"),
        ("s1-yes-1 s1-no-1 s2-yes-1", "{speaker}-{text}-{}"),
        ("lights-on_01 lights-off_01", "{text}_{}"),
        ("01_yes 02_no 03_yes", "{}_{text}"),
        ("01_yes 01_no 02_yes", "{speaker}_{text}"),
    ],
)
def test_pattern_of_names(names: str, pattern: str) -> None:
    assert infer_pattern(name.split("/") for name in names.split()) == pattern


@pytest.mark.parametrize(
    "names",
    [
        "",
        "anna/yes/1",
        "84/121/1 84/122/1 19/121/2",  # a chapter of a book is no label
        "anna/wav/1 bert/wav/1",
        "training/yes/1 validation/yes/1 training/no/1",
        "anna/monday/1 bert/tuesday/1",
        "0_jackson_1 1_jackson_1 0_theo_1",  # jackson says the digit
        "IMG_0001 IMG_0002",
        "01_monday 01_tuesday 02_monday",
        "lights_on_1 lights_off_1",
        "recording",
        "a/b/c/1",
    ],
)
def test_ambiguous_names(names: str) -> None:
    assert infer_pattern(name.split("/") for name in names.split()) == ""
