"""What hears: a base with deltas, and the words that were enrolled. The command line, the service, the evaluation and
the gate all hear through it, so that what is judged is what ships."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from metavox.audio.trim import trimmed, word_in
from metavox.errors import UserError
from metavox.recognisers import registry
from metavox.recognisers.bases.catalogue import CONFORMER, advice, two_letters
from metavox.recognisers.bases.find import Base, bundled, default_embedder, find_base, named
from metavox.recognisers.delta import Delta, Vocabulary, vocabulary
from metavox.recognisers.recogniser import Audio, DecodeOptions, Recogniser, WordEmbedder
from metavox.recognisers.transcript import Segment, Transcript, Word

LONGEST_WORD_S = 3.0  # speech that is longer is a sentence, whatever silence surrounds it


@dataclass(frozen=True)
class Guess:
    """The enrolled words by score, best first; `word` is None when even the best is under the threshold.

    `confidence` is the probability of `word`, or of none of them.
    """

    word: str | None
    similarities: tuple[tuple[str, float], ...]
    confidence: float = 0.0


@dataclass(frozen=True)
class Session:
    """`recogniser` transcribes, `embedder` finds the words of `vocabulary`.

    `language` (ISO 639) is the one that the deltas in use were taught in, empty where they do not say.
    """

    recogniser: Recogniser
    embedder: WordEmbedder
    vocabulary: Vocabulary | None = None
    options: DecodeOptions = field(default_factory=DecodeOptions)
    language: str = ""

    @property
    def rate(self) -> int:
        """Samples a second of what it hears."""
        return self.recogniser.spec.sample_rate_hz

    @property
    def words(self) -> tuple[str, ...]:
        return self.vocabulary.words if self.vocabulary else ()

    def using(self, deltas: Sequence[Delta]) -> "Session":
        """With deltas, which add up; one at most may hold words. Raises UserError for those of another base."""
        words = vocabulary(deltas)
        if words and words.embedder != self.embedder.spec.digest:
            raise UserError(
                f"the words were enrolled with {words.embedder[:12]}, words are found with "
                f"{self.embedder.spec.name} {self.embedder.spec.digest[:12]}; enrol them again"
            )
        changing = [delta for delta in deltas if delta.changes_recogniser]
        taught_in = {str(delta.about.get("language", "")) for delta in deltas} | {self.language}
        languages = taught_in - {""}
        return replace(
            self,
            recogniser=self.recogniser.using(changing),
            vocabulary=words or self.vocabulary,
            language=languages.pop() if len(languages) == 1 else "",
        )

    def hear(self, samples: np.ndarray) -> Transcript:
        """Samples (time,): an enrolled word where short speech is one, else what is said."""
        return self.hear_all([samples])[0]

    def hear_all(self, recordings: Sequence[np.ndarray]) -> list[Transcript]:
        """As `hear`, in batches."""
        found: dict[int, Transcript] = {}
        if self.vocabulary:
            for i, samples in enumerate(recordings):
                if (one := self._word(samples)) is not None:
                    found[i] = one
        rest = [i for i in range(len(recordings)) if i not in found]
        heard = self.recogniser.transcribe([recordings[i] for i in rest], self.options)
        found |= dict(zip(rest, heard, strict=True))
        known = self.options.language or self.language
        ordered = [found[i] for i in range(len(recordings))]
        return [one if one.language else replace(one, language=known) for one in ordered]

    def recognise_word(self, samples: np.ndarray) -> Guess:
        """Which enrolled word a recording (time,) is, or none of them. Raises UserError where none is enrolled."""
        speech, _ = word_in(samples, self.rate)
        return self._guess(self.embedder.encode([speech]))

    def understands(self, language: str) -> bool:
        """Whether the recogniser transcribes a language (ISO 639), or says nothing of languages."""
        known = self.recogniser.spec.languages
        return not known or not language or two_letters(language) in known

    def in_language(self, language: str) -> "Session":
        """Hearing a language (ISO 639); none: it is detected. Raises UserError for one that the recogniser lacks."""
        if not self.understands(language):
            spec = self.recogniser.spec
            raise UserError(f"{spec.name} does not know {advice(language)}")
        return replace(
            self, options=replace(self.options, language=two_letters(language) if language else "")
        )

    def _word(self, samples: np.ndarray) -> Transcript | None:
        """The transcript of a recording that may be a word; None where it is to be transcribed like any other."""
        speech, start_s = word_in(samples, self.rate)
        end_s = start_s + len(speech) / self.rate
        if end_s - start_s > LONGEST_WORD_S:
            return None
        encoded = self.embedder.encode([speech])
        guess = self._guess(encoded)
        if guess.word:
            word = Word(guess.word, start_s, end_s, guess.confidence)
            segment = Segment(guess.word, start_s, end_s, guess.confidence, (word,))
            return Transcript((segment,), len(samples) / self.rate, self.language)
        if self.recogniser.network is not self.embedder.network:
            return None
        around, start_s = trimmed(samples, self.rate)
        # What has been encoded already is not encoded again.
        again: Sequence[Audio] = encoded if len(around) == len(speech) else [around]
        (heard,) = self.recogniser.transcribe(again, self.options)
        segments = tuple(segment.later(start_s) for segment in heard.segments)
        return Transcript(segments, len(samples) / self.rate, heard.language)

    def _guess(self, encoded: Sequence[Audio]) -> Guess:
        words = self.vocabulary
        if words is None:
            raise UserError("no word is enrolled; name a delta that holds a vocabulary")
        scores = self.embedder.score_words(words, encoded)[0]
        with_none = torch.cat([scores, torch.tensor([words.threshold])])
        chances = (words.logit_scale * with_none).softmax(dim=0)
        ranked = sorted(zip(words.words, scores.tolist(), strict=True), key=lambda pair: -pair[1])
        known = ranked[0][1] >= words.threshold
        confidence = float(chances[:-1].max() if known else chances[-1])
        return Guess(ranked[0][0] if known else None, tuple(ranked), confidence)


def open_session(base: str | None = None, language: str = "") -> Session:
    """The base that is named (see `find_base`), and what tells words apart: itself where it can.

    `language` (ISO 639) chooses among a base's adapters of languages. Raises UserError when there is no such base.
    """
    return session_with(find_base(base), language)


def open_for_words(base: str | None = None) -> Session:
    """As `open_session`, for words alone: a base that cannot embed them is not loaded."""
    found = find_base(base) if named(base) else bundled() or default_embedder()
    if found.embedder:
        return session_on(registry.load(found.embedder, CONFORMER))
    return session_on((found if found.kind == CONFORMER else default_embedder()).load())


def session_with(base: Base, language: str = "") -> Session:
    """A session on a base, and on the word embedder that was bundled with it, if any."""
    embedder = registry.load(base.embedder, CONFORMER) if base.embedder else None
    return session_on(base.load(language), embedder)


def session_on(recogniser: Recogniser, embedder: Recogniser | None = None) -> Session:
    """A session on a loaded recogniser. One that cannot embed words itself leaves them to `embedder`, else to the small
    network that comes with metavox."""
    finder = recogniser if isinstance(recogniser, WordEmbedder) else embedder or default_embedder().load()
    if not isinstance(finder, WordEmbedder):
        raise UserError(f"{finder.spec.name} tells no words apart; expected a base of the kind {CONFORMER}")
    return Session(recogniser, finder)
