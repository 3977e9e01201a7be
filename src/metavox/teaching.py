"""Learning a delta from recordings, with all checks, as the command line, the service and the pipeline do it."""

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
SHORT_S, SHORT_WORDS = 3.0, 3  # the longest recording and text that count as a word
WORD_FOLDS, UTTERANCE_FOLDS = (
    5,
    2,
)  # a fold takes milliseconds for words, but a complete adaptation for utterances


@dataclass(frozen=True)
class TeachingSet:
    """Recordings with their texts, and optionally their speakers, names and languages.

    `audio` is samples (time,) at the session's sample rate, or audio prepared by its recogniser. `languages` are ISO 639
    codes, empty if unknown. `names` identify the recordings in messages, for example by file name.
    """

    audio: Sequence[Audio]
    texts: Sequence[str]
    speakers: Sequence[str] = ()
    names: Sequence[str] = ()
    languages: Sequence[str] = ()

    @property
    def language(self) -> str:
        """The language of all recordings; empty if there are several or it is unknown."""
        return self.languages[0] if len(set(self.languages)) == 1 else ""

    def named(self, index: int) -> str:
        """The name of a recording in messages, by its index from 0."""
        return self.names[index] if self.names else f"recording {index + 1}"


@dataclass(frozen=True)
class TeachConfig:
    """`auto` decides from the recordings whether they are words or utterances. If `guards` is None, nothing is checked."""

    kind: Kind = "auto"
    words: EnrolConfig = field(default_factory=lambda: EnrolConfig(folds=WORD_FOLDS))
    utterances: FineTuneConfig = field(default_factory=lambda: FineTuneConfig(folds=UTTERANCE_FOLDS))
    guards: GuardConfig | None = field(default_factory=GuardConfig)


@dataclass(frozen=True)
class Taught:
    """The learned delta, the kind of recordings with the reason, and warnings about the recordings.

    `expectations` describes in words what the figures in `delta.about` lead one to expect.
    """

    delta: Delta
    kind: Literal["words", "utterances"]
    why: str
    warnings: tuple[str, ...]

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
    """Learn a vocabulary, or adapt to a speaker, room or language; the session is not changed.

    Raises UserError if there is nothing to learn from, if the recording of a word has no speech, and if one recording
    has two labels.
    """
    if not len(recordings.audio):
        raise UserError("no labelled recording to learn from; expected at least one")
    if broken := next((text for text in recordings.texts if has_controls(" ".join(text.split()))), None):
        raise UserError(f"text {broken[:40]!r} contains a control character; remove it")
    kind, why = kind_of(session, recordings) if config.kind == "auto" else (config.kind, "it was requested")
    if kind == "words":
        delta, warnings = _teach_words(session, recordings, config.words)
    else:
        delta, warnings = _teach_utterances(session, recordings, config, rehearsal, record)
    base = (session.embedder if kind == "words" else session.recogniser).spec.name
    about = {**delta.about, "base_name": base} | (
        {"language": recordings.language} if recordings.language else {}
    )
    return Taught(replace(delta, about=about), kind, why, tuple(warnings))


def expectations(delta: Delta) -> list[str]:
    """What to expect of a delta by cross-validation and by the guards, and new characters: one line each."""
    about: Any = delta.about
    lines = []
    if delta.output_rows:
        lines.append(f"new characters, which the base model lacks: {' '.join(delta.output_rows.alphabet)}")
    if "diverged" in about:
        lines.append(f"stopped early: {about['diverged']}; the weights of step {about['steps']} are kept")
    expected = about.get("expected")
    if expected and "accuracy" in expected:
        lines.append(
            _words_line(
                "these speakers", expected, f"{expected['folds']}-fold cross-validation on your recordings"
            )
        )
        if other_speakers := about.get("expected_voices"):
            lines.append(
                _words_line("other speakers", other_speakers, "leaving out one of your speakers at a time")
            )
    elif expected:
        characters = [("cer", "character")]
        without_spaces = expected.get("without_spaces")
        if without_spaces:
            lines.append(
                "the texts are written without spaces between words, so errors are counted in characters"
            )
        for name, unit in characters if without_spaces else [("wer", "word"), *characters]:
            if name in expected:
                lines.append(
                    f"expected {unit} error rate on new recordings: {_percent(expected[name])}, without the delta "
                    f"{_percent(expected[f'{name}_before'])} ({expected['folds']}-fold cross-validation on your recordings)"
                )
    return [*lines, *about.get("guards", {}).get("lines", ())]


def _teach_words(session: Session, recordings: TeachingSet, config: EnrolConfig) -> tuple[Delta, list[str]]:
    embedder, rate = session.embedder, session.rate
    texts = one_spelling(recordings.texts, recordings.languages)
    speech = [
        word_in(recording, rate, embedder.margin_s)[0] if isinstance(recording, np.ndarray) else recording
        for recording in recordings.audio
    ]
    padded = [
        trimmed(recording, rate)[0] if isinstance(recording, np.ndarray) else recording
        for recording in recordings.audio
    ]
    _check_words(recordings, texts, speech, padded, rate)
    warnings = recording_warnings(padded, texts, embedder, words=True)
    clips = [_first(recording, embedder.duration_s(recording)) for recording in speech]
    delta = enrol(embedder, clips, texts, config, list(recordings.speakers) or None)
    return delta, warnings


