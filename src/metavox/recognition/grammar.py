"""Grammars of commands in the sentence templates of Home Assistant, compiled to an automaton.

A grammar is a YAML file in the form that `hassil` reads (github.com/OHF-Voice/hassil): `intents`, each with blocks of
`sentences`; `lists` of slot values, with `values`, a `range`, `wildcard: true`, `enrolled: true`
(the words of a vocabulary), or a `file` that has one value a line as in Rhasspy (`heard:value`); `expansion_rules`; `skip_words`, which may be said between any words.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hassil.expression import (
    Alternative,
    Expression,
    Group,
    ListReference,
    Permutation,
    RuleReference,
    TextChunk,
)
from hassil.parse_expression import parse_sentence
from hassil.parser import ParseError

from metavox.errors import UserError
from metavox.recognisers.automaton import ANY, Automaton, Mark
from metavox.recognisers.guide import characters
from metavox.recognition.ambiguity import ambiguous_text
from metavox.recognition.yaml_files import listed, mapped, read_yaml

MAX_PERMUTED = 6  # items of a permutation, whose orders are all written out
TEMPLATE_SIGNS = set("()[]{}<>|;")


@dataclass(frozen=True)
class Meaning:
    """An intent and the values of its slots."""

    intent: str
    slots: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Grammar:
    """An automaton of the texts of a grammar, and what they mean."""

    name: str
    automaton: Automaton
    intents: tuple[str, ...]

    def meaning(self, text: str) -> Meaning | None:
        """The intent and slots of a text; None if the grammar does not contain it."""
        marks = self.automaton.marks(text)
        if marks is None:
            return None
        read = " ".join(characters(text).split())
        intent, slots, begins = "", dict[str, Any](), dict[str, int]()
        for mark, at in marks:
            if mark.kind == "intent":
                intent = mark.name
                slots |= mark.value
            elif mark.kind == "begin":
                begins[mark.name] = at
            else:
                slots[mark.name] = read[begins[mark.name] : at].strip() if mark.value is None else mark.value
        return Meaning(intent, slots)


def load_grammar(path: Path, enrolled: Sequence[str] = ()) -> Grammar:
    """Read a grammar file; `enrolled` are the values of lists with `enrolled: true`. Raises UserError, which names the template, for one that is empty, broken, recursive or
    ambiguous."""
    return grammar_of(read_yaml(path), str(path), path.parent, enrolled)


def grammar_of(
    content: Any, name: str = "grammar", folder: Path = Path(), enrolled: Sequence[str] = ()
) -> Grammar:
    """Compile the content of a grammar file. Raises UserError as `load_grammar` does."""
    if (
        not isinstance(content, dict)
        or not isinstance(content.get("intents"), dict)
        or not content["intents"]
    ):
        raise UserError(f"{name}: no intents; expected `intents: {{NAME: {{data: [{{sentences: [...]}}]}}}}`")
    compiler = _Compiler(content, name, folder, enrolled)
    for intent, body in content["intents"].items():
        blocks = body.get("data") if isinstance(body, dict) else body
        for block in listed(blocks, f"{name}: intent {intent}: data", dict):
            compiler.add(str(intent), block)
    if not compiler.templates:
        raise UserError(f"{name}: no sentences in any intent; add `sentences` to one")
    if (found := ambiguous_text(compiler.automaton)) is not None:
        text, first, second = found
        one, other = (f"{compiler.templates[i]!r}" for i in (first, second))
        raise UserError(f"{name}: {text!r} has two meanings, by {one} and by {other}; change one of them")
    return Grammar(name, compiler.automaton, tuple(map(str, content["intents"])))


class _Compiler:
    """Adds the templates of a grammar to one automaton."""

    def __init__(self, content: Mapping[str, Any], name: str, folder: Path, enrolled: Sequence[str]):
        self.automaton = Automaton()
        self.templates: list[str] = []
        self._name, self._folder, self._enrolled = name, folder, enrolled
        self._language = str(content.get("language", "en"))
        self._lists = mapped(content.get("lists"), f"{name}: lists")
        self._rules = mapped(content.get("expansion_rules"), f"{name}: expansion_rules")
        self._skipped = [str(word) for word in listed(content.get("skip_words"), f"{name}: skip_words")]
        self._template, self._open = "", tuple[str, ...]()  # rules and lists that are being written out

    def add(self, intent: str, block: Mapping[str, Any]) -> None:
        """Add a block of sentences, which may have lists, rules and slots of its own."""
        lists, rules = self._lists, self._rules
        self._lists = lists | mapped(block.get("lists"), f"{self._name}: lists of {intent}")
        self._rules = rules | mapped(
            block.get("expansion_rules"), f"{self._name}: expansion_rules of {intent}"
        )
        for template in listed(block.get("sentences"), f"{self._name}: sentences of {intent}"):
            self._template = str(template)
            sentence = self._parsed(self._template)
            begin = self.automaton.state()
            slots = mapped(block.get("slots"), f"{self._name}: slots of {intent}")
            number = len(self.templates)
            self.templates.append(self._template)
            self.automaton.skip(self.automaton.first, begin, Mark("intent", intent, slots))
            self.automaton.template_of[begin] = number
            begin = self._skippable(begin)
            end = self._skippable(self._expression(sentence, begin))
            self.automaton.skip(end, self.automaton.final)
        self._lists, self._rules = lists, rules

    def _fail(self, what: str) -> UserError:
        return UserError(f"{self._name}: in the template {self._template!r}: {what}")

    def _parsed(self, text: str) -> Expression:
        try:
            return parse_sentence(text).expression
        except (ParseError, AssertionError, ValueError) as error:
            raise self._fail(f"{' '.join(str(error).split()) or 'brackets that do not match'}") from error

    def _expression(self, expression: Expression, at: int) -> int:
        """Add an expression from a state, and return the state after it."""
        if isinstance(expression, TextChunk):
            return self._text(expression.original_text, at)
        if isinstance(expression, RuleReference):
            return self._rule(expression.rule_name, at)
        if isinstance(expression, ListReference):
            return self._list(expression, at)
        if isinstance(expression, Permutation):
            return self._permutation(expression.items, at)
        if isinstance(expression, Alternative):
            return self._alternatives([[item] for item in expression.items], at)
        assert isinstance(expression, Group)
        return self._sequence(expression.items, at)

    def _sequence(self, items: Iterable[Expression], at: int) -> int:
        for item in items:
            at = self._expression(item, at)
        return at

    def _alternatives(self, alternatives: Iterable[list[Expression]], at: int) -> int:
        end = self.automaton.state()
        for items in alternatives:
            begin = self.automaton.state()
            self.automaton.skip(at, begin)
            self.automaton.skip(self._sequence(items, begin), end)
        return end

    def _permutation(self, items: list[Expression], at: int) -> int:
        if len(items) > MAX_PERMUTED:
            raise self._fail(f"{len(items)} items in a permutation; expected at most {MAX_PERMUTED}")
        if len(items) <= 1:
            return self._sequence(items, at)
        end = self.automaton.state()
        for i, item in enumerate(items):
            begin = self.automaton.state()
            self.automaton.skip(at, begin)
            after = self._expression(item, begin)
            self.automaton.skip(self._permutation([*items[:i], *items[i + 1 :]], after), end)
        return end

    def _rule(self, name: str, at: int) -> int:
        if name not in self._rules:
            raise self._fail(f"no rule <{name}>; add it to expansion_rules")
        self._enter(f"<{name}>")
        end = self._expression(self._parsed(str(self._rules[name])), at)
        self._open = self._open[:-1]
        return end

    def _enter(self, what: str) -> None:
        if what in self._open:
            circle = " in ".join((*self._open[self._open.index(what) :], what))
            raise self._fail(f"{what} contains itself ({circle}); write out how often it may repeat")
        self._open = (*self._open, what)

    def _text(self, text: str, at: int) -> int:
        for character in characters(text):
            at = self.automaton.text(at, character)
            if character == " ":
                at = self._skippable(at)
        return at

    def _skippable(self, at: int) -> int:
        """Any number of skipped words at the border of two words."""
        if not self._skipped:
            return at
        hub = self.automaton.state()
        self.automaton.skip(at, hub)
        for word in self._skipped:
            before = self.automaton.text(hub, " ")
            self.automaton.skip(self.automaton.text(before, f"{word} "), hub)
        return hub

    # Lists

    def _list(self, reference: ListReference, at: int) -> int:
        slot, automaton = reference.slot_name, self.automaton
        begin, end = automaton.state(), automaton.state()
        automaton.skip(at, begin, Mark("begin", slot))
        if reference.is_inline_range:
            start, stop, step = reference.get_inline_range() or (0, 0, 1)
            self._values(slot, self._range({"from": start, "to": stop, "step": step}), begin, end)
            return end
        if reference.list_name not in self._lists:
            raise self._fail(f"no list {{{reference.list_name}}}; add it to lists")
        body = self._lists[reference.list_name]
        body = body if isinstance(body, dict) else {"values": body}
        self._enter(f"{{{reference.list_name}}}")
        if body.get("wildcard"):
            self._wildcard(slot, begin, end)
            self._open = self._open[:-1]
            return end
        values = self._range(body["range"]) if "range" in body else self._written(reference.list_name, body)
        if not self._values(slot, values, begin, end):
            raise self._fail(f"the list {{{reference.list_name}}} is empty; add values to it")
        self._open = self._open[:-1]
        return end

    def _wildcard(self, slot: str, begin: int, end: int) -> None:
        """One or more words of any kind."""
        within = self.automaton.state()
        self.automaton.arc(begin, ANY, within)
        self.automaton.arc(within, ANY, within)
        self.automaton.arc(within, " ", begin)
        self.automaton.skip(within, end, Mark("end", slot))

    def _values(self, slot: str, values: Iterable[tuple[str, Any]], begin: int, end: int) -> int:
        """Add values as a trie, or those that are templates as alternatives; returns their number."""
        automaton, count = self.automaton, 0
        nodes: dict[tuple[int, str], int] = {}
        ends: dict[int, Any] = {}
        for heard, value in values:
            count += 1
            if TEMPLATE_SIGNS & set(heard):
                branch = automaton.state()
                automaton.skip(begin, branch)
                automaton.skip(self._expression(self._parsed(heard), branch), end, Mark("end", slot, value))
                continue
            at = begin
            for character in " ".join(characters(heard).split()):
                key = (at, character)
                if key not in nodes:
                    nodes[key] = automaton.state()
                    automaton.arc(at, character, nodes[key])
                at = nodes[key]
            if at == begin:
                raise self._fail(f"the value {heard!r} of {{{slot}}} has no letters; remove it")
            if ends.setdefault(at, value) == value and not any(t == end for t, _ in automaton.empty[at]):
                automaton.skip(at, end, Mark("end", slot, value))
            elif ends[at] != value:
                raise self._fail(
                    f"{heard!r} in {{{slot}}} means both {ends[at]!r} and {value!r}; remove one of them"
                )
        return count

    def _written(self, name: str, body: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        if body.get("enrolled"):
            yield from zip(self._enrolled, self._enrolled, strict=True)
        for entry in listed(
            body.get("values"), f"{self._name}: values of {{{name}}}", (str, int, float, dict)
        ):
            if isinstance(entry, dict):
                heard = str(entry.get("in", ""))
                yield heard, entry.get("out", heard)
            else:
                yield str(entry), str(entry)
        if "file" in body:
            file = self._folder / str(body["file"])
            try:
                lines = file.read_text(encoding="utf-8").splitlines()
            except (OSError, UnicodeDecodeError) as error:
                raise self._fail(f"the list {{{name}}} names {file}, which cannot be read") from error
            for line in lines:
                if line.strip() and not line.lstrip().startswith("#"):
                    heard, colon, value = line.strip().rpartition(":")
                    yield (heard.strip(), value.strip()) if colon else (line.strip(), line.strip())

    def _range(self, body: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        """Numbers in digits and in words of the grammar's language (CLDR's rule-based formats)."""
        from unicode_rbnf import RbnfEngine

        body = mapped(body, f"{self._name}: a range in {self._template!r}")
        try:
            engine = RbnfEngine.for_language(self._language.split("-")[0])
        except ValueError as error:
            raise self._fail(
                f"no words for the numbers of language {self._language!r}; write the values out"
            ) from error
        try:
            numbers = range(int(body.get("from", 0)), int(body.get("to", 0)) + 1, int(body.get("step", 1)))
        except (ValueError, TypeError) as error:
            raise self._fail(f"the range {body}; expected whole numbers from, to and step") from error
        for number in numbers:
            yield str(number), number
            for words in sorted(set(engine.format_number(number).text_by_ruleset.values())):
                if characters(words).strip() and words != str(number) and not any(c.isdigit() for c in words):
                    yield words.replace("\u00ad", ""), number
