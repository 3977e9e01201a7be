"""A planted fault: the file to make, and the message that `corpus add` must give for it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

REFUSE, TAKE, EITHER = "refuse", "take", "take or refuse"


@dataclass(frozen=True)
class Fault:
    """One of its reasons (or notes, if it is accepted) must match the regular expression `message`, ignoring case."""

    name: str  # from the name of the function that makes it
    file: str  # its file name
    outcome: str  # REFUSE | TAKE | EITHER
    message: str  # empty if none is needed
    make: Callable[..., Any]


def register(
    faults: list[Fault], file: str, outcome: str, message: str
) -> Callable[[Callable[..., Any]], Any]:
    """A decorator that appends the function to `faults` and returns it unchanged."""

    def keep(make: Callable[..., Any]) -> Callable[..., Any]:
        faults.append(Fault(make.__name__.replace("_", " "), file, outcome, message, make))
        return make

    return keep
