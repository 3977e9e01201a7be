"""Subtitle cues: words in lines of limited width and times that can be read.

The words of a recording are divided into cues by dynamic programming over all divisions, as Knuth and Plass (1981)
divide a paragraph into lines; so are the words of a cue into two lines. Defaults are those of broadcasters (Netflix,
Timed Text Style Guide: 42 characters in two lines, at most 7 s and at least 5/6 s, two frames between cues).
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, zip_longest

from wcwidth import wcswidth

from metavox.recognisers.transcript import Segment, Transcript, Word
from metavox.text import without_spaces

SENTENCE_ENDS, CLAUSE_ENDS = (
    (".", "!", "?", "…", "。", "？", "！", "؟", "।"),
    (",", ";", ":", "、", "，", "،"),
)
PAUSE_S = 0.35  # a cue likes to end before a pause of this length
SHORT_WORD = 3  # cells: such a word at the end of a line belongs to the next one
NEVER = float("inf")


@dataclass(frozen=True)
class CueConfig:
    """`width` is in terminal cells, of which a Chinese, Japanese or Korean character takes two, and `cells_per_s` is the
    fastest reading speed; a cue is shown longer than it is spoken if it must be and can be."""

    width: int = 42
    lines: int = 2
    longest_s: float = 7.0
    shortest_s: float = 5 / 6
    cells_per_s: float = 20.0
    gap_s: float = 1 / 12


@dataclass(frozen=True)
class Cue:
    """Lines that are shown from `start_s` to `end_s`; `speaker` is empty if speakers are not told apart."""

    start_s: float
    end_s: float
    lines: tuple[str, ...]
    speaker: str = ""

    @property
    def text(self) -> str:
        return " ".join(self.lines)


def cues(transcript: Transcript, config: CueConfig = CueConfig()) -> list[Cue]:
    """The cues of a transcript, in order; they never overlap."""
    out: list[Cue] = []
    run: list[Word] = []
    segments = [segment for segment in transcript.segments if segment.text.strip()]
    for i, segment in enumerate(segments):
        run += _units(segment, config)
        if i + 1 == len(segments) or segments[i + 1].speaker != segment.speaker:
            out += _divided(run, segment.speaker, config)
            run = []
    return _timed(out, transcript.duration_s, config)


def _units(segment: Segment, config: CueConfig) -> Iterator[Word]:
    """The words of a segment, in its spelling; what is too wide for a line, or has no spaces, in pieces."""
    tokens = segment.text.split()
    words: Sequence[Word] = segment.words
    if [word.text for word in words] != tokens:
        words = list(_spread(tokens, segment))
    for word in words:
        size = 1 if without_spaces(word.text) else config.width
        if _cells(word.text) <= size or len(word.text) == 1:
            yield word
            continue
        pieces = _pieces(word.text, size)
        yield from _spread(pieces, Segment(word.text, word.start_s, word.end_s, word.confidence))


def _pieces(text: str, size: int) -> list[str]:
    pieces: list[str] = []
    for character in text:
        mark = character in (*SENTENCE_ENDS, *CLAUSE_ENDS) or _cells(character) == 0
        if pieces and (mark or _cells(pieces[-1] + character) <= size):
            pieces[-1] += character
        else:
            pieces.append(character)
    return pieces


def _spread(tokens: Sequence[str], segment: Segment) -> Iterator[Word]:
    """Tokens with times in proportion to their length, between the first and the last word of a segment."""
    start_s = segment.words[0].start_s if segment.words else segment.start_s
    end_s = segment.words[-1].end_s if segment.words else segment.end_s
    total, before = sum(map(len, tokens)), 0
    for token in tokens:
        edges = [start_s + (end_s - start_s) * n / total for n in (before, before + len(token))]
        before += len(token)
        yield Word(token, edges[0], edges[1], segment.confidence)


def _divided(words: list[Word], speaker: str, config: CueConfig) -> list[Cue]:
    """The division of words into cues with the least cost."""
    best: list[tuple[float, int, tuple[str, ...]]] = [(0.0, 0, ())]
    for end in range(1, len(words) + 1):
        options = []
        for start in range(end - 1, -1, -1):
            cue = words[start:end]
            if _cells(_joined(cue)) > config.width * config.lines and start < end - 1:
                break
            if cue[-1].end_s - cue[0].start_s > config.longest_s and start < end - 1:
                break
            lines = _lines(cue, config)
            if lines is not None or start == end - 1:
                shown = lines or (_joined(cue),)
                options.append((best[start][0] + _cost(words, start, end, config), start, shown))
        best.append(min(options))
    out, end = list[Cue](), len(words)
    while end:
        _, start, lines = best[end]
        out.append(Cue(words[start].start_s, words[end - 1].end_s, lines, speaker))
        end = start
    return out[::-1]


def _cost(words: list[Word], start: int, end: int, config: CueConfig) -> float:
    """How bad it is to show words from `start` to before `end` as one cue."""
    cue = words[start:end]
    spoken_s, cells = cue[-1].end_s - cue[0].start_s, _cells(_joined(cue))
    room_s = (words[end].start_s if end < len(words) else NEVER) - cue[0].start_s - config.gap_s
    cost = 1.0  # every cue: few are better than many
    fast = cells / max(0.1, min(max(spoken_s, config.shortest_s), room_s)) / config.cells_per_s
    cost += 4.0 * max(0.0, fast - 1.0)
    cost += 2.0 * max(0.0, config.shortest_s - room_s)
    # A pause inside a cue shows words before they are said.
    pauses = [b.start_s - a.end_s for a, b in pairwise(cue)]
    cost += sum(2.0 * max(0.0, pause - 2 * PAUSE_S) for pause in pauses)
    cost += sum(0.4 for word in cue[:-1] if word.text.endswith(SENTENCE_ENDS))
    if end < len(words):
        pause = words[end].start_s - cue[-1].end_s
        cost += _break_cost(cue[-1].text) - 0.5 * min(1.0, pause / PAUSE_S)
    return cost


def _break_cost(word: str) -> float:
    """How bad it is to end a cue or a line with a word."""
    if word.endswith(SENTENCE_ENDS):
        return -0.5
    if word.endswith(CLAUSE_ENDS):
        return 0.1
    return 1.0 + (0.5 if _cells(word) <= SHORT_WORD else 0.0)


def _lines(words: list[Word], config: CueConfig) -> tuple[str, ...] | None:
    """The words in as few lines as they fit, divided at a phrase and evenly; None if they do not fit."""
    if _cells(whole := _joined(words)) <= config.width:
        return (whole,)
    if config.lines < 2:
        return None
    options = []
    for at in range(1, len(words)):
        first, rest = _joined(words[:at]), _lines(words[at:], _fewer(config))
        if rest is not None and _cells(first) <= config.width:
            widths = [_cells(first), *map(_cells, rest)]
            uneven = (max(widths) - min(widths)) / config.width
            options.append((len(rest), _break_cost(words[at - 1].text) + 2 * uneven, (first, *rest)))
    return min(options)[2] if options else None


def _fewer(config: CueConfig) -> CueConfig:
    return replace(config, lines=config.lines - 1)


def _timed(cues: list[Cue], duration_s: float, config: CueConfig) -> list[Cue]:
    """Cues that are shown as long as reading takes, where the next one leaves room."""
    cues = sorted(cues, key=lambda cue: cue.start_s)
    out: list[Cue] = []
    for cue, following in zip_longest(cues, cues[1:]):
        start_s = max(cue.start_s, out[-1].end_s if out else 0.0)
        limit_s = following.start_s - config.gap_s if following else max(duration_s, cue.end_s)
        needed_s = max(config.shortest_s, _cells(cue.text) / config.cells_per_s)
        wanted_s = max(cue.end_s, start_s + needed_s)
        end_s = min(max(limit_s, start_s), wanted_s, start_s + config.longest_s)
        if following and end_s < cue.end_s:  # speech that overlaps, as of two speakers
            end_s = min(cue.end_s, following.start_s, start_s + config.longest_s)
        out.append(replace(cue, start_s=start_s, end_s=max(end_s, start_s + 0.04)))
    return out


def _joined(words: Sequence[Word]) -> str:
    """Words with spaces, but for those between characters of scripts without."""
    text = " ".join(word.text for word in words)
    return text if " " not in text else _needless(text)


def _needless(text: str) -> str:
    parts = re.split(" ", text)
    out = parts[0]
    for part in parts[1:]:
        tight = (out and without_spaces(out[-1])) or (part and without_spaces(part[0]))
        tight = tight or (bool(out) and _cells(out[-1]) == 2)
        out += part if tight else f" {part}"
    return out


def _cells(text: str) -> int:
    """The width of a text in terminal cells (Unicode Standard Annex 11), as subtitle editors count characters."""
    width = wcswidth(text)
    return width if width >= 0 else len(text)
