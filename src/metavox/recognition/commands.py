"""Commands: recordings decoded inside a grammar, and rejected where they are other speech."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from metavox.recognisers.recogniser import Audio, DecodeOptions, Recogniser
from metavox.recognition.grammar import Grammar

BEAM = 8  # texts inside the grammar
FREE_BEAM = 2  # texts of any kind, which the best command is compared with
THRESHOLD = -8.0  # see benchmarks/commands.py


@dataclass(frozen=True)
class Command:
    """What a recording commands. `intent` is None for speech that is no command.

    `score` is the natural logarithm of how much likelier the best command `text` is than the best text of any kind.
    """

    intent: str | None
    slots: Mapping[str, Any] = field(default_factory=dict)
    text: str = ""
    score: float = -np.inf

    def as_dict(self) -> dict[str, Any]:
        score = round(self.score, 3) if np.isfinite(self.score) else None
        return {"intent": self.intent, "slots": dict(self.slots), "text": self.text, "score": score}


def understand(
    recogniser: Recogniser,
    recordings: Sequence[Audio],
    grammar: Grammar,
    options: DecodeOptions = DecodeOptions(),
    threshold: float = THRESHOLD,
) -> list[Command]:
    """The command in each recording of up to `spec.longest_s`: the likeliest text of the grammar, unless its score is
    below the threshold.
    """
    encoded = recogniser.encode(recordings)
    inside = replace(options, beam=BEAM, guide=grammar.automaton, word_times=False)
    free = replace(options, beam=FREE_BEAM, guide=None, word_times=False)
    commands = recogniser.transcribe(encoded, inside)
    others = recogniser.transcribe(encoded, free)
    out = []
    for command, other in zip(commands, others, strict=True):
        segments = [segment for segment in command.segments if segment.text]
        meaning = grammar.meaning(command.text) if len(segments) == 1 else None
        if meaning is None:
            out.append(Command(None))
            continue
        score = segments[0].log_prob - sum(segment.log_prob for segment in other.segments)
        accepted = score >= threshold
        out.append(
            Command(
                meaning.intent if accepted else None, meaning.slots if accepted else {}, command.text, score
            )
        )
    return out


def threshold_for(scores: Sequence[float], false_accept_rate: float) -> float:
    """The threshold that this share of other speech, with these scores, reaches.

    A recording without any score (minus infinity) is never accepted.
    """
    ranked = np.sort(np.asarray(scores, float))[::-1]
    allowed = int(np.floor(false_accept_rate * len(ranked)))
    return float(np.nextafter(ranked[allowed], np.inf)) if allowed < len(ranked) else -np.inf
