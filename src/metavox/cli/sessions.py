"""A session as the commands open it: the base that was asked for, its language, its threads, its deltas."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from metavox import threads
from metavox.adaptation.test_time import TestTime, TestTimeConfig
from metavox.errors import UserError
from metavox.progress import bar
from metavox.recognisers.bases import store
from metavox.recognisers.bases.catalogue import CONFORMER
from metavox.recognisers.bases.find import bundled, default_embedder, named
from metavox.recognisers.conformer import WINDOW_S, ConformerRecogniser
from metavox.recognisers.delta import Delta, Vocabulary, vocabulary
from metavox.recognisers.recogniser import WordEmbedder
from metavox.recognisers.transcript import Transcript
from metavox.session import LONGEST_WORD_S, Session, open_session

TestTimeMode = Literal["off", "episodic", "continual"]
BATCH = 16  # recordings that are heard between two signs of life


def opened(
    base: str | None, language: str = "", spoken: Sequence[str] = (), deltas: Sequence[Delta] = ()
) -> Session:
    """The session for recordings in `language`, or for those that a manifest says are in the languages `spoken`, before
    `deltas` are on it; without `base`, the one that the deltas were made for.

    A base that was named hears a language that it does not know as best it can, and one line says so; else UserError is
    raised, unless it is words that are asked for. Words are found by the network that they were enrolled with, where it
    is here.
    """
    languages = [language] if language else list(spoken)
    chosen = named(base) or _made_for(deltas)
    session = open_session(chosen, languages[0] if languages else "")
    words = vocabulary(deltas)
    if words and words.embedder != session.embedder.spec.digest:
        session = _finding(words, session)
    kind, name = session.recogniser.spec.kind, session.recogniser.spec.name
    threads.limit("small network" if kind == CONFORMER else "foundation model")
    try:
        for code in languages:
            heard = session.in_language(code)
    except UserError as error:
        if not chosen and not any(delta.words for delta in deltas):
            raise UserError(f"{error}; --base {name} takes it all the same") from None
        print(f"metavox: {error}; going on with {name}", file=sys.stderr)
        return session
    return heard if len(languages) == 1 else session


def _finding(words: Vocabulary, session: Session) -> Session:
    """The session with the packaged word embedder where that is the one that the words were enrolled with."""
    packaged = default_embedder()
    if words.embedder != packaged.digest:
        return session
    embedder = packaged.load()
    assert isinstance(embedder, WordEmbedder)
    return replace(session, embedder=embedder)


def with_deltas(session: Session, folders: Sequence[Path], deltas: Sequence[Delta]) -> Session:
    """The session with deltas, which are in `folders`. Raises UserError for one of another base, naming it."""
    spec = session.recogniser.spec
    for folder, delta in zip(folders, deltas, strict=True):
        if delta.changes_recogniser and delta.base != spec.digest:
            made_for = delta.about.get("base_name", "another model")
            raise UserError(
                f"--delta {folder}: made for base {delta.base[:12]} ({made_for}), this is {spec.digest[:12]} "
                f"({spec.name}); name its own with --base, or adapt again"
            )
    return session.using(deltas)


def _made_for(deltas: Sequence[Delta]) -> str | None:
    """The name or folder of the base that deltas change, where it can be found by that."""
    changing = [delta for delta in deltas if delta.changes_recogniser]
    bundle = bundled(tell=None) if changing else None
    if bundle and any(delta.base == bundle.digest for delta in changing):
        return str(bundle.folder)
    for delta in changing:
        name = str(delta.about.get("base_name", ""))
        if name and (name == CONFORMER or store.stored(name)):
            return name
        if delta.base == default_embedder().digest:
            return CONFORMER
    return None


@dataclass(frozen=True)
class Moving:
    """A session whose networks move with each recording before they hear it; those of the base stay as they are."""

    session: Session
    letters: TestTime
    words: TestTime

    def transcribe(self, samples: np.ndarray) -> Transcript:
        """Samples (time,); what moves the networks is their beginning, as much as is heard at a time."""
        session, recogniser = self.session, self.session.recogniser
        (mels,) = recogniser.prepare([samples[: int(WINDOW_S * session.rate)]])
        if session.vocabulary and len(samples) <= LONGEST_WORD_S * session.rate:
            moved = self.words.words(mels, session.vocabulary)  # type: ignore[arg-type]
            session = replace(session, embedder=session.embedder.with_network(moved))
        moved = self.letters.characters(mels)  # type: ignore[arg-type]
        return replace(session, recogniser=recogniser.with_network(moved)).transcribe(samples)


def moving(session: Session, mode: TestTimeMode) -> Session | Moving:
    """The session, or one that adapts to each recording. Raises UserError for kinds that cannot."""
    if mode == "off":
        return session
    recogniser, embedder = session.recogniser, session.embedder
    if not isinstance(recogniser, ConformerRecogniser) or not isinstance(embedder, ConformerRecogniser):
        raise UserError(
            f"--test-time {mode}: only a base of the kind {CONFORMER} moves with what it hears, "
            f"{recogniser.spec.name} is of the kind {recogniser.spec.kind}; use --base {CONFORMER}, or leave it out"
        )
    how = TestTimeConfig(mode)
    return Moving(session, TestTime(recogniser.network, how), TestTime(embedder.network, how))


def hear_all(session: Session | Moving, recordings: Sequence[np.ndarray], what: str) -> Iterator[Transcript]:
    """One transcript a recording, in batches, with signs of life."""
    with bar(what, len(recordings), "recordings") as progress:
        for start in range(0, len(recordings), BATCH):
            part = recordings[start : start + BATCH]
            yield from (
                session.transcribe_all(part)
                if isinstance(session, Session)
                else map(session.transcribe, part)
            )
            progress.advance(len(part))