def _check_words(
    recordings: TeachingSet, texts: Sequence[str], speech: Sequence[Audio], padded: Sequence[Audio], rate: int
) -> None:
    """Raise UserError for a recording without speech, and for one that occurs with two labels.

    `speech` are the words alone, and `padded` the words with a margin, without which speech cannot be distinguished from
    steady sound.
    """
    label_of: dict[str, int] = {}
    for i, (word, text) in enumerate(zip(speech, texts, strict=True)):
        name = recordings.named(i)
        if (range_db := level_range_db(padded[i], rate)) < LEAST_SPEECH_DB:
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
        recogniser = recogniser.for_language(session.options.language)
    recordings, cut_warnings = _in_pieces(recogniser, recordings)
    warnings = cut_warnings + recording_warnings(recordings.audio, recordings.texts, recogniser, words=False)
    usable = [
        i
        for i, recording in enumerate(recordings.audio)
        if recogniser.duration_s(recording) <= recogniser.spec.longest_s
    ]
    if not usable:
        raise UserError(
            f"all {len(recordings.audio)} recordings are longer than {recogniser.spec.longest_s:.0f} s; "
            "cut them into sentences with their texts"
        )
    audio = recogniser.prepare([recordings.audio[i] for i in usable])
    prepared = Recordings(audio, [recordings.texts[i] for i in usable], session.options.language)
    rehearsal_recordings = rehearsal.prepared_for(recogniser) if rehearsal else None
    delta = fine_tune(recogniser, prepared, config.utterances, rehearsal_recordings, record)
    if config.guards:
        delta = guard(recogniser, delta, prepared, rehearsal, config.guards)
    return delta, warnings


def _in_pieces(recogniser: Recogniser, recordings: TeachingSet) -> tuple[TeachingSet, list[str]]:
    """The recordings with those that are too long for the recogniser cut into pieces, and a warning about them.

    Long recordings that cannot be cut are kept as they are.
    """
    audio: list[Audio] = []
    texts: list[str] = []
    long_count = piece_count = 0
    for recording, text in zip(recordings.audio, recordings.texts, strict=True):
        pieces: Sequence[tuple[Audio, str]] = ()
        if isinstance(recording, np.ndarray) and recogniser.duration_s(recording) > recogniser.spec.longest_s:
            pieces = segment_recording(recogniser, recording, text)
            long_count, piece_count = long_count + bool(pieces), piece_count + len(pieces)
        for piece, piece_text in pieces or [(recording, text)]:
            audio.append(piece)
            texts.append(piece_text)
    if not long_count:
        return recordings, []
    line = (
        f"{long_count} recordings are longer than {recogniser.spec.longest_s:.0f} s; they were cut into {piece_count} pieces "
        f"by aligning their texts with the transcripts of {recogniser.spec.name}"
    )
    return TeachingSet(audio, texts, languages=[recordings.language] * len(texts)), [line]


def kind_of(session: Session, recordings: TeachingSet) -> tuple[Literal["words", "utterances"], str]:
    """Whether recordings are words or utterances, and the reason in words."""
    longest = max(len(text.split()) for text in recordings.texts)
    if longest > SHORT_WORDS:
        return "utterances", f"a text has {longest} words"
    texts = one_spelling(recordings.texts, recordings.languages)
    if min(map(texts.count, set(texts))) > 1:
        return (
            "words",
            f"each of the {len(set(texts))} texts, of at most {longest} words, occurs more than once",
        )
    speech = [
        len(trimmed(recording, session.rate)[0]) / session.rate
        if isinstance(recording, np.ndarray)
        else session.recogniser.duration_s(recording)
        for recording in recordings.audio
    ]
    if max(speech) <= SHORT_S:
        return "words", f"the texts have at most {longest} words and the recordings at most {SHORT_S:.0f} s"
    return "utterances", f"a recording of {max(speech):.1f} s is too long for a word"


def _first(audio: Any, duration_s: float) -> Audio:
    """The first part of a recording, which is used for a word."""
    used: Audio = audio[: round(len(audio) * LONG_WORD_S / duration_s)] if duration_s > LONG_WORD_S else audio
    return used


def _percent(rate: Any) -> str:
    return Interval.of(rate).percent()


def _words_line(speakers: str, expected: Any, method: str) -> str:
    accuracy, accepted = (
        "{:.0f}% ({:.0f} to {:.0f})".format(*(100 * expected[name][k] for k in ("mean", "low", "high")))
        for name in ("accuracy", "accepted")
    )
    return (
        f"expected accuracy on new clips of {speakers}: {accuracy}, with rejection of unknown words {accepted} "
        f"({method}, {expected['clips']} clips)"
    )
