"""The exception for problems that the user can fix, and how its messages quote the user's values."""

import re

MAX_VALUE_LENGTH = 80
MAX_MESSAGE_LENGTH = 1200
ELLIPSIS = "…"
SURROGATE = re.compile("[\\ud800-\\udfff]")


def printable(text: str) -> str:
    """Write bytes of a file name that are not UTF-8 as `\\xff`, so that the text can be printed and stored."""
    return SURROGATE.sub(lambda match: f"\\x{ord(match[0]) & 0xFF:02x}", text)


def shown(value: object) -> str:
    """A user's value as a message quotes it: one printable line of at most 80 characters."""
    text = " ".join(printable(str(value)[: 4 * MAX_VALUE_LENGTH]).split())
    return text if len(text) <= MAX_VALUE_LENGTH else text[: MAX_VALUE_LENGTH - 1] + ELLIPSIS


def shortened(message: str) -> str:
    """Cut a message to at most 1,200 characters by dropping its middle, such as a huge field of a table."""
    if len(message) <= MAX_MESSAGE_LENGTH:
        return message
    return f"{message[: 2 * MAX_MESSAGE_LENGTH // 3]} {ELLIPSIS} {message[-MAX_MESSAGE_LENGTH // 3 + 3 :]}"


class UserError(Exception):
    """A problem that the user can fix: input, parameters, machine.

    The message is one line: what metavox got, what it expected, what to do. Commands print it without a traceback and
    exit with status 2. A message that quotes something huge is shortened.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(printable(shortened(message)))
