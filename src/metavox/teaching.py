"""Recordings to a delta, with every check: the one way in which the command line, the service and the pipeline teach."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from metavox.adaptation.checks import (
    LEAST_SPEECH_DB,
    LONG_WORD_S,
    content_bytes,
    level_range_db,
    recording_warnings,
)
from metavox.adaptation.fine_tune import FineTuneConfig, Record, Recordings, fine_tune
from metavox.adaptation.guards import GuardConfig, guard
from metavox.adaptation.rehearsal import Rehearsal
from metavox.adaptation.segmentation import segment_recording
from metavox.audio.trim import trimmed, word_in
from metavox.enrolment.enrol import EnrolConfig, enrol
from metavox.errors import UserError
from metavox.intervals import Interval
from metavox.recognisers.delta import Delta
from metavox.recognisers.recogniser import Audio, Recogniser
from metavox.session import Session
from metavox.text import has_controls, one_spelling

Kind = Literal["auto", "words", "utterances"]
SHORT_S, SHORT_WORDS = 3.0, 3  # what counts as a word rather than an utterance
WORD_FOLDS, UTTERANCE_FOLDS = 5, 2  # a fold of words takes milliseconds, one of utterances a whole adaptation


@dataclass(frozen=True)
class TeachingSet:
    """Recordings, as samples (time,) at the session's rate or as its recogniser prepared them, with what is said in
    each, by whom and in which language (ISO 639; empty where nobody knows).

    `names` are what messages call the recordings, such as their files' names.
    """

    audio: Sequence[Audio]
    texts: Sequence[str]
    speakers: Sequence[str] = ()
    names: Sequence[str] = ()
    languages: Sequence[str] = ()

    @property
    def language(self) -> str:
        """The one language of all recordings; empty where there are several, or it is not known."""
        return self.languages[0] if len(set(self.languages)) == 1 else ""

    def named(self, number: int) -> str:
        """What a message calls recording `number`, counted from 0."""
        return self.names[number] if self.names else f"recording {number + 1}"


@dataclass(frozen=True)
class TeachConfig:
    """`auto` looks whether the recordings are of words or of utterances. `guards` None checks nothing."""

    kind: Kind = "auto"
    words: EnrolConfig = field(default_factory=lambda: EnrolConfig(folds=WORD_FOLDS))
    utterances: FineTuneConfig = field(default_factory=lambda: FineTuneConfig(folds=UTTERANCE_FOLDS))
    guards: GuardConfig | None = field(default_factory=GuardConfig)


@dataclass(frozen=True)
class Taught:
    """`kind` and why it was taken to be that; `remarks` are faults of the recordings; what to expect is in
    `delta.about`, and `expectations` puts it into words."""

    delta: Delta
    kind: Literal["words", "utterances"]
    why: str
    recording_warnings: tuple[str, ...]

    @property
    def expectations(self) -> list[str]:
        return expectations(self.delta)


def teach(
    session: Session,
    recordings: TeachingSet,
    config: TeachConfig = TeachConfig(),
    rehearsal: Rehearsal | None = None,
    record: Record | None = None,
) -> Taught:
    """Learn a vocabulary, or a speaker, room or language, from recordings; the session stays as it is.

    Raises UserError when there is nothing to learn from, for a word's recording without speech, and for one recording
    that is said to be two words.
    """
    if not len(recordings.audio):
        raise UserError("no labelled recording to learn from; expected at least one")
    if broken := next((text for text in recordings.texts if has_controls(" ".join(text.split()))), None):
        raise UserError(f"text {broken[:40]!r}: holds a control character; expected words")
    kind, why = kind_of(session, recordings) if config.kind == "auto" else (config.kind, "that was asked for")
    if kind == "words":
        delta, found = _teach_words(session, recordings, config.words)
    else:
        delta, found = _teach_utterances(session, recordings, config, rehearsal, record)
    base = (session.embedder if kind == "words" else session.recogniser).spec.name
    about = {**delta.about, "base_name": base} | (
        {"language": recordings.language} if recordings.language else {}
    )
    return Taught(replace(delta, about=about), kind, why, tuple(found))


def expectations(delta: Delta) -> list[str]:
    """What cross-validation, the threshold and the guards promise, and what was new: a line each."""
    about: Any = delta.about
    lines = []
    if delta.output_rows:
        lines.append(f"new characters, which the model lacked: {' '.join(delta.output_rows.alphabet)}")
    if "diverged" in about:
        lines.append(f"stopped early: {about['diverged']}; the weights of step {about['steps']} are kept")
    expected = about.get("expected")
    if expected and "accuracy" in expected:
        lines.append(_words_line("these speakers", expected, f"{expected['folds']}-fold on your recordings"))
        if other := about.get("expected_voices"):
            lines.append(_words_line("other speakers", other, "each of your speakers taught by the others"))
    elif expected:
        characters = [("cer", "characters")]
        alone = expected.get("without_spaces")
        if alone:
            lines.append(
                "the texts are written without spaces between words, so that errors are in characters"
            )
        for name, unit in characters if alone else [("wer", "words"), *characters]:
            if name in expected:
                lines.append(
                    f"expected {unit} wrong on new recordings: {_percent(expected[name])}, without the delta "
                    f"{_percent(expected[f'{name}_before'])} ({expected['folds']}-fold on your recordings)"
                )
    return [*lines, *about.get("guards", {}).get("lines", ())]


def _teach_words(session: Session, recordings: TeachingSet, config: EnrolConfig) -> tuple[Delta, list[str]]:
    embedder, rate = session.embedder, session.rate
    texts = one_spelling(recordings.texts, recordings.languages)
    speech = [word_in(one, rate)[0] if isinstance(one, np.ndarray) else one for one in recordings.audio]
    around = [trimmed(one, rate)[0] if isinstance(one, np.ndarray) else one for one in recordings.audio]
    _check_words(recordings, texts, speech, around, rate)
    found = recording_warnings(around, texts, embedder, words=True)
    cut = [_first(one, embedder.duration_s(one)) for one in speech]
    delta = enrol(embedder, cut, texts, config, list(recordings.speakers) or None)
    return delta, found


def _check_words(
    recordings: TeachingSet, texts: Sequence[str], speech: Sequence[Audio], around: Sequence[Audio], rate: int
) -> None:
    """Raises UserError for a recording in which nothing is said, and for one under two labels.

    `speech` are the words alone, `around` the same with a margin, against which they can be told from steady sound.
    """
    label_of: dict[str, int] = {}
    for i, (word, text) in enumerate(zip(speech, texts, strict=True)):
        name = recordings.named(i)
        if (range_db := level_range_db(around[i], rate)) < LEAST_SPEECH_DB:
            raise UserError(
                f"{name}: no speech found, but it is labelled {text!r}: its level varies by {range_db:.1f} dB, and speech "
                f"varies by {LEAST_SPEECH_DB:.0f} dB or more; record the word again, or leave this recording out"
            )
        first = label_of.setdefault(hashlib.sha256(content_bytes(word)).hexdigest(), i)
        if texts[first] != text:
            raise UserError(
                f"{name}: the same recording as {recordings.named(first)}, but one is labelled {texts[first]!r} and the "
                f"other {text!r}; correct the labels, or leave one of them out"
            )


def _teach_utterances(
    session: Session,
    recordings: TeachingSet,
    config: TeachConfig,
    rehearsal: Rehearsal | None,
    record: Record | None,
) -> tuple[Delta, list[str]]:
    recogniser = session.recogniser
    if session.options.language:
        recogniser = recogniser.speaking(session.options.language)
    recordings, cut = _in_pieces(recogniser, recordings)
    found = cut + recording_warnings(recordings.audio, recordings.texts, recogniser, words=False)
    chosen = [
        i for i, one in enumerate(recordings.audio) if recogniser.duration_s(one) <= recogniser.spec.longest_s
    ]
    if not chosen:
        raise UserError(
            f"all {len(recordings.audio)} recordings are longer than {recogniser.spec.longest_s:.0f} s; "
            "cut them into sentences with their texts"
        )
    audio = recogniser.prepare([recordings.audio[i] for i in chosen])
    said = Recordings(audio, [recordings.texts[i] for i in chosen], session.options.language)
    general = rehearsal.prepared_for(recogniser) if rehearsal else None
    delta = fine_tune(recogniser, said, config.utterances, general, record)
    if config.guards:
        delta = guard(recogniser, delta, said, rehearsal, config.guards)
    return delta, found


def _in_pieces(recogniser: Recogniser, recordings: TeachingSet) -> tuple[TeachingSet, list[str]]:
    """The same with recordings that are too long to learn from in pieces, and a line about them; those that cannot be cut
    stay."""
    audio: list[Audio] = []
    texts: list[str] = []
    long = count = 0
    for one, text in zip(recordings.audio, recordings.texts, strict=True):
        parts: Sequence[tuple[Audio, str]] = ()
        if isinstance(one, np.ndarray) and recogniser.duration_s(one) > recogniser.spec.longest_s:
            parts = segment_recording(recogniser, one, text)
            long, count = long + bool(parts), count + len(parts)
        for piece, said in parts or [(one, text)]:
            audio.append(piece)
            texts.append(said)
    if not long:
        return recordings, []
    line = (
        f"{long} recordings are longer than {recogniser.spec.longest_s:.0f} s; they were cut into {count} pieces by what "
        f"{recogniser.spec.name} hears in them"
    )
    return TeachingSet(audio, texts, languages=[recordings.language] * len(texts)), [line]


def kind_of(session: Session, recordings: TeachingSet) -> tuple[Literal["words", "utterances"], str]:
    """What a set of recordings looks like, and why."""
    longest = max(len(text.split()) for text in recordings.texts)
    if longest > SHORT_WORDS:
        return "utterances", f"a text has {longest} words"
    said = one_spelling(recordings.texts, recordings.languages)
    if min(map(said.count, set(said))) > 1:
        return (
            "words",
            f"each of its {len(set(said))} texts, of {longest} words at most, is said more than once",
        )
    speech = [
        len(trimmed(one, session.rate)[0]) / session.rate
        if isinstance(one, np.ndarray)
        else session.recogniser.duration_s(one)
        for one in recordings.audio
    ]
    if max(speech) <= SHORT_S:
        return "words", f"texts have {longest} words at most and recordings {SHORT_S:.0f} s"
    return "utterances", f"a recording of {max(speech):.1f} s is too long for a word"


def _first(audio: Any, duration_s: float) -> Audio:
    """The part of a recording that is used of a word."""
    cut: Audio = audio[: round(len(audio) * LONG_WORD_S / duration_s)] if duration_s > LONG_WORD_S else audio
    return cut


def _percent(rate: Any) -> str:
    return Interval.of(rate).percent()


def _words_line(whose: str, expected: Any, how: str) -> str:
    accuracy, accepted = (
        "{:.0f}% ({:.0f} to {:.0f})".format(*(100 * expected[of][k] for k in ("mean", "low", "high")))
        for of in ("accuracy", "accepted")
    )
    return (
        f"expected accuracy on new clips of {whose}: {accuracy}; with the others rejected as unknown {accepted} "
        f"({how}, {expected['clips']} clips)"
    )
