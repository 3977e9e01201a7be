"""The protocol of recognisers: audio in; text, losses and likelihoods out.

Other packages use nothing else. The base model is never copied or changed: `using` gives a view that shares
its weights, so that many deltas share one base model in one process and requests in several threads do not
interfere.
"""

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, Self, get_args

import numpy as np
import torch
from torch import nn

from metavox.errors import UserError
from metavox.recognisers.delta import Delta, LoRA, Vocabulary
from metavox.recognisers.guide import Guide
from metavox.recognisers.lora import applied
from metavox.recognisers.transcript import Transcript


class Encoded:
    """One recording after the encoder; every kind has its own type."""


Audio = np.ndarray | torch.Tensor | Encoded
"""Mono samples (time,) float32 at `spec.sample_rate_hz`, or the result of `prepare` or `encode`."""

Preset = Literal["lora", "lora-encoder", "lora-decoder", "norms", "head", "last", "frontend", "all"]
PRESETS: tuple[str, ...] = get_args(Preset)


@dataclass(frozen=True)
class RecogniserSpec:
    """Properties of a base model that are known before it processes any audio.

    A delta names `digest` as its base. `languages` are the ISO 639-1 codes that it transcribes; an empty
    tuple means that it writes whatever its alphabet holds. `longest_s` is the longest recording that it
    learns from or processes at once; `transcribe` splits longer ones. `presets` are the adapters that it
    supports, the default first.
    """

    kind: str
    name: str
    digest: str
    sample_rate_hz: int
    longest_s: float
    languages: tuple[str, ...]
    presets: tuple[Preset, ...]


@dataclass(frozen=True)
class Recipe:
    """How an adapter is trained: Adam, with a learning rate that falls from `learning_rate` to 0 and `batch`
    recordings per step.

    The result is interpolated between base and adapted weights by `scale` (Wortsman et al. 2022, WiSE-FT),
    which limits the harm of overfitting to a few recordings.
    """

    preset: Preset
    learning_rate: float
    steps: int
    batch: int
    scale: float = 1.0


@dataclass(frozen=True)
class Predictions:
    """What a recogniser predicts along one recording.

    `log_probs` (positions, classes) are natural log-probabilities, of the next token at each position of a text or of
    the character at each frame. `written` (positions,) is true where a token or a character is written, as opposed to a
    time, an end or a blank.
    """

    log_probs: torch.Tensor
    written: torch.Tensor


@dataclass(frozen=True)
class DecodeOptions:
    """Options of transcription.

    `language` is an ISO 639-1 code; if empty, the language is detected. `context` full gives foundation
    models their full window, auto as much as the clip needs. `word_times` requests the times of words.

    `beam` is the number of texts that a search keeps; 1 without a guide takes the best token at each step. `guide` is
    what the search follows: a grammar, hot words, a language model. A text that a strict guide does not allow is never
    written; if it allows none, there are no segments.
    """

    language: str = ""
    task: Literal["transcribe", "translate"] = "transcribe"
    context: Literal["auto", "full"] = "auto"
    word_times: bool = False
    prompt: str = ""
    beam: int = 1
    guide: Guide | None = field(default=None, compare=False)

    @property
    def searches(self) -> bool:
        return self.beam > 1 or self.guide is not None


