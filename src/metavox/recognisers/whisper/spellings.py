"""Whisper's tokens as guides read them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary, ref

import torch

from metavox.recognisers.guide import Guide, Reading, characters, read
from metavox.recognisers.whisper.tokens import Tokens
from metavox.text import has_controls

MAX_LISTS = 5000  # places in a guide whose tokens are remembered
MAX_NODES = 4000  # of the trie of tokens that are visited to list what a guide allows


@dataclass(eq=False)
class _Node:
    next: "dict[str, _Node]" = field(default_factory=dict)
    tokens: list[int] = field(default_factory=list)


class Spellings:
    """What each token writes, in the form that guides read. `partial` are tokens with a part of a character, which guides
    cannot read."""

    def __init__(self, tokens: Tokens, suppressed: Sequence[int]):
        left_out = set(suppressed)
        texts = tokens.tokenizer.decode_batch([[i] for i in range(tokens.end)])
        self.parts: dict[int, str] = {
            i: characters(text)
            for i, text in enumerate(texts)
            if "\ufffd" not in text and not has_controls(text) and i not in left_out
        }
        self.partial = {i for i, text in enumerate(texts) if "\ufffd" in text and i not in left_out}
        self.root = _Node()
        for i, part in self.parts.items():
            node = self.root
            for character in part:
                node = node.next.setdefault(character, _Node())
            node.tokens.append(i)
        self._followers: WeakKeyDictionary[Guide, Follower] = WeakKeyDictionary()

    def following(self, guide: Guide) -> "Follower":
        """The walker of a guide, which remembers what it finds as long as the guide exists."""
        if guide not in self._followers:
            self._followers[guide] = Follower(self, guide)
        return self._followers[guide]


Allowed = tuple[torch.Tensor, list[tuple[Reading, float]]]
"""Token ids (tokens,), and for each the reading after it and its weight."""


class Follower:
    """Walks a guide along tokens, and keeps what it finds for each place in the guide."""

    def __init__(self, spellings: Spellings, guide: Guide):
        self.parts, self.partial = spellings.parts, spellings.partial
        self._root, self._guide = spellings.root, ref(guide)
        self._allowed: dict[Reading, Allowed | None] = {}
        self._favoured: dict[Reading, Allowed | None] = {}

    @property
    def guide(self) -> Guide:
        guide = self._guide()
        assert guide is not None
        return guide

    def allowed(self, reading: Reading) -> Allowed | None:
        """All tokens that may follow; None if there are too many to list."""
        return self._kept(self._allowed, reading, -math.inf)

    def favoured(self, reading: Reading) -> Allowed | None:
        """All tokens whose every character the guide gives a positive weight, as those that continue a hot word."""
        return self._kept(self._favoured, reading, 0.0) if self.guide.rewards else None

    def _kept(self, lists: "dict[Reading, Allowed | None]", reading: Reading, least: float) -> Allowed | None:
        if reading not in lists:
            if len(lists) >= MAX_LISTS:
                lists.clear()
            lists[reading] = self._listed(reading, least)
        return lists[reading]

    def step(self, reading: Reading, token: int) -> tuple[Reading, float] | None:
        part = self.parts.get(token)
        if part is not None:
            return read(self.guide, reading, part)
        # A part of a character: a grammar has no such step, other guides pass over it.
        return None if self.guide.strict or token not in self.partial else (reading, 0.0)

    def _listed(self, reading: Reading, least: float) -> Allowed | None:
        guide, ids = self.guide, list[int]()
        steps: list[tuple[Reading, float]] = []
        stack, visited = [(self._root, reading, 0.0)], 0
        while stack:
            node, at, weight = stack.pop()
            visited += 1
            if visited > MAX_NODES:
                return None
            ids += node.tokens
            steps += [(at, weight)] * len(node.tokens)
            for character, following in node.next.items():
                step = read(guide, at, character)
                if step is not None and (step[1] > least or character == " "):
                    stack.append((following, step[0], weight + step[1]))
        return torch.tensor(ids, dtype=torch.long), steps
