"""The one exception that means 'the user can fix this', and how its message quotes what the user gave."""

import re

LONGEST_VALUE = 80
LONGEST_MESSAGE = 1200
CUT = "…"
SURROGATE = re.compile("[\\ud800-\\udfff]")


def printable(text: str) -> str:
    """The text with bytes of a file name that are not UTF-8 written as `\\xff`, so that it can be shown and stored."""
    return SURROGATE.sub(lambda found: f"\\x{ord(found[0]) & 0xFF:02x}", text)


def shown(value: object) -> str:
    """A value of the user's as a message quotes it: one line, printable, of at most 80 characters."""
    text = " ".join(printable(str(value)[: 4 * LONGEST_VALUE]).split())
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 1] + CUT


def shortened(message: str) -> str:
    """A message of at most 1,200 characters: what stands in the middle, such as a huge field of a table, is left out."""
    if len(message) <= LONGEST_MESSAGE:
        return message
    return f"{message[: 2 * LONGEST_MESSAGE // 3]} {CUT} {message[-LONGEST_MESSAGE // 3 + 3 :]}"


class UserError(Exception):
    """A problem with what was given: input, parameters, machine.

    The message is one line: what came, what was expected, what to do. Commands print it
    without a traceback and exit with status 2. It is shortened where it quotes something huge.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(printable(shortened(message)))
