"""What the service does, without HTTP: one base in memory, and views of it with the deltas that are used with it."""

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
from metavox.recognisers.bases.catalogue import advice
from metavox.recognisers.bases.find import find_base
from metavox.recognisers.delta import Delta, load_delta
from metavox.recognisers.recogniser import DecodeOptions
from metavox.recognisers.transcript import Transcript
from metavox.serve.problems import ApiError
from metavox.serve.store import FILES, Entry, Fixed, Kept, Kind, Store, check_name, kind_of_delta
from metavox.session import Guess, Session, session_with
from metavox.teaching import TeachConfig, TeachingSet, teach
from metavox.text import has_controls

VIEWS = 32  # kept in memory: a view costs what its delta does
MAX_WAITING = 64
BUDGET_S = 30.0  # for choosing how to learn a voice
DELTAS = "deltas"  # a folder that a bundle's model may hold
LONGEST_TEXT = 1000  # characters of a word
P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Selection:
    """Which deltas a request wants: `voices` add up, at most one `vocabulary`."""

    voices: tuple[str, ...] = ()
    vocabulary: str | None = None


@dataclass(frozen=True)
class Lesson:
    """What came of recordings: what is kept of them, and the losses on the way to it."""

    kept: Kept
    losses: tuple[float, ...]


