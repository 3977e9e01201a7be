"""Hot words: phrases that a decoder prefers, as a guide."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from metavox.errors import UserError
from metavox.recognisers.guide import Guide, State, Step, characters

WEIGHT = (
    0.3  # nats per character: 0.5 made the decoder write words that nobody said (benchmarks/hot_words.py)
)
MAX_CHARACTERS = 100_000  # of all phrases


@dataclass(eq=False)
class _Node:
    next: "dict[str, _Node]" = field(default_factory=dict)
    ends: bool = False


class HotWords(Guide):
    """Each character of a phrase weighs `weight`, which is taken back if the phrase is not completed.

    Shallow fusion along a trie with such a refund is the contextual biasing of Zhao et al. 2019 (section 3). A state is
    the place in the trie, how many characters may have to be taken back, and whether a word begins. Raises UserError
    for phrases without letters and for too many.
    """

    rewards = True

    def __init__(self, phrases: Sequence[str], weight: float = WEIGHT):
        self.weight = weight
        self.phrases = tuple(dict.fromkeys(" ".join(characters(phrase).split()) for phrase in phrases))
        if not all(self.phrases):
            raise UserError("a hot word without letters or numbers; remove it")
        if sum(map(len, self.phrases)) > MAX_CHARACTERS:
            raise UserError(
                f"hot words with {sum(map(len, self.phrases))} characters; expected at most {MAX_CHARACTERS}"
            )
        self._root = _Node()
        for phrase in self.phrases:
            node = self._root
            for character in phrase:
                node = node.next.setdefault(character, _Node())
            node.ends = True
        self.start: State = (self._root, 0, True)

    def step(self, state: State, character: str) -> Step:
        node, owed, begins = state
        following = node.next.get(character) if node else None
        if following is not None:
            # A complete phrase stays paid, even if a longer one fails after it.
            owed = 1 if node.ends and character == " " else owed + 1
            return (following, owed, character == " "), self.weight
        complete = node is not None and node.ends and character == " "
        refund = 0.0 if complete else -self.weight * owed
        if character == " ":
            return (self._root, 0, True), refund
        again = self._root.next.get(character) if begins and node is not self._root else None
        return ((again, 1, False), refund + self.weight) if again else ((None, 0, False), refund)

    def end(self, state: State) -> float:
        node, owed, _ = state
        return 0.0 if node is None or node.ends else -self.weight * owed

    def applied(self, text: str) -> list[str]:
        """The phrases that a text contains, in their order."""
        spoken = f" {' '.join(characters(text).split())} "
        return [phrase for phrase in self.phrases if f" {phrase} " in spoken]