class Recogniser(ABC):
    """A base model or a view of one with deltas.

    `network` is in evaluation mode and its weights do not require gradients.
    """

    spec: RecogniserSpec
    network: nn.Module
    start: LoRA | None = None  # the meta-learned start of an adapter of all linear layers, if there is one
    start_rates: Mapping[str, float] = MappingProxyType(
        {}
    )  # by factor, relative to the recipe's learning rate
    language: str = ""  # ISO 639-1; the default for transcription and learning

    @abstractmethod
    def transcribe(
        self, audio: Sequence[Audio], options: DecodeOptions = DecodeOptions()
    ) -> list[Transcript]:
        """One transcript for each recording of any length; silence gives no segments or empty ones."""

    @abstractmethod
    def loss(self, audio: Sequence[Audio], texts: Sequence[str]) -> torch.Tensor:
        """The mean negative log-likelihood per token (CTC or cross-entropy), differentiable.

        Raises UserError for a text that is too long to learn.
        """

    @abstractmethod
    def text_log_probs(self, audio: Sequence[Audio], texts: Sequence[str]) -> torch.Tensor:
        """(clips, texts): the natural log-likelihood per character of each text; each clip is encoded once."""

    @abstractmethod
    def predictions(self, audio: Audio, text: str) -> Predictions:
        """The predictions along one recording of up to `spec.longest_s`, differentiable.

        A decoder predicts each token of `text` from those before it; a kind that writes frame by frame ignores `text`.
        Raises UserError for a recording or a text that is too long to learn.
        """

    @abstractmethod
    def adapter_targets(self, preset: Preset) -> tuple[str, ...]:
        """Names of the weights that an adapter trains; for LoRA presets, of the weights that factors are
        added to.

        Raises UserError for a preset that this kind does not support.
        """

    @abstractmethod
    def recipes(self, recordings: int) -> tuple[Recipe, ...]:
        """Recipes for adapting to this number of recordings: the default, then others for cross-validation to
        try.
        """

    def prepare(self, audio: Sequence[Audio]) -> list[Audio]:
        """Compute what the other methods accept in place of samples (time,), once; prepared audio is returned
        unchanged.
        """
        return list(audio)

    def encode(self, audio: Sequence[Audio]) -> list[Audio]:
        """Run the encoder once, for several of the methods that do not learn."""
        return list(audio)

    @abstractmethod
    def perturb(self, audio: Sequence[Audio], random: np.random.Generator) -> list[Audio]:
        """Gently perturbed versions of prepared recordings, with the same words."""

    @abstractmethod
    def duration_s(self, audio: Audio) -> float:
        """The duration of samples or of prepared audio."""

    @abstractmethod
    def speaker_frames(self, audio: Sequence[Audio]) -> list[torch.Tensor]:
        """The states (frames, dim) of each recording in an early layer of the encoder, where speakers differ most."""

    def writable(self, text: str) -> str:
        """The text in the form that the recogniser learns; empty if it can write none of it."""
        return " ".join(text.split())

    def missing_characters(self, texts: Sequence[str]) -> str:
        """Characters of the texts that the recogniser has no output for, sorted."""
        return ""

    def with_characters(self, characters: str) -> Self:
        """A view with new output rows for characters; the kind chooses their initial values.

        Raises UserError for a kind whose tokenizer cannot be extended.
        """
        raise UserError(
            f"{self.spec.name} cannot be extended by new characters; choose a base whose alphabet can"
        )

    def using(self, deltas: Sequence[Delta]) -> Self:
        """A view of the recogniser with deltas, which add up. Only what they change is copied.

        Raises UserError for a delta of another base model and for two that add the same character.
        """
        return self.with_network(applied(self.network, self.spec.digest, deltas)) if deltas else self

    def for_language(self, language: str) -> Self:
        """A view whose default language (ISO 639-1) for transcription and learning is `language`."""
        view = copy.copy(self)
        view.language = language
        return view

    def with_network(self, network: nn.Module) -> Self:
        """A view around another network of the same shape."""
        view = copy.copy(self)
        view.network = network
        return view


class WordEmbedder(Recogniser):
    """A recogniser that also distinguishes words from a few clips of each."""

    @property
    @abstractmethod
    def margin_s(self) -> float:
        """The silence that stays on each side of a word when it is embedded, in seconds."""

    @abstractmethod
    def embed(self, audio: Sequence[Audio]) -> torch.Tensor:
        """Unit word embeddings (clips, dim)."""

    @abstractmethod
    def score_words(self, vocabulary: Vocabulary, audio: Sequence[Audio]) -> torch.Tensor:
        """The score of each enrolled word for each clip (clips, words); each clip is encoded once."""

    @abstractmethod
    def word_log_probs(self, vocabulary: Vocabulary, audio: Sequence[Audio]) -> torch.Tensor:
        """The natural log-probability of each enrolled word for each clip (clips, words), by its embedding alone,
        differentiable."""
