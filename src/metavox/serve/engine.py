"""The service without HTTP: one base model in memory, and sessions that combine it with stored deltas."""

import json
import math
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import ParamSpec, TypeVar

import anyio
import numpy as np

from metavox import threads
from metavox.adaptation.rehearsal import Rehearsal, general_speech
from metavox.errors import UserError
from metavox.files import content_digest
from metavox.recognisers.bases.catalogue import advice
from metavox.recognisers.bases.find import embedders, find_base
from metavox.recognisers.delta import Delta, load_delta
from metavox.recognisers.recogniser import DecodeOptions
from metavox.recognisers.transcript import Transcript
from metavox.serve.problems import ApiError
from metavox.serve.store import FILES, Entry, Kind, ReadOnlyDeltas, Saved, Store, check_name, kind_of_delta
from metavox.session import Guess, Session, session_with
from metavox.teaching import TeachConfig, TeachingSet, teach
from metavox.text import has_controls

MAX_SESSIONS = 32  # kept in memory; each takes as much memory as its deltas
MAX_WAITING = 64
BUDGET_S = 30.0  # for choosing the recipe of a voice
DELTAS = "deltas"  # a folder that a bundle's model may hold
ALWAYS = "always.json"  # a list of deltas in that folder which every request uses
MAX_TEXT_LENGTH = 1000  # characters of a label or transcript
P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Selection:
    """The deltas that a request uses: any number of `voices`, whose changes add up, and at most one `vocabulary`."""

    voices: tuple[str, ...] = ()
    vocabulary: str | None = None


@dataclass(frozen=True)
class TeachingResult:
    """The stored delta that recordings led to, and the loss of each training step."""

    saved: Saved
    losses: tuple[float, ...]


