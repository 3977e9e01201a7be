"""Grammars in Home Assistant's form: what they contain, what it means, and what is refused in one line."""

from pathlib import Path
from typing import Any

import pytest
from hassil import recognize
from hassil.intents import Intents

from metavox.errors import UserError
from metavox.recognition.grammar import Meaning, grammar_of, load_grammar

LIGHTS: dict[str, Any] = {
    "language": "en",
    "intents": {
        "TurnOn": {
            "data": [{"sentences": ["(turn | switch) on [the] {area} lights", "[the] {area} lights on"]}]
        },
        "Brightness": {
            "data": [
                {
                    "sentences": ["set [the] {area} lights to {brightness} percent"],
                    "slots": {"domain": "light"},
                }
            ]
        },
    },
    "lists": {
        "area": {
            "values": [{"in": "kitchen", "out": "k1"}, "living room", {"in": "bed[ ]room", "out": "b1"}]
        },
        "brightness": {"range": {"from": 0, "to": 100, "step": 10}},
    },
    "skip_words": ["please"],
}


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("Turn on the kitchen lights!", Meaning("TurnOn", {"area": "k1"})),
        ("switch on living room lights", Meaning("TurnOn", {"area": "living room"})),
        ("the bedroom lights on", Meaning("TurnOn", {"area": "b1"})),
        ("bed room lights on", Meaning("TurnOn", {"area": "b1"})),
        ("please turn on please the kitchen lights please", Meaning("TurnOn", {"area": "k1"})),
        (
            "set the kitchen lights to fifty percent",
            Meaning("Brightness", {"area": "k1", "brightness": 50, "domain": "light"}),
        ),
        (
            "set kitchen lights to 100 percent",
            Meaning("Brightness", {"area": "k1", "brightness": 100, "domain": "light"}),
        ),
        ("set kitchen lights to 55 percent", None),
        ("turn on the lights", None),
        ("turn on the kitchen lights now", None),
        ("please", None),
        ("", None),
    ],
)
def test_meanings(text: str, meaning: Meaning | None) -> None:
    assert grammar_of(LIGHTS).meaning(text) == meaning


SENTENCES = [
    "turn on the kitchen lights",
    "living room lights on",
    "set bedroom lights to 30 percent",
    "lights",
    "turn on",
]


@pytest.mark.parametrize("text", SENTENCES)
def test_meanings_are_those_of_hassil(text: str) -> None:
    found = recognize(text, Intents.from_dict(LIGHTS))
    own = grammar_of(LIGHTS).meaning(text)
    if found is None:
        assert own is None
    else:
        assert own is not None
        assert own.intent == found.intent.name
        assert own.slots == {name: entity.value for name, entity in found.entities.items()}


def with_sentences(*sentences: str, **rest: Any) -> dict[str, Any]:
    return {"intents": {"A": {"data": [{"sentences": list(sentences)}]}}, **rest}


def test_permutations_and_rules() -> None:
    grammar = grammar_of(with_sentences("go (left;<fast>)", expansion_rules={"fast": "(fast | quickly)"}))
    assert [
        grammar.meaning(text) is not None
        for text in ("go left fast", "go quickly left", "go left", "go fast fast")
    ] == [
        True,
        True,
        False,
        False,
    ]


def test_a_wildcard_takes_any_words() -> None:
    grammar = grammar_of(with_sentences("call {name} now", lists={"name": {"wildcard": True}}))
    assert grammar.meaning("call Anna Maria now") == Meaning("A", {"name": "anna maria"})
    assert grammar.meaning("call now") is None


def test_values_from_a_file_and_from_enrolled_words(tmp_path: Path) -> None:
    (tmp_path / "colours.txt").write_text("# colours\nred\ndeep blue:navy\n")
    lists = {"colour": {"file": "colours.txt"}, "scene": {"enrolled": True}}
    grammar = grammar_of(
        with_sentences("{colour}", "scene {scene}", lists=lists), folder=tmp_path, enrolled=["party"]
    )
    assert grammar.meaning("deep blue") == Meaning("A", {"colour": "navy"})
    assert grammar.meaning("red") == Meaning("A", {"colour": "red"})
    assert grammar.meaning("scene party") == Meaning("A", {"scene": "party"})


