"""Characters that the base model's alphabet lacks: another script, another language's letters."""

from collections.abc import Sequence
from dataclasses import replace

from metavox.recognisers.conformer.delta import Characters, Delta
from metavox.recognisers.conformer.network import Network
from metavox.recognisers.conformer.tokenizer import normalise_text


def missing_characters(model: Network, texts: Sequence[str]) -> str:
    """Characters of the texts that the model cannot write, in order."""
    return "".join(sorted(set("".join(map(normalise_text, texts))) - set(model.tokenizer.alphabet)))


def begin_characters(student: Network, characters: str) -> None:
    """Rows for new characters, where they begin: as an average character is, and a little less likely."""
    rows, bias = student.ctc.weight[1:], student.ctc.bias[1:]
    count = len(characters)
    student.add_characters(characters, rows.mean(dim=0).expand(count, -1), (bias.mean() - 1.0).expand(count))


def with_characters(delta: Delta, student: Network, characters: str) -> Delta:
    """The delta, with the rows that the student learned for the new characters."""
    more = student.more_characters
    if more is None or not characters:
        return delta
    weight, bias = (value.detach().clone() for value in (more.weight, more.bias))
    return replace(delta, characters=Characters(characters, weight, bias))