class Engine:
    """Methods block; call them through `run`, which keeps the event loop free and the machine unswamped.

    `model` is the name of a base or its folder, which may hold the word embedder and deltas; `deltas` are folders of
    more. These are served beside those of `store`, and stay as they are.
    """

    def __init__(self, model: str | None, store: Path, deltas: Sequence[Path] = ()):
        # One thread a request and a request a core: requests run beside each other, not over each other.
        threads.limit("one of many")
        base = find_base(model)
        self.base = session_with(base)
        self.created = int((base.folder / "config.json").stat().st_mtime)
        carried = sorted(base.folder.glob(f"{DELTAS}/*/delta.json"))
        self.store = Store(store, Fixed.of([*(file.parent for file in carried), *deltas]))
        for name, kind in self.store.fixed.kinds.items():
            self._check_base(name, self.store.load(kind, name)[0])
        self._views: OrderedDict[tuple[str, ...], Session] = OrderedDict()
        self._lock = threading.Lock()
        self._cores = anyio.CapacityLimiter(threads.cores())
        self._learners = anyio.CapacityLimiter(1)

    @property
    def rate(self) -> int:
        return self.base.rate

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `work` in a thread when a core is free. Raises ApiError 503 when too many wait already."""
        return await _in_thread(self._cores, partial(work, *args, **kwargs))

    async def run_learning(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """As `run`, for what takes seconds: one at a time."""
        return await _in_thread(self._learners, partial(work, *args, **kwargs))

    def select(self, names: Sequence[str], vocabulary: str | None) -> Selection:
        """Sort names of deltas into voices and the vocabulary. Raises NoSuchName, UserError."""
        kinds = {name: self.store.kind_of(name) for name in (*names, *([vocabulary] if vocabulary else []))}
        if vocabulary and kinds[vocabulary] != "vocabularies":
            raise UserError(f"{vocabulary} is a voice; expected the name of a vocabulary")
        words = [name for name, kind in kinds.items() if kind == "vocabularies"]
        if len(words) > 1:
            raise UserError(f"{len(words)} vocabularies ({', '.join(words)}); expected one at most")
        voices = tuple(sorted(name for name, kind in kinds.items() if kind == "voices"))
        return Selection(voices, words[0] if words else None)

    def options(self, language: str, word_times: bool, prompt: str) -> DecodeOptions:
        """Of one request. Raises ApiError for a language that the base does not know."""
        if not self.base.understands(language):
            spec = self.base.recogniser.spec
            raise ApiError(
                400, f"{spec.name} does not know {advice(language)}", "language", "unknown_language"
            )
        chosen = self.base.in_language(language).options
        return replace(chosen, word_times=word_times, prompt=prompt)

    def transcribe(self, samples: np.ndarray, chosen: Selection, options: DecodeOptions) -> Transcript:
        """Samples (time,)."""
        return replace(self._with(chosen), options=options).transcribe(samples)

    def recognise(self, samples: np.ndarray, vocabulary: str) -> Guess:
        return self._with(Selection((), vocabulary)).recognise_word(samples)

    def teach(
        self,
        kind: Kind,
        name: str,
        clips: Sequence[np.ndarray],
        texts: Sequence[str],
        files: Sequence[str] = (),
    ) -> Lesson:
        """Clips (time,) with their words or transcripts to a stored vocabulary or voice; `files` name them in messages."""
        self.store.check_free(kind, name)
        losses: list[float] = []

        def record(_what: str, step: int, _steps: int, loss: float) -> None:
            if step == 1:  # of the last training: those before it only choose
                losses.clear()
            losses.append(loss)

        usual = TeachConfig("words" if kind == "vocabularies" else "utterances")
        config = replace(usual, utterances=replace(usual.utterances, budget_s=BUDGET_S))
        rehearsal = self._general if kind == "voices" else None
        small = kind == "vocabularies" or self.base.recogniser.spec.kind == "conformer"
        with threads.limited("small network" if small else "foundation model"):
            taught = teach(self.base, TeachingSet(clips, texts, names=files), config, rehearsal, record)
        told = {"why": taught.why, "remarks": list(taught.warnings), "expectations": taught.expectations}
        about = {**taught.delta.about, **told, "created": int(time.time())}
        return Lesson(self.store.save(kind, name, replace(taught.delta, about=about)), tuple(losses))

    def push(self, name: str, files: Mapping[str, bytes]) -> Kept:
        """Keep a delta that was made elsewhere, once it has been seen to work.

        Raises UserError when it is not whole, ApiError when it is of another base.
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
            self.base.using([delta]).transcribe(noise)
        except UserError:
            raise
        except Exception as error:
            raise UserError(f"{name}: does not fit this base ({str(error).splitlines()[0][:200]})") from error
        created = delta.about.get("created")
        about = {**delta.about, "created": created if isinstance(created, int) else int(time.time())}
        return self.store.save(kind_of_delta(delta), name, replace(delta, about=about))

    def usable(self, entry: Entry) -> bool:
        """Whether a delta is of this base; one of words alone asks for the embedder only."""
        words_fit = not entry.words or entry.words["embedder"] == self.base.embedder.spec.digest
        changes = entry.sections.keys() - {"vocabulary"}
        return words_fit and (not changes or entry.base == self.base.recogniser.spec.digest)

    @cached_property
    def _general(self) -> Rehearsal | None:
        known = self.base.recogniser.spec.languages
        return general_speech("en" if not known or "en" in known else known[0], self.rate)

    def _with(self, chosen: Selection) -> Session:
        """The base with deltas on it, from memory where they have not changed since."""
        names: list[tuple[Kind, str]] = [("voices", name) for name in chosen.voices]
        names += [("vocabularies", chosen.vocabulary)] if chosen.vocabulary else []
        if not names:
            return self.base
        key = tuple(f"{name}@{self.store.version(kind, name)}" for kind, name in names)
        with self._lock:
            if key in self._views:
                self._views.move_to_end(key)
                return self._views[key]
        loaded = [self.store.load(kind, name) for kind, name in names]
        for (_, name), (delta, _) in zip(names, loaded, strict=True):
            self._check_base(name, delta)
        view = self.base.using([delta for delta, _ in loaded])
        with self._lock:
            self._views[
                tuple(f"{n}@{version}" for (_, n), (_, version) in zip(names, loaded, strict=True))
            ] = view
            while len(self._views) > VIEWS:
                self._views.popitem(last=False)
        return view

    def _check_base(self, name: str, delta: Delta) -> None:
        base, words = self.base.recogniser.spec, delta.vocabulary
        for fits, made_with, here in (
            (not delta.changes_recogniser or delta.base == base.digest, delta.base, base),
            (
                not words or words.embedder == self.base.embedder.spec.digest,
                words and words.embedder,
                self.base.embedder.spec,
            ),
        ):
            if not fits:
                message = f"{name} was made with model {str(made_with)[:12]}, this is {here.digest[:12]} ({here.name}); "
                raise ApiError(409, f"{message}teach it again, or serve its own base", None, "other_model")


async def _in_thread(limiter: anyio.CapacityLimiter, work: Callable[[], T]) -> T:
    if limiter.statistics().tasks_waiting >= MAX_WAITING:
        raise ApiError(503, f"busy: {MAX_WAITING} requests wait already; try again later", None, "busy")
    return await anyio.to_thread.run_sync(work, limiter=limiter)


def _check_values(delta: Delta) -> None:
    """Raises UserError for numbers and words that no delta of `metavox adapt` has."""
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
            if not isinstance(word, str) or not 0 < len(word) <= LONGEST_TEXT or has_controls(word):
                raise UserError(
                    f"the delta's word {str(word)[:40]!r}: expected 1 to {LONGEST_TEXT} printable characters"
                )
    if not all(bool(x.isfinite().all()) for x in tensors) or not all(map(math.isfinite, scalars)):
        raise UserError("the delta holds numbers that are not finite; make it again")