def test_a_list_of_50000_values() -> None:
    values = [f"name {number} of many" for number in range(50_000)]
    grammar = grammar_of(with_sentences("call {who}", lists={"who": {"values": values}}))
    assert grammar.meaning("call name 49321 of many") == Meaning("A", {"who": "name 49321 of many"})


TWO_INTENTS = {
    "intents": {
        "On": {"data": [{"sentences": ["turn on [the] {x}"]}]},
        "Start": {"data": [{"sentences": ["(turn on | start) the fan"]}]},
    },
    "lists": {"x": {"values": ["fan", "lamp"]}},
}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "no intents"),
        ({"intents": {}}, "no intents"),
        ({"intents": {"A": {"data": []}}}, "no sentences"),
        ({"intents": {"A": {"data": None}}}, "no sentences"),
        ({"intents": {"A": {"data": ["turn on"]}}}, "intent A: data: got 'turn on'; expected mappings"),
        (
            {"intents": {"A": {"data": [{"sentences": "turn on"}]}}},
            "sentences of A: got 'turn on'; expected a list",
        ),
        (with_sentences("go", skip_words="please"), "skip_words: got 'please'"),
        (with_sentences("go", lists=["a"]), "lists: got"),
        (with_sentences("{x}", lists={"x": {"values": "kitchen"}}), "values of {x}: got 'kitchen'"),
        (with_sentences("{x}", lists={"x": {"range": {"from": "one", "to": 3}}}), "expected whole numbers"),
        (
            with_sentences("{x}", lists={"x": {"range": {"from": 1, "to": 3, "step": 0}}}),
            "expected whole numbers",
        ),
        (with_sentences("{x}", lists={"x": {"range": [1, 5]}}), "expected a mapping"),
        (with_sentences("{x}", lists={"x": {"range": {"to": 5}}}, language="xx"), "language 'xx'"),
        (with_sentences("{x}", lists={"x": {"values": ["{x} (b|c)"]}}), "{x} contains itself"),
        (with_sentences("turn (on"), r"template 'turn \(on'"),
        (with_sentences("{x}"), r"no list \{x\}"),
        (with_sentences("<x>"), "no rule <x>"),
        (
            with_sentences("<x> go", expansion_rules={"x": "<y> a", "y": "<x> b"}),
            "<x> contains itself .<x> in <y> in <x>",
        ),
        (with_sentences("{x}", lists={"x": {"values": []}}), "is empty"),
        (with_sentences("{x}", lists={"x": {"values": ["!!"]}}), "no letters"),
        (
            with_sentences("{x}", lists={"x": {"values": [{"in": "a", "out": 1}, {"in": "a", "out": 2}]}}),
            "means both",
        ),
        (TWO_INTENTS, "'turn on the fan' has two meanings, by .* and by .*"),
        (
            {"intents": {n: {"data": [{"sentences": ["go (on|off) now"]}]} for n in "AB"}},
            "'go (on|off) now' has two meanings",
        ),
        (
            with_sentences("{a} {b}", lists={n: {"values": ["x", "x x"]} for n in "ab"}),
            "'x x x' has two meanings",
        ),
    ],
)
def test_a_broken_grammar_is_one_line(content: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        grammar_of(content, "g.yaml")
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("g.yaml: ")


def test_a_slot_that_may_begin_before_or_after_a_space_is_not_ambiguous() -> None:
    grammar_of(with_sentences("([{a}] ; [{b}]) end", lists={"a": ["one"], "b": ["two"]}))


def test_a_file_that_is_no_grammar_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "g.yaml").write_text("intents: [")
    for path in (tmp_path / "g.yaml", tmp_path / "none.yaml"):
        with pytest.raises(UserError) as caught:
            load_grammar(path)
        assert "\n" not in str(caught.value)


def test_on_and_off_are_words(tmp_path: Path) -> None:
    text = "intents: {Switch: {data: [{sentences: ['light {state}']}]}}\nlists: {state: {values: [on, off, {in: no, out: true}]}}\n"
    (tmp_path / "g.yaml").write_text(text)
    grammar = load_grammar(tmp_path / "g.yaml")
    assert grammar.meaning("light on") == Meaning("Switch", {"state": "on"})
    assert grammar.meaning("light no") == Meaning("Switch", {"state": True})
