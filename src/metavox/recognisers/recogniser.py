"""What every kind of recogniser is: audio in; text, losses and likelihoods out. Other code knows this alone.

The base is never copied or changed: `using` gives a view that shares its weights, so that many deltas live on one
base in one process, and requests in several threads do not meet.
"""

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self, get_args

import numpy as np
import torch
from torch import nn

from metavox.errors import UserError
from metavox.recognisers.delta import Delta, LoRA, Vocabulary
from metavox.recognisers.lora import applied
from metavox.recognisers.transcript import Transcript


class Encoded:
    """One recording after the encoder; each kind has its own."""


Audio = np.ndarray | torch.Tensor | Encoded
"""Mono samples (time,) float32 at `spec.sample_rate_hz`, or what `prepare` or `encode` made of them."""

Preset = Literal["lora", "lora-encoder", "lora-decoder", "norms", "head", "last", "frontend", "all"]
PRESETS: tuple[str, ...] = get_args(Preset)


@dataclass(frozen=True)
class RecogniserSpec:
    """What there is to know of a base before it hears anything.

    `digest` is what a delta names as its base. `languages` are ISO 639-1 codes that it transcribes; none means that
    it writes whatever its alphabet holds. `longest_s` is the longest stretch that it learns from or hears at once;
    `transcribe` cuts what is longer. `presets` are the adapters that it takes, the default one first.
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
    """How an adapter is trained: Adam from `learning_rate` falling to 0, `batch` recordings a step.

    Of what was learned `scale` is kept: the way between base and adapted weights (Wortsman et al. 2022, WiSE-FT), on which
    few recordings that are learnt by heart do less harm.
    """

    preset: Preset
    learning_rate: float
    steps: int
    batch: int
    scale: float = 1.0


@dataclass(frozen=True)
class DecodeOptions:
    """`language` is an ISO 639-1 code, else it is detected. `context` full gives foundation models their whole
    window, auto as much as the clip needs. `word_times` asks for the times of words."""

    language: str = ""
    task: Literal["transcribe", "translate"] = "transcribe"
    context: Literal["auto", "full"] = "auto"
    word_times: bool = False
    prompt: str = ""


class Recogniser(ABC):
    """A base, or a view of one with deltas. `network` is in evaluation mode and its weights do not require gradients."""

    spec: RecogniserSpec
    network: nn.Module
    start: LoRA | None = (
        None  # where a low-rank adapter of all linear layers begins, if not at the base itself
    )
    language: str = ""  # ISO 639-1, of what it hears and learns where nobody says it each time

    @abstractmethod
    def transcribe(
        self, audio: Sequence[Audio], options: DecodeOptions = DecodeOptions()
    ) -> list[Transcript]:
        """A transcript for each recording, however long; silence gives none or empty segments."""

    @abstractmethod
    def loss(self, audio: Sequence[Audio], texts: Sequence[str]) -> torch.Tensor:
        """The mean negative log-likelihood of a token (CTC or cross-entropy), differentiable.

        Raises UserError for a text that is longer than the recogniser can learn.
        """

    @abstractmethod
    def text_log_probs(self, audio: Sequence[Audio], texts: Sequence[str]) -> torch.Tensor:
        """(clips, texts): the natural log-likelihood a character of each text; each clip is encoded once."""

    @abstractmethod
    def adapter_targets(self, preset: Preset) -> tuple[str, ...]:
        """Names of the weights that an adapter moves; of the lora presets, those that factors are added to.

        Raises UserError for a preset that this kind does not take.
        """

    @abstractmethod
    def recipes(self, recordings: int) -> tuple[Recipe, ...]:
        """Ways to adapt to so many recordings: the usual one, then others that cross-validation may try."""

    def prepare(self, audio: Sequence[Audio]) -> list[Audio]:
        """What is computed once of samples (time,) and may be given to the other methods in their place; what is
        prepared already stays."""
        return list(audio)

    def encode(self, audio: Sequence[Audio]) -> list[Audio]:
        """Recordings with the encoder's work done once, for several of the methods that do not learn."""
        return list(audio)

    @abstractmethod
    def perturb(self, audio: Sequence[Audio], random: np.random.Generator) -> list[Audio]:
        """Gently other versions of prepared recordings, which still say the same."""

    @abstractmethod
    def duration_s(self, audio: Audio) -> float:
        """The length of samples, or of what `prepare` made of them."""

    def writable(self, text: str) -> str:
        """The text as the recogniser learns it; empty where it can write nothing of it."""
        return " ".join(text.split())

    def missing_characters(self, texts: Sequence[str]) -> str:
        """Characters of the texts that the recogniser has no output for, in order."""
        return ""

    def grown(self, characters: str) -> Self:
        """A view that has new output rows for characters; where they begin is the kind's choice.

        Raises UserError for a kind whose tokenizer cannot grow.
        """
        raise UserError(f"{self.spec.name} takes no new characters; choose a base whose alphabet can grow")

    def using(self, deltas: Sequence[Delta]) -> Self:
        """A view of the recogniser with deltas, which add up. Nothing is copied but what they change.

        Raises UserError for a delta of another base, and for two that bring the same character.
        """
        return self.with_network(applied(self.network, self.spec.digest, deltas)) if deltas else self

    def speaking(self, language: str) -> Self:
        """The same recogniser for one language (ISO 639-1), which it hears and learns from here on."""
        view = copy.copy(self)
        view.language = language
        return view

    def with_network(self, network: nn.Module) -> Self:
        """The same recogniser around another network of the same shape."""
        view = copy.copy(self)
        view.network = network
        return view


class WordEmbedder(Recogniser):
    """A recogniser that also tells words apart from a few clips of each."""

    @abstractmethod
    def embed(self, audio: Sequence[Audio]) -> torch.Tensor:
        """(clips, dim), unit length."""

    @abstractmethod
    def score_words(self, vocabulary: Vocabulary, audio: Sequence[Audio]) -> torch.Tensor:
        """(clips, words): how well each clip fits each enrolled word; each clip is encoded once."""
