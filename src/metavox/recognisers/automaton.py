"""A finite automaton over characters, as a strict guide, whose paths carry marks of what was said.

It is built as a nondeterministic automaton and made deterministic while it is walked (the lazy subset construction
of Aho et al., Compilers, 2nd edition, section 3.7), so that a list of 50,000 names costs its trie and no more.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from metavox.recognisers.guide import Guide, State, Step, characters

ANY = ""  # an arc for every character but the space


@dataclass(frozen=True)
class Mark:
    """On an arc without a character: the `intent` of the path, or where slot `name` begins or ends.

    The value of an end is the slot's value; None stands for the characters since its begin.
    """

    kind: str  # intent, begin or end
    name: str
    value: Any = None


Trail = tuple[Any, Mark, int] | None
"""The marks along a path, last first: the trail before, the mark, and the number of characters read by then."""


class Automaton(Guide):
    """States are numbers; state 0 is the first. A guide's state is the number of a set of them.

    Spaces at both ends of a text, and all but one of several, are optional: templates leave them around optional parts.
    """

    strict = True

    def __init__(self) -> None:
        self.arcs: list[dict[str, list[int]]] = []
        self.empty: list[list[tuple[int, Mark | None]]] = []
        self.template_of: dict[int, int] = {}  # the number of the template that begins in a state
        self.first, self.final = self.state(), self.state()
        self._sets: list[tuple[int, ...]] = []
        self._numbers: dict[tuple[int, ...], int] = {}
        self._steps: dict[tuple[int, str], int | None] = {}
        self._ends: dict[int, bool] = {}

    def state(self) -> int:
        """Add a state."""
        self.arcs.append({})
        self.empty.append([])
        return len(self.arcs) - 1

    def arc(self, source: int, character: str, target: int) -> None:
        self.arcs[source].setdefault(character, []).append(target)

    def skip(self, source: int, target: int, mark: Mark | None = None) -> None:
        """Add an arc without a character."""
        self.empty[source].append((target, mark))

    def text(self, source: int, text: str) -> int:
        """Add a chain of states that reads `text`, and return the last one."""
        for character in characters(text):
            target = self.state()
            self.arc(source, character, target)
            source = target
        return source

    # As a guide

    @property
    def start(self) -> State:  # type: ignore[override]
        return self._number([2 * self.first + 1])

    def step(self, state: State, character: str) -> Step | None:
        key = (state, character)
        if key not in self._steps:
            self._steps[key] = self._step(*key)
        after = self._steps[key]
        return None if after is None else (after, 0.0)

    def end(self, state: State) -> float | None:
        if state not in self._ends:
            ended = self._closure([each | 1 for each in self._sets[state]])
            self._ends[state] = any(each >> 1 == self.final for each in ended)
        return 0.0 if self._ends[state] else None

    def _step(self, number: int, character: str) -> int | None:
        targets = [2 * target + (character == " ") for target in self._targets(number, character)]
        return self._number(targets) if targets else None

    def _targets(self, number: int, character: str) -> Iterator[int]:
        for each in self._sets[number]:
            arcs = self.arcs[each >> 1]
            yield from arcs.get(character, ())
            if character != " ":
                yield from arcs.get(ANY, ())

    def _number(self, positions: Iterable[int]) -> int:
        """The number of the set of all that can be reached from `positions` without a character."""
        key = tuple(sorted(self._closure(positions)))
        if key not in self._numbers:
            self._numbers[key] = len(self._sets)
            self._sets.append(key)
        return self._numbers[key]

    def _closure(self, positions: Iterable[int]) -> set[int]:
        """All positions (twice the state, plus one after a space) that can be reached without a character."""
        reached = set(positions)
        stack = list(reached)
        while stack:
            for target, _ in self.free(stack.pop()):
                if target not in reached:
                    reached.add(target)
                    stack.append(target)
        return {each for each in reached if self.arcs[each >> 1] or each >> 1 == self.final}

    def free(self, position: int) -> Iterator[tuple[int, Mark | None]]:
        """Positions one arc without a character away, where a second space is none."""
        state, space = position >> 1, position & 1
        for target, mark in self.empty[state]:
            yield 2 * target + space, mark
        if space:
            for target in self.arcs[state].get(" ", ()):
                yield 2 * target + 1, None

    # Of whole texts

    def marks(self, text: str) -> list[tuple[Mark, int]] | None:
        """The marks along the first path that reads `text`, each with the number of characters before it; None if no
        path reads it."""
        paths = self._marked_closure([(2 * self.first + 1, None)], 0)
        read = " ".join(characters(text).split())
        for at, character in enumerate(read, 1):
            moved: dict[int, Trail] = {}
            for position, trail in paths.items():
                arcs = self.arcs[position >> 1]
                targets = [*arcs.get(character, ()), *(arcs.get(ANY, ()) if character != " " else ())]
                for target in targets:
                    moved.setdefault(2 * target + (character == " "), trail)
            paths = self._marked_closure(list(moved.items()), at)
        ended = self._marked_closure([(position | 1, trail) for position, trail in paths.items()], len(read))
        for position, trail in ended.items():
            if position >> 1 == self.final:
                return _marks(trail)
        return None

    def _marked_closure(self, paths: list[tuple[int, Trail]], at: int) -> dict[int, Trail]:
        """As the closure of a set, with the marks along the first path to each position."""
        reached: dict[int, Trail] = {}
        stack = list(reversed(paths))
        while stack:
            position, trail = stack.pop()
            if position in reached:
                continue
            reached[position] = trail
            for target, mark in reversed(list(self.free(position))):
                stack.append((target, (trail, mark, at) if mark else trail))
        return reached


def _marks(trail: Trail) -> list[tuple[Mark, int]]:
    out = []
    while trail is not None:
        trail, mark, at = trail
        out.append((mark, at))
    return out[::-1]
