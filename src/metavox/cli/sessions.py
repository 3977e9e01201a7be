"""Open a session for a command: the requested base, its language, its threads and its deltas."""

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
from metavox.recognisers.delta import Delta
from metavox.recognisers.recogniser import Recogniser, WordEmbedder
from metavox.recognisers.transcript import Transcript
from metavox.session import LONGEST_WORD_S, Session, open_session

TestTimeMode = Literal["off", "episodic", "continual"]
BATCH = 16  # recordings per update of the progress bar


def opened(
    base: str | None, language: str = "", spoken: Sequence[str] = (), deltas: Sequence[Delta] = ()
) -> Session:
    """Open a session for recordings in `language`, or in the languages `spoken` that a manifest names.

    Without `base`, it is the one that `deltas` were made for; the deltas themselves are not applied yet. For a language
    that the base does not support, a base that was named explicitly is used with a warning, as is any base with a
    vocabulary; otherwise UserError is raised.
    """
    languages = [language] if language else list(spoken)
    explicit = named(base) or _made_for(deltas)
    session = open_session(explicit, languages[0] if languages else "")
    kind, name = session.recogniser.spec.kind, session.recogniser.spec.name
    threads.limit("small network" if kind == CONFORMER else "foundation model")
    try:
        for code in languages:
            in_language = session.in_language(code)
    except UserError as error:
        if not explicit and not any(delta.words for delta in deltas):
            raise UserError(f"{error}; --base {name} uses it all the same") from None
        print(f"metavox: {error}; continuing with {name}", file=sys.stderr)
        return session
    return in_language if len(languages) == 1 else session


def with_deltas(session: Session, folders: Sequence[Path], deltas: Sequence[Delta]) -> Session:
    """Apply deltas, read from `folders`. Raises UserError for one made for another base."""
    spec = session.recogniser.spec
    for folder, delta in zip(folders, deltas, strict=True):
        if delta.changes_recogniser and delta.base != spec.digest:
            made_for = delta.about.get("base_name", "another model")
            raise UserError(
                f"--delta {folder}: made for base {delta.base[:12]} ({made_for}); this is {spec.digest[:12]} "
                f"({spec.name}); select its base with --base, or adapt again"
            )
    return session.using(deltas)


def _made_for(deltas: Sequence[Delta]) -> str | None:
    """The name or folder of the base that the deltas change, if it is known and installed."""
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
class AdaptingSession:
    """A session that adapts its networks to each recording before recognising it; the base's own never change."""

    session: Session
    letters: TestTime[Recogniser]
    words: TestTime[WordEmbedder]

    def transcribe(self, samples: np.ndarray) -> Transcript:
        """Transcribe samples (time,), after adapting to as many of them as the recogniser learns from at once."""
        session = self.session
        start = samples[: int(session.recogniser.spec.longest_s * session.rate)]
        if session.vocabulary and len(samples) <= LONGEST_WORD_S * session.rate:
            session = replace(session, embedder=self.words.adapted_to_word(start, session.vocabulary))
        return replace(session, recogniser=self.letters.adapted(start)).transcribe(samples)


def with_test_time(session: Session, mode: TestTimeMode) -> Session | AdaptingSession:
    """The session, or one that adapts to each recording. Raises UserError for kinds of base that cannot."""
    if mode == "off":
        return session
    recogniser, embedder = session.recogniser, session.embedder
    if recogniser.spec.kind != CONFORMER:
        raise UserError(
            f"--test-time {mode}: {recogniser.spec.name} is of the kind {recogniser.spec.kind}, and only a {CONFORMER} can "
            f"adapt at test time; use --base {CONFORMER}, or leave the option out"
        )
    config = TestTimeConfig(mode)
    return AdaptingSession(session, TestTime(recogniser, config), TestTime(embedder, config))


def transcribe_all(
    session: Session | AdaptingSession, recordings: Sequence[np.ndarray], what: str
) -> Iterator[Transcript]:
    """Yield one transcript per recording, and show progress under the name `what`."""
    with bar(what, len(recordings), "recordings") as progress:
        for start in range(0, len(recordings), BATCH):
            batch = recordings[start : start + BATCH]
            yield from (
                session.transcribe_all(batch)
                if isinstance(session, Session)
                else map(session.transcribe, batch)
            )
            progress.advance(len(batch))
