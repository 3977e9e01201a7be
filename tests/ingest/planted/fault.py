"""What a planted fault is: what to put there, and what a person must be told about it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

REFUSE, TAKE, EITHER = "refuse", "take", "take or refuse"


@dataclass(frozen=True)
class Fault:
    """`told` is a pattern that one of its reasons (or notes, when it is taken) must match, case aside."""

    name: str  # the function that makes it, in words
    file: str  # the name it gets
    outcome: str  # REFUSE | TAKE | EITHER
    told: str  # "" where nothing need be said
    make: Callable[..., Any]


def register(faults: list[Fault], file: str, outcome: str, told: str) -> Callable[[Callable[..., Any]], Any]:
    """A decorator that puts the function into `faults` and leaves it as it is."""

    def keep(make: Callable[..., Any]) -> Callable[..., Any]:
        faults.append(Fault(make.__name__.replace("_", " "), file, outcome, told, make))
        return make

    return keep
