"""Text that goes round in circles, which decoders write when they have lost the sound."""

import zlib

from metavox.text import normalise_text

MAX_COMPRESSION = 2.4  # of a text's bytes by zlib: openai/whisper's own sign of a loop
MOST_TIMES = 4  # that the same words may be said one time after the other
LONGEST = 8  # words


def loops(text: str) -> bool:
    """Whether a transcript says the same words more than `MOST_TIMES` times running, or compresses more than
    `MAX_COMPRESSION` times, as it does in scripts without spaces too."""
    data = text.encode()
    if data and len(data) / len(zlib.compress(data)) > MAX_COMPRESSION:
        return True
    words = normalise_text(text).split()
    return any(_times(words, size) > MOST_TIMES for size in range(1, LONGEST + 1))


def _times(words: list[str], size: int) -> int:
    """How often `size` words are said running, at most."""
    same = most = 0
    for i in range(size, len(words)):
        same = same + 1 if words[i] == words[i - size] else 0
        most = max(most, same)
    return 1 + most // size
