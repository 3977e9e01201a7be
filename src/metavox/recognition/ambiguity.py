"""Finds a text to which an automaton gives two meanings.

Two paths with the same characters are followed at once, in the product of the automaton with itself, and compared by
their marks.
"""

from collections import deque
from dataclasses import dataclass, replace

from metavox.recognisers.automaton import ANY, Automaton, Trail

MAX_PAIRS = 200_000  # that are visited; a larger grammar is checked as far as this

Marks = tuple[object, ...]
Place = tuple[int, Marks, int]
"""A position, the marks on the way to it, and the template that the way began."""


def ambiguous_text(automaton: Automaton) -> tuple[str, int, int] | None:
    """The shortest text found with two meanings, and the numbers of the two templates; None if there is none.

    Words of wildcards do not count: they overlap with others on purpose.
    """
    closures: dict[int, list[Place]] = {}

    def places(position: int) -> list[Place]:
        if position not in closures:
            closures[position] = _places(automaton, position)
        return closures[position]

    queue: deque[tuple[_Pair, str]] = deque()
    seen: set[tuple[object, ...]] = set()

    def fork(a: int, b: int, before: _Pair, text: str) -> None:
        """Follow every pair of ways from positions `a` and `b` after `text`."""
        together = a == b and before.same
        for i, first in enumerate(places(a)):
            for second in places(b)[i + 1 if together else 0 :]:
                pair = before.at(first, second)
                if (pair.first == pair.second and pair.same) or pair.key in seen:
                    continue  # one path again, or known
                seen.add(pair.key)
                queue.append((pair, text))

    # Every position of the automaton may be where two paths part, so the common part of them is walked too.
    common: deque[tuple[int, str, int]] = deque([(2 * automaton.first + 1, "", -1)])
    walked = {2 * automaton.first + 1}
    while (common or queue) and len(seen) < MAX_PAIRS:
        if queue:
            pair, text = queue.popleft()
            if pair.first >> 1 == pair.second >> 1 == automaton.final and not pair.same:
                return " ".join(text.split()), max(pair.templates[0], 0), max(pair.templates[1], 0)
            arcs, others = automaton.arcs[pair.first >> 1], automaton.arcs[pair.second >> 1]
            for character in sorted(arcs.keys() & others.keys() - {ANY}):
                space = int(character == " ")
                for target in arcs[character]:
                    for to in others[character]:
                        fork(2 * target + space, 2 * to + space, pair.after(character), text + character)
            continue
        position, text, template = common.popleft()
        fork(position, position, _Pair(position, position, (template, template)), text)
        for place in places(position):
            begun = max(template, place[2])
            for character, targets in automaton.arcs[place[0] >> 1].items():
                for target in targets if character != ANY else ():
                    after = 2 * target + (character == " ")
                    if after not in walked:
                        walked.add(after)
                        common.append((after, text + character, begun))
    return None


@dataclass(frozen=True)
class _Pair:
    """Two positions after one text. `marks` are those of each path since its last letter: whether a slot begins before
    or after a space makes no difference. `differ` says whether earlier marks were different."""

    first: int
    second: int
    templates: tuple[int, int]
    marks: tuple[Marks, Marks] = ((), ())
    differ: bool = False

    @property
    def same(self) -> bool:
        return not self.differ and self.marks[0] == self.marks[1]

    @property
    def key(self) -> tuple[object, ...]:
        marks = ((), ()) if self.differ else self.marks
        return self.first, self.second, marks, self.differ

    def at(self, first: Place, second: Place) -> "_Pair":
        templates = max(self.templates[0], first[2]), max(self.templates[1], second[2])
        marks = self.marks[0] + first[1], self.marks[1] + second[1]
        return _Pair(first[0], second[0], templates, marks, self.differ)

    def after(self, character: str) -> "_Pair":
        if character == " ":
            return self
        return replace(self, marks=((), ()), differ=not self.same)


def _places(automaton: Automaton, position: int) -> list[Place]:
    """Every way without a character to a position that has arcs or is final; several ways may differ in marks.

    A space before the end of the text is none.
    """
    places = _ways(automaton, position)
    if not position & 1:
        ended = [place for place in _ways(automaton, position | 1) if place[0] >> 1 == automaton.final]
        known = {place[1] for place in places if place[0] >> 1 == automaton.final}
        places += [place for place in ended if place[1] not in known]
    return places


def _ways(automaton: Automaton, position: int) -> list[Place]:
    out: list[Place] = []
    seen: set[tuple[int, tuple[object, ...]]] = set()
    stack: list[tuple[int, Trail, int]] = [(position, None, automaton.template_of.get(position >> 1, -1))]
    while stack:
        at, trail, template = stack.pop()
        marks = tuple(_told(trail))
        if (at, marks) in seen:
            continue
        seen.add((at, marks))
        if automaton.arcs[at >> 1] or at >> 1 == automaton.final:
            out.append((at, marks, template))
        for target, mark in automaton.free(at):
            begun = automaton.template_of.get(target >> 1, template)
            stack.append((target, (trail, mark, 0) if mark else trail, begun))
    return out


def _told(trail: Trail) -> list[object]:
    told: list[object] = []
    while trail is not None:
        trail, mark, _ = trail
        told.append((mark.kind, mark.name, repr(mark.value)))
    return told
