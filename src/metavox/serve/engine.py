"""What the service does, without HTTP: one model in memory, and the deltas that are used with it."""

import copy
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import ParamSpec, TypeVar

import anyio
import numpy as np
import torch

from metavox.audio.features import extract, make_transform
from metavox.errors import UserError
from metavox.learn.adapt import AdaptConfig, adapt_utterances, enrol_words
from metavox.recognisers.conformer.artifact import digest, load_model
from metavox.recognisers.conformer.delta import Delta, apply_deltas
from metavox.recognisers.conformer.network import Network
from metavox.recognize.transcribe import (
    LONGEST_WORD_S,
    Guess,
    Transcript,
    recognise_word,
    transcribe,
)
from metavox.serve.problems import ApiError
from metavox.serve.store import Store

ADAPTED_MODELS = 4  # kept in memory
MAX_WAITING = 64
P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Selection:
    """Which deltas a request wants: `voices` add up, at most one `vocabulary`."""

    voices: tuple[str, ...] = ()
    vocabulary: str | None = None


class Engine:
    """Methods block; call them through `run`, which keeps the event loop free and the machine unswamped."""

    def __init__(self, model: Path, store: Path):
        self.base = load_model(model).requires_grad_(False)
        self.digest = digest(model)
        self.created = int((model / "model.safetensors").stat().st_mtime)
        self.store = Store(store)
        self.rate = self.base.config.features.sample_rate_hz
        self._transform = make_transform(self.base.config.features)
        self._adapted: OrderedDict[tuple[str, ...], Network] = OrderedDict()
        self._lock = threading.Lock()
        # One thread a request and a request a core: requests run beside each other, not over each other.
        torch.set_num_threads(1)
        self._cores = anyio.CapacityLimiter(os.cpu_count() or 1)
        self._learners = anyio.CapacityLimiter(1)

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

    def transcribe(self, samples: np.ndarray, chosen: Selection) -> Transcript:
        """Samples (time,). Enrolled words are looked for with the base model, which they were enrolled on."""
        with torch.inference_mode():
            enrolled = self._vocabulary(chosen.vocabulary) if chosen.vocabulary else None
            if not chosen.voices:
                return transcribe(self.base, samples, enrolled)
            short = len(samples) <= LONGEST_WORD_S * self.rate
            if enrolled and short and recognise_word(self.base, samples, enrolled).word:
                return transcribe(self.base, samples, enrolled)
            return transcribe(self._with(chosen.voices), samples)

    def recognise(self, samples: np.ndarray, vocabulary: str) -> Guess:
        with torch.inference_mode():
            return recognise_word(self.base, samples, self._vocabulary(vocabulary))

    def enrol(self, name: str, clips: Sequence[np.ndarray], labels: Sequence[str]) -> bool:
        """Clips (time,) with their words to a stored vocabulary. True when its name is new."""
        delta = enrol_words(self.base, self.digest, self._mels(clips), labels)
        return self.store.save("vocabularies", name, _dated(delta))

    def adapt(self, name: str, clips: Sequence[np.ndarray], texts: Sequence[str]) -> tuple[bool, list[float]]:
        """Clips (time,) with their transcripts to a stored voice. Whether its name is new, and the losses."""
        losses: list[float] = []
        delta = adapt_utterances(
            self.base,
            self.digest,
            self._mels(clips),
            texts,
            AdaptConfig(),
            lambda _, loss: losses.append(loss),
        )
        return self.store.save("voices", name, _dated(delta)), losses

    def _mels(self, clips: Sequence[np.ndarray]) -> list[torch.Tensor]:
        # Cloned: what inference mode makes cannot be learned from.
        return [extract(clip, self._transform).clone() for clip in clips]

    def _vocabulary(self, name: str) -> Delta:
        delta, _ = self.store.load("vocabularies", name)
        self._check_base(name, delta)
        return delta

    def _with(self, voices: tuple[str, ...]) -> Network:
        """The base model with these deltas on it, from memory where they have not changed since."""
        loaded = [self.store.load("voices", name) for name in voices]
        key = tuple(f"{name}@{version}" for name, (_, version) in zip(voices, loaded, strict=True))
        with self._lock:
            if key not in self._adapted:
                for name, (delta, _) in zip(voices, loaded, strict=True):
                    self._check_base(name, delta)
                model = copy.deepcopy(self.base)
                apply_deltas(model, self.digest, [delta for delta, _ in loaded])
                self._adapted[key] = model
            self._adapted.move_to_end(key)
            while len(self._adapted) > ADAPTED_MODELS:
                self._adapted.popitem(last=False)
            return self._adapted[key]

    def _check_base(self, name: str, delta: Delta) -> None:
        if delta.base != self.digest:
            message = (
                f"{name} was made with model {delta.base[:12]}, this is {self.digest[:12]}; enrol it again"
            )
            raise ApiError(409, message, None, "other_model")


async def _in_thread(limiter: anyio.CapacityLimiter, work: Callable[[], T]) -> T:
    if limiter.statistics().tasks_waiting >= MAX_WAITING:
        raise ApiError(503, f"busy: {MAX_WAITING} requests wait already; try again later", None, "busy")
    return await anyio.to_thread.run_sync(work, limiter=limiter)


def _dated(delta: Delta) -> Delta:
    return replace(delta, about={**delta.about, "created": int(time.time())})
