"""Sessions: a base model with deltas and a vocabulary. The command line, the service, the evaluation and the gate all
transcribe through a session, so that what is evaluated is what is deployed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from metavox.audio.trim import trimmed, word_in
from metavox.errors import UserError
from metavox.recognisers.bases.catalogue import CONFORMER, advice, two_letters
from metavox.recognisers.bases.find import Base, default_embedder, embedders, find_base
from metavox.recognisers.delta import Delta, Vocabulary, vocabulary
from metavox.recognisers.recogniser import Audio, DecodeOptions, Recogniser, WordEmbedder
from metavox.recognisers.transcript import Segment, Transcript, Word
from metavox.recognition.long import LongTranscription
from metavox.recognition.speech import LONGEST_S, SpeechWindow, spoken_part

LONGEST_WORD_S = 3.0  # longer speech is a sentence; silence around it does not count


@dataclass(frozen=True)
class Guess:
    """The recognised word, and the scores of all enrolled words, best first.

    `word` is None if even the best score is below the threshold. `confidence` is the probability of `word`, or of none
    of the words.
    """

    word: str | None
    similarities: tuple[tuple[str, float], ...]
    confidence: float = 0.0


@dataclass(frozen=True)
class Session:
    """`recogniser` transcribes, and `embedder` recognises the words of `vocabulary`.

    `language` (ISO 639) is the language of the deltas in use; empty if it is unknown or they differ.
    """

    recogniser: Recogniser
    embedder: WordEmbedder
    vocabulary: Vocabulary | None = None
    options: DecodeOptions = field(default_factory=DecodeOptions)
    language: str = ""

    @property
    def rate(self) -> int:
        """The sample rate of the recogniser, in Hz."""
        return self.recogniser.spec.sample_rate_hz

    @property
    def words(self) -> tuple[str, ...]:
        return self.vocabulary.words if self.vocabulary else ()

    def using(self, deltas: Sequence[Delta]) -> "Session":
        """The session with additional deltas, of which at most one may hold a vocabulary.

        Words are recognised by the embedder that they were enrolled with, if it is here. Raises UserError for a delta of
        another base model or embedder.
        """
        words = vocabulary(deltas)
        embedder = self.embedder_of(words) if words else self.embedder
        if embedder is None:
            assert words is not None
            raise UserError(
                f"the words were enrolled with the embedder {words.embedder[:12]}, but this session uses "
                f"{self.embedder.spec.name} {self.embedder.spec.digest[:12]}; enrol them again"
            )
        changing = [delta for delta in deltas if delta.changes_recogniser]
        delta_languages = {str(delta.about.get("language", "")) for delta in deltas} | {self.language}
        languages = delta_languages - {""}
        return replace(
            self,
            recogniser=self.recogniser.using(changing),
            embedder=embedder,
            vocabulary=words or self.vocabulary,
            language=languages.pop() if len(languages) == 1 else "",
        )

    def embedder_of(self, words: Vocabulary) -> WordEmbedder | None:
        """The embedder that words were enrolled with; None if it is not here."""
        if words.embedder == self.embedder.spec.digest:
            return self.embedder
        for base in embedders():
            if base.digest == words.embedder and isinstance(embedder := base.load(), WordEmbedder):
                return embedder
        return None

    def transcribe(self, samples: np.ndarray) -> Transcript:
        """Transcribe samples (time,): short speech as an enrolled word if it is one, everything else by the recogniser."""
        return self.transcribe_all([samples])[0]

    def transcribe_all(self, recordings: Sequence[np.ndarray]) -> list[Transcript]:
        """As `transcribe`, in batches."""
        transcripts: dict[int, Transcript] = {}
        if self.vocabulary:
            for i, samples in enumerate(recordings):
                if (word := self._word(samples)) is not None:
                    transcripts[i] = word
        remaining = [i for i in range(len(recordings)) if i not in transcripts]
        transcripts |= self._texts({i: recordings[i] for i in remaining})
        language = self.options.language or self.language
        ordered = [transcripts[i] for i in range(len(recordings))]
        return [each if each.language else replace(each, language=language) for each in ordered]

    def transcription(self) -> LongTranscription:
        """An empty transcription by the recogniser, of a recording that is pushed block by block."""
        return LongTranscription(self._in_windows, self.rate)

    def _texts(self, recordings: Mapping[int, np.ndarray]) -> dict[int, Transcript]:
        """Transcripts by the recogniser, of what is speech."""
        out: dict[int, Transcript] = {}
        parts: dict[int, SpeechWindow] = {}
        for i, samples in recordings.items():
            duration_s = len(samples) / self.rate
            if duration_s > LONGEST_S:
                long = self.transcription()
                out[i] = long.transcript([*long.push(samples), *long.end()])
            elif (part := spoken_part(samples, self.rate)) is not None:
                parts[i] = part
            else:
                out[i] = Transcript((), duration_s, speech_s=0.0)
        texts = self.recogniser.transcribe([part.samples for part in parts.values()], self.options)
        for (i, part), text in zip(parts.items(), texts, strict=True):
            segments = tuple(map(part.placed, text.segments))
            out[i] = Transcript(segments, len(recordings[i]) / self.rate, text.language, part.speech_s)
        return out

    def _in_windows(self, windows: Sequence[np.ndarray], language: str) -> list[Transcript]:
        known = language in self.recogniser.spec.languages
        options = replace(self.options, language=self.options.language or (language if known else ""))
        return self.recogniser.transcribe(windows, options)

    def recognise_word(self, samples: np.ndarray) -> Guess:
        """Recognise an enrolled word, or none of them, in samples (time,). Raises UserError if no word is enrolled."""
        speech, _ = word_in(samples, self.rate, self.embedder.margin_s)
        return self._guess(self.embedder.encode([speech]))

    def understands(self, language: str) -> bool:
        """Whether the recogniser supports a language (ISO 639); true if it does not declare its languages."""
        known = self.recogniser.spec.languages
        return not known or not language or two_letters(language) in known

    def in_language(self, language: str) -> "Session":
        """The session for a language (ISO 639); if empty, it is detected. Raises UserError if it is not supported."""
        if not self.understands(language):
            spec = self.recogniser.spec
            raise UserError(f"{spec.name} does not know {advice(language)}")
        return replace(
            self, options=replace(self.options, language=two_letters(language) if language else "")
        )

    def _word(self, samples: np.ndarray) -> Transcript | None:
        """The transcript of a recording short enough for a word; None if it must be transcribed like any other."""
        spoken, start_s = trimmed(samples, self.rate, margin_s=0.0)
        end_s = start_s + len(spoken) / self.rate
        if end_s - start_s > LONGEST_WORD_S:
            return None
        speech, _ = word_in(samples, self.rate, self.embedder.margin_s)
        encoded = self.embedder.encode([speech])
        guess = self._guess(encoded)
        if guess.word:
            word = Word(guess.word, start_s, end_s, guess.confidence)
            segment = Segment(guess.word, start_s, end_s, guess.confidence, (word,))
            return Transcript((segment,), len(samples) / self.rate, self.language)
        if self.recogniser.network is not self.embedder.network:
            return None
        # Reuse the encoded frames if they cover the same samples.
        part = spoken_part(samples, self.rate)
        if part is None or len(part.samples) != len(speech):
            return None
        (transcript,) = self.recogniser.transcribe(encoded, self.options)
        segments = tuple(map(part.placed, transcript.segments))
        return Transcript(segments, len(samples) / self.rate, transcript.language, part.speech_s)

    def _guess(self, encoded: Sequence[Audio]) -> Guess:
        words = self.vocabulary
        if words is None:
            raise UserError("no word is enrolled; use a delta with a vocabulary")
        scores = self.embedder.score_words(words, encoded)[0]
        with_none = torch.cat([scores, torch.tensor([words.threshold])])
        probabilities = (words.logit_scale * with_none).softmax(dim=0)
        ranked = sorted(zip(words.words, scores.tolist(), strict=True), key=lambda pair: -pair[1])
        known = ranked[0][1] >= words.threshold
        confidence = float(probabilities[:-1].max() if known else probabilities[-1])
        return Guess(ranked[0][0] if known else None, tuple(ranked), confidence)


def open_session(base: str | None = None, language: str = "") -> Session:
    """A session on a named base model (see `find_base`), with its word embedder.

    `language` (ISO 639) selects one of the base model's language adapters, if it has any. Raises UserError if there is no
    such base model.
    """
    return session_with(find_base(base), language)


def open_for_words(base: str | None = None) -> Session:
    """As `open_session`, for words only: a base model that cannot embed words is not loaded."""
    resolved = find_base(base)
    return session_on(
        (resolved.embedder or (resolved if resolved.kind == CONFORMER else default_embedder())).load()
    )


def session_with(base: Base, language: str = "") -> Session:
    """A session on a base model and the word embedder bundled with it, if any."""
    return session_on(base.load(language), base.embedder.load() if base.embedder else None)


def session_on(recogniser: Recogniser, embedder: Recogniser | None = None) -> Session:
    """A session on a loaded recogniser. If it cannot embed words itself, `embedder` does, by default the conformer that
    comes with metavox. Raises UserError if `embedder` cannot embed words."""
    word_embedder = (
        recogniser if isinstance(recogniser, WordEmbedder) else embedder or default_embedder().load()
    )
    if not isinstance(word_embedder, WordEmbedder):
        raise UserError(
            f"{word_embedder.spec.name} cannot embed words; expected a base model of the kind {CONFORMER}"
        )
    return Session(recogniser, word_embedder)
