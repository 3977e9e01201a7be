"""Detection of repetition loops, which decoders produce when they lose track of the audio."""

import zlib

from metavox.text import normalise_text

MAX_COMPRESSION = 2.4  # ratio by zlib above which openai/whisper assumes a loop
MAX_REPEATS = 4  # of the same words in a row
MAX_WORDS = 8  # in a repeated phrase


def has_loop(text: str) -> bool:
    """Whether a transcript repeats a phrase more than `MAX_REPEATS` times in a row, or compresses more than
    `MAX_COMPRESSION` times, which also detects loops in scripts without spaces."""
    data = text.encode()
    if data and len(data) / len(zlib.compress(data)) > MAX_COMPRESSION:
        return True
    words = normalise_text(text).split()
    return any(_repeats(words, size) > MAX_REPEATS for size in range(1, MAX_WORDS + 1))


def _repeats(words: list[str], size: int) -> int:
    """The largest number of consecutive repetitions of a phrase of `size` words."""
    same = most = 0
    for i in range(size, len(words)):
        same = same + 1 if words[i] == words[i - size] else 0
        most = max(most, same)
    return 1 + most // size