class Engine:
    """All methods block. Call them through `run`, which keeps the event loop free and limits the load on the machine.

    `model` is a base model's name or folder; a folder may also hold the word embedder and deltas. `deltas` are further
    folders of deltas. All of these are served beside those of `store`, read-only.
    """

    def __init__(self, model: str | None, store: Path, deltas: Sequence[Path] = ()):
        # One thread per request and one request per core, so that requests do not compete for cores.
        threads.limit("one of many")
        base = find_base(model)
        self.base = session_with(base)
        self.digest = content_digest(base.folder)
        always = base.folder / ALWAYS
        self._always: list[str] = json.loads(always.read_text(encoding="utf-8")) if always.is_file() else []
        self.created = int((base.folder / "config.json").stat().st_mtime)
        bundled = sorted(base.folder.glob(f"{DELTAS}/*/delta.json"))
        self.store = Store(store, ReadOnlyDeltas.of([*(file.parent for file in bundled), *deltas]))
        for name, kind in self.store.read_only.kinds.items():
            self._check_base(name, self.store.load(kind, name)[0])
        self._sessions: OrderedDict[tuple[str, ...], Session] = OrderedDict()
        self._lock = threading.Lock()
        self._cores = anyio.CapacityLimiter(threads.cores())
        self._learners = anyio.CapacityLimiter(1)

    @property
    def rate(self) -> int:
        return self.base.rate

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `work` in a thread once a core is free. Raises ApiError 503 when too many requests are waiting."""
        return await _in_thread(self._cores, partial(work, *args, **kwargs))

    async def run_learning(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Like `run`, for work that takes seconds: one call at a time."""
        return await _in_thread(self._learners, partial(work, *args, **kwargs))

    def select(self, names: Sequence[str], vocabulary: str | None) -> Selection:
        """Sort names of deltas into voices and the vocabulary, with those that the model always uses.

        A vocabulary that the request names takes the place of one that is always used. Raises NoSuchName, and UserError
        for two vocabularies.
        """
        own = [*names, *([vocabulary] if vocabulary else [])]
        named_words = any(self.store.kind_of(name) == "vocabularies" for name in own)
        added = [name for name in self._always if name not in own]
        if named_words:
            added = [name for name in added if self.store.kind_of(name) != "vocabularies"]
        names = (*names, *added)
        kinds = {name: self.store.kind_of(name) for name in (*names, *([vocabulary] if vocabulary else []))}
        if vocabulary and kinds[vocabulary] != "vocabularies":
            raise UserError(f"{vocabulary} is a voice; expected the name of a vocabulary")
        words = [name for name, kind in kinds.items() if kind == "vocabularies"]
        if len(words) > 1:
            raise UserError(f"{len(words)} vocabularies ({', '.join(words)}); expected at most one")
        voices = tuple(sorted(name for name, kind in kinds.items() if kind == "voices"))
        return Selection(voices, words[0] if words else None)

    def options(self, language: str, word_times: bool, prompt: str) -> DecodeOptions:
        """Decoding options of one request. Raises ApiError 400 for a language that the base does not support."""
        return replace(self._in_language(language).options, word_times=word_times, prompt=prompt)

    def transcribe(self, samples: np.ndarray, selection: Selection, options: DecodeOptions) -> Transcript:
        """Transcribe samples (time,) at `rate`."""
        return replace(self._session(selection), options=options).transcribe(samples)

    def recognise(self, samples: np.ndarray, vocabulary: str) -> Guess:
        """Compare samples (time,) at `rate` with the words of a stored vocabulary."""
        return self._session(Selection((), vocabulary)).recognise_word(samples)

    def teach(
        self,
        kind: Kind,
        name: str,
        clips: Sequence[np.ndarray],
        texts: Sequence[str],
        language: str = "",
        files: Sequence[str] = (),
    ) -> TeachingResult:
        """Learn a vocabulary or voice from clips (time,) and their labels or transcripts, and store it.

        `language` (ISO 639) is that of the texts, empty if it is unknown; `files` names the clips in messages. Raises
        NameTaken and ReadOnly for a name that cannot be used, ApiError 400 for a language that the base does not support
        (a vocabulary can be in any), UserError for clips that cannot be learned from.
        """
        self.store.check_free(kind, name)
        session = self._in_language(language) if kind == "voices" else self.base
        losses: list[float] = []

        def record(_what: str, step: int, _steps: int, loss: float) -> None:
            if step == 1:  # keep only the last training: earlier ones choose the recipe
                losses.clear()
            losses.append(loss)

        default = TeachConfig("words" if kind == "vocabularies" else "utterances")
        config = replace(default, utterances=replace(default.utterances, budget_s=BUDGET_S))
        rehearsal = self._rehearsal if kind == "voices" else None
        small = kind == "vocabularies" or self.base.recogniser.spec.kind == "conformer"
        with threads.limited("small network" if small else "foundation model"):
            recordings = TeachingSet(clips, texts, names=files, languages=[language] * len(clips))
            taught = teach(session, recordings, config, rehearsal, record)
        notes = {"why": taught.why, "remarks": list(taught.warnings), "expectations": taught.expectations}
        about = {**taught.delta.about, **notes, "created": int(time.time())}
        return TeachingResult(self.store.save(kind, name, replace(taught.delta, about=about)), tuple(losses))

    def push(self, name: str, files: Mapping[str, bytes]) -> Saved:
        """Store a delta that was made elsewhere, after a trial run with it.

        Raises UserError for an invalid delta, ApiError 409 for one made for another base.
        """
        check_name(name)
        with tempfile.TemporaryDirectory() as folder:
            for file in FILES:
                Path(folder, file).write_bytes(files[file])
            try:
                delta = load_delta(folder)
                _check_values(delta)
            except (UserError, RecursionError, ZeroDivisionError) as error:
                raise UserError(str(error).replace(folder, name)) from error
        self._check_base(name, delta)
        try:
            noise = np.random.default_rng(0).normal(0, 0.01, self.rate // 2).astype(np.float32)
            trial = self.base.using([delta])  # not `transcribe`, which finds no speech in noise
            trial.recogniser.transcribe([noise])
            if trial.vocabulary:
                trial.recognise_word(noise)
        except UserError:
            raise
        except Exception as error:
            reason = str(error).splitlines()[0][:200]
            raise UserError(
                f"{name}: does not fit this base ({reason}); make it again for this base"
            ) from error
        created = delta.about.get("created")
        about = {**delta.about, "created": created if isinstance(created, int) else int(time.time())}
        return self.store.save(kind_of_delta(delta), name, replace(delta, about=about))

    def usable(self, entry: Entry) -> bool:
        """Whether a delta fits this base. A vocabulary on its own depends on the embedder only."""
        words_fit = not entry.words or entry.words["embedder"] in self._embedders
        changes = entry.sections.keys() - {"vocabulary"}
        return words_fit and (not changes or entry.base == self.base.recogniser.spec.digest)

    def knows(self, name: str) -> bool:
        """Whether there is a delta of this name that fits this base."""
        try:
            return self.usable(self.store.entry(self.store.kind_of(name), name))
        except UserError:
            return False

    @cached_property
    def _embedders(self) -> tuple[str, ...]:
        """Digests of the embedders whose vocabularies can be used."""
        return self.base.embedder.spec.digest, *(embedder.digest for embedder in embedders())

    @cached_property
    def _rehearsal(self) -> Rehearsal | None:
        languages = self.base.recogniser.spec.languages
        return general_speech("en" if not languages or "en" in languages else languages[0], self.rate)

    def _in_language(self, language: str) -> Session:
        if not self.base.understands(language):
            message = f"{self.base.recogniser.spec.name} does not know {advice(language)}"
            raise ApiError(400, message, "language", "unknown_language")
        return self.base.in_language(language)

    def _session(self, selection: Selection) -> Session:
        """The base with deltas, from memory if they have not changed since."""
        names: list[tuple[Kind, str]] = [("voices", name) for name in selection.voices]
        names += [("vocabularies", selection.vocabulary)] if selection.vocabulary else []
        if not names:
            return self.base
        key = tuple(f"{name}@{self.store.version(kind, name)}" for kind, name in names)
        with self._lock:
            if key in self._sessions:
                self._sessions.move_to_end(key)
                return self._sessions[key]
        loaded = [self.store.load(kind, name) for kind, name in names]
        for (_, name), (delta, _) in zip(names, loaded, strict=True):
            self._check_base(name, delta)
        session = self.base.using([delta for delta, _ in loaded])
        with self._lock:
            self._sessions[
                tuple(f"{n}@{version}" for (_, n), (_, version) in zip(names, loaded, strict=True))
            ] = session
            while len(self._sessions) > MAX_SESSIONS:
                self._sessions.popitem(last=False)
        return session

    def _check_base(self, name: str, delta: Delta) -> None:
        base, words = self.base.recogniser.spec, delta.vocabulary
        for fits, made_with, here in (
            (not delta.changes_recogniser or delta.base == base.digest, delta.base, base),
            (
                not words or words.embedder in self._embedders,
                words and words.embedder,
                self.base.embedder.spec,
            ),
        ):
            if not fits:
                message = f"{name} was made with model {str(made_with)[:12]}; this is {here.digest[:12]} ({here.name})"
                raise ApiError(409, f"{message}; teach it again, or serve its own base", None, "other_model")


async def _in_thread(limiter: anyio.CapacityLimiter, work: Callable[[], T]) -> T:
    if limiter.statistics().tasks_waiting >= MAX_WAITING:
        raise ApiError(503, f"busy: {MAX_WAITING} requests are waiting; try again later", None, "busy")
    return await anyio.to_thread.run_sync(work, limiter=limiter)


def _check_values(delta: Delta) -> None:
    """Raise UserError for tensors and words that `metavox adapt` never writes."""
    tensors = [
        *delta.weights.values(),
        *(x for pair in (delta.lora.factors.values() if delta.lora else ()) for x in pair),
    ]
    if delta.output_rows:
        tensors += [delta.output_rows.weight, delta.output_rows.bias]
    scalars = [delta.lora.scale] if delta.lora else []
    if words := delta.vocabulary:
        tensors += [words.prototypes, *words.pooling.values()]
        scalars += [words.threshold, words.ctc_weight, words.logit_scale]
        for word in words.words:
            if not isinstance(word, str) or not 0 < len(word) <= MAX_TEXT_LENGTH or has_controls(word):
                raise UserError(
                    f"the delta's word {str(word)[:40]!r}: expected 1 to {MAX_TEXT_LENGTH} printable characters"
                )
    if not all(bool(x.isfinite().all()) for x in tensors) or not all(map(math.isfinite, scalars)):
        raise UserError("the delta holds values that are not finite; make it again")
