"""Searches the texts of a CTC head, and aligns a text with its frames."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from metavox.recognisers.guide import Guide, Reading, characters, read

UNLIKELY = 15.0  # an output this many nats below the likeliest of its frame is not considered
CERTAIN = math.log(0.999)  # a frame with a likelier blank continues no text
IMPOSSIBLE = -math.inf
WIDEST = 256  # beam, which is tried if the text of a narrower one cannot end


@dataclass(eq=False)
class _Prefix:
    """A text so far. `blank` and `token` are log-likelihoods of all paths that end in a blank, and in its last output."""

    parent: "_Prefix | None"
    output: int
    reading: Reading
    weight: float
    next: "dict[int, _Prefix | None]" = field(default_factory=dict)

    @property
    def outputs(self) -> list[int]:
        out, prefix = [], self
        while prefix.parent is not None:
            out.append(prefix.output)
            prefix = prefix.parent
        return out[::-1]


class _Scores(dict[_Prefix, list[float]]):
    """Log-likelihoods of each text after a frame: of paths that end in a blank, and of those that end in an output."""

    def add(self, prefix: _Prefix, kind: int, log_prob: float) -> None:
        row = self.setdefault(prefix, [IMPOSSIBLE, IMPOSSIBLE])
        row[kind] = _add(row[kind], log_prob)

    def best(self, beam: int) -> list[tuple[_Prefix, list[float]]]:
        ranked = sorted(self.items(), key=lambda item: -(_add(*item[1]) + item[0].weight))
        return ranked[:beam]


def prefix_search(
    log_probs: np.ndarray, written: Sequence[str], blank: int, beam: int, guide: Guide | None = None
) -> tuple[list[int], float] | None:
    """The likeliest text by CTC prefix search with a guide (Hannun et al. 2014, algorithm 1).

    log_probs (frames, outputs); `written` is what each output writes. Returns the outputs and the natural
    log-likelihood of the text, without the guide's weight; None if the guide allows no text that was found, even with a
    wider beam.
    """
    found = _search(log_probs, written, blank, beam, guide)
    while found is None and beam < WIDEST:
        beam = min(WIDEST, 4 * beam)
        found = _search(log_probs, written, blank, beam, guide)
    return found


def _search(
    log_probs: np.ndarray, written: Sequence[str], blank: int, beam: int, guide: Guide | None
) -> tuple[list[int], float] | None:
    parts = [characters(text) if guide else text for text in written]
    root = _Prefix(None, blank, Reading(guide.start if guide else None), 0.0)
    scores = _Scores({root: [0.0, IMPOSSIBLE]})
    for row in log_probs.astype(float):
        beam_now, scores = scores.best(beam), _Scores()
        likely = [blank] if row[blank] > CERTAIN and not (guide and guide.strict) else _likely(row, blank)
        log_prob_of = row.tolist()
        for prefix, (after_blank, after_output) in beam_now:
            total = _add(after_blank, after_output)
            scores.add(prefix, 0, total + log_prob_of[blank])
            if prefix.parent is not None:
                scores.add(prefix, 1, after_output + log_prob_of[prefix.output])
            for output in likely:
                if output == blank or (longer := _extended(prefix, output, parts[output], guide)) is None:
                    continue
                repeated = output == prefix.output and prefix.parent is not None
                scores.add(longer, 1, (after_blank if repeated else total) + log_prob_of[output])
    found = []
    for prefix, row in scores.items():
        end = guide.end(prefix.reading.state) if guide else 0.0
        if end is not None:
            found.append((_add(*row) + prefix.weight + end, _add(*row), prefix))
    if not found:
        return None
    _, log_prob, prefix = max(found, key=lambda item: item[0])
    return (prefix.outputs, log_prob) if log_prob > IMPOSSIBLE else None


def _likely(row: np.ndarray, blank: int) -> list[int]:
    likely: list[int] = np.flatnonzero(row > row.max() - UNLIKELY).tolist()
    return likely if blank in likely else [*likely, blank]


def _extended(prefix: _Prefix, output: int, part: str, guide: Guide | None) -> _Prefix | None:
    """The text with one more output; None for an output that writes nothing or that the guide forbids."""
    if output not in prefix.next:
        step = read(guide, prefix.reading, part) if guide and part else (prefix.reading, 0.0)
        prefix.next[output] = (
            _Prefix(prefix, output, step[0], prefix.weight + step[1]) if part and step else None
        )
    return prefix.next[output]


def _add(a: float, b: float) -> float:
    """log(exp(a) + exp(b))."""
    if a < b:
        a, b = b, a
    return a if b == IMPOSSIBLE else a + math.log1p(math.exp(b - a))


def align(log_probs: np.ndarray, outputs: Sequence[int], blank: int) -> list[tuple[int, int]] | None:
    """The first frame of each output of a text, and the frame after its last, on the likeliest path.

    log_probs (frames, outputs). Viterbi over the text with blanks between (Graves et al. 2006, section 4.1); None if
    the text does not fit the frames.
    """
    labels = np.full(2 * len(outputs) + 1, blank)
    labels[1::2] = outputs
    emitted = log_probs[:, labels].astype(float)
    frames, states = emitted.shape
    may_skip = np.zeros(states, bool)
    may_skip[3::2] = labels[3::2] != labels[1:-2:2]
    score = np.full(states, IMPOSSIBLE)
    score[:2] = emitted[0, :2]
    back = np.zeros((frames, states), np.int8)
    for frame in range(1, frames):
        one = np.concatenate([[IMPOSSIBLE], score[:-1]])
        two = np.where(may_skip, np.concatenate([[IMPOSSIBLE] * 2, score])[:states], IMPOSSIBLE)
        stacked = np.stack([score, one, two])
        back[frame] = stacked.argmax(axis=0)
        score = stacked.max(axis=0) + emitted[frame]
    at = states - 1 if states == 1 or score[-1] >= score[-2] else states - 2
    if score[at] == IMPOSSIBLE:
        return None
    path = np.zeros(frames, int)
    for frame in range(frames - 1, -1, -1):
        path[frame] = at
        at -= back[frame, at]
    return list(_spans(path, len(outputs)))


def _spans(path: np.ndarray, outputs: int) -> Iterator[tuple[int, int]]:
    for index in range(outputs):
        frames = np.flatnonzero(path == 2 * index + 1)
        yield int(frames[0]), int(frames[-1]) + 1
