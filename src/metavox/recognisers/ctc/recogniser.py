"""The kind `ctc`: a pretrained encoder over samples that writes characters frame by frame."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from torch import nn

from metavox.errors import UserError
from metavox.recognisers.ctc.decode import greedy, losses, text_log_probs
from metavox.recognisers.ctc.features import Hearing
from metavox.recognisers.ctc.languages import short_code
from metavox.recognisers.ctc.network import CtcNetwork
from metavox.recognisers.lora import shared_view
from metavox.recognisers.perturb import gently_perturbed
from metavox.recognisers.recogniser import (
    Audio,
    DecodeOptions,
    Encoded,
    Preset,
    Recipe,
    Recogniser,
    RecogniserSpec,
)
from metavox.recognisers.transcript import Segment, Transcript
from metavox.recognisers.windows import quiet_windows

KIND = "ctc"
WINDOW_S, LONGEST_S = 20.0, 30.0
BATCH_S = 60.0  # padded seconds that go through the encoder at once
# Root mean square of the loudest tenth of a second (-60 dB): an encoder of normalised samples hears words in less.
SILENT = 1e-3
PRESETS: tuple[Preset, ...] = ("lora", "lora-encoder", "norms", "head", "last", "all")
LAST = 2  # layers
# Convolutions that make frames of samples stay, as is usual; the head is added where it belongs.
FIXED = ("acoustic.feature_extractor.", "acoustic.masked_spec_embed", "lm_head.", "more_characters.")
GATE = "gru_rel_pos_linear"  # of WavLM's positions: eight numbers a head, nothing to be of low rank


@dataclass(frozen=True)
class Window:
    """A stretch of a recording: log-probabilities (frames, ids), where it begins and how long it is."""

    log_probs: torch.Tensor
    start_s: float
    duration_s: float
    silent: bool


@dataclass(frozen=True)
class Spelled(Encoded):
    """A recording of `duration_s` in windows."""

    windows: tuple[Window, ...]
    duration_s: float


class CtcRecogniser(Recogniser):
    """Audio is samples at the spec's rate; what is computed of them is cheap, so that `prepare` leaves them as
    they are. Texts and transcripts are in lower case unless the head tells the cases apart."""

    network: CtcNetwork

    def __init__(self, network: CtcNetwork, spec: RecogniserSpec, hearing: Hearing):
        self.network, self.spec, self.hearing = network, spec, hearing

    def encode(self, audio: Sequence[Audio]) -> list[Audio]:
        return list(self._spelled(audio))

    def transcribe(
        self, audio: Sequence[Audio], options: DecodeOptions = DecodeOptions()
    ) -> list[Transcript]:
        self._check(options)
        language = self.spec.languages[0] if self.spec.languages else ""
        out = []
        for one in self._spelled(audio):
            found = [self._segment(window, options.word_times) for window in one.windows if not window.silent]
            out.append(Transcript(tuple(s for s in found if s), one.duration_s, language))
        return out

    def loss(self, audio: Sequence[Audio], texts: Sequence[str]) -> torch.Tensor:
        """The mean CTC loss a character; a text that does not fit its frames counts as nothing."""
        alphabet, device = self.network.alphabet, self.network.lm_head.weight.device
        tokens = [alphabet.encode(text) for text in texts]
        total, count = torch.zeros((), device=device), torch.zeros((), device=device)
        for chosen, log_probs, lengths in self._batches([_samples(one) for one in audio]):
            part = losses(log_probs, lengths, [tokens[i] for i in chosen], alphabet.blank)
            total, count = total + part[0], count + part[1]
        return total / count.clamp_min(1)

    def text_log_probs(self, audio: Sequence[Audio], texts: Sequence[str]) -> torch.Tensor:
        tokens = [self.network.alphabet.encode(text) for text in texts]
        out = torch.zeros(len(audio), len(texts))
        for row, one in zip(out, self._spelled(audio), strict=True):
            log_probs = torch.cat([window.log_probs for window in one.windows])
            row.copy_(text_log_probs(log_probs, tokens, self.network.alphabet.blank))
        return out

    def recipes(self, recordings: int) -> tuple[Recipe, ...]:
        """More steps for a head that begins from nothing."""
        if self.network.lm_head.out_features == 1:
            return Recipe("lora", 1e-3, 300, 8), Recipe("norms", 1e-3, 300, 8)
        steps = 20 if recordings < 10 else 40 if recordings < 50 else 100
        usual = Recipe("lora", 1e-3, steps, 4)
        return usual, replace(usual, learning_rate=3e-4), Recipe("norms", 1e-3, steps, 4)

    def adapter_targets(self, preset: Preset) -> tuple[str, ...]:
        """`lora`: linear layers of the encoder and the head; `norms`: normalisations, biases, the head; `last`: the
        last two layers and the head; `all`: everything but the convolutions that make frames of samples."""
        if preset not in PRESETS:
            raise UserError(
                f"{preset!r} is no part of {self.spec.name}; expected one of {', '.join(PRESETS)}"
            )
        head = ("lm_head.weight", "lm_head.bias")
        names = [
            n for n, _ in self.network.named_parameters() if not n.startswith(FIXED) and ".lora_" not in n
        ]
        if preset in ("lora", "lora-encoder"):
            linear = {f"{n}.weight" for n, m in self.network.named_modules() if isinstance(m, nn.Linear)}
            chosen = [n for n in names if n in linear and ".encoder.layers." in n and GATE not in n]
            return (*chosen, *head[:1]) if self.network.lm_head.out_features > 1 else tuple(chosen)
        if preset == "head":
            return head
        if preset == "norms":
            small = [n for n in names if n.endswith("bias") or "norm" in n.split(".")[-2]]
            return (*small, *head)
        if preset == "last":
            count = self.network.acoustic.config.num_hidden_layers
            last = tuple(f"acoustic.encoder.layers.{i}." for i in range(count - LAST, count))
            return (*(n for n in names if n.startswith(last)), *head)
        return (*names, *head)

    def perturb(self, audio: Sequence[Audio], random: np.random.Generator) -> list[Audio]:
        """Another rate, noise and equalisation, see `recognisers.samples`."""
        return [gently_perturbed(_samples(one), self.spec.sample_rate_hz, random) for one in audio]

    def duration_s(self, audio: Audio) -> float:
        if isinstance(audio, Spelled):
            return audio.duration_s
        return len(_samples(audio)) / self.spec.sample_rate_hz

    def writable(self, text: str) -> str:
        alphabet = self.network.alphabet
        return alphabet.decode(alphabet.encode(text))

    def missing_characters(self, texts: Sequence[str]) -> str:
        return self.network.alphabet.missing(texts)

    def grown(self, characters: str) -> Self:
        view = shared_view(self.network)
        if characters:
            view.add_output_rows(self.network.first_rows(characters))
        return self.with_network(view)

    def _check(self, options: DecodeOptions) -> None:
        known = self.spec.languages
        if options.task == "translate":
            raise UserError(
                f"{self.spec.name} transcribes but does not translate; use a Whisper base for that"
            )
        if known and options.language and short_code(options.language) not in known:
            raise UserError(
                f"language {options.language!r}: {self.spec.name} was loaded for {known[0]}; "
                f"load it again for {options.language}"
            )

    def _spelled(self, audio: Sequence[Audio]) -> list[Spelled]:
        """Each recording through the encoder in windows; those that have been through it already stay."""
        rate = self.spec.sample_rate_hz
        cut = [
            (number, part, start_s)
            for number, one in enumerate(audio)
            if not isinstance(one, Spelled)
            for part, start_s in quiet_windows(_samples(one), rate, WINDOW_S)
        ]
        heard: dict[int, torch.Tensor] = {}
        with torch.inference_mode():
            for chosen, log_probs, lengths in self._batches([part for _, part, _ in cut]):
                rows = zip(chosen, log_probs.cpu(), lengths.tolist(), strict=True)
                heard |= {i: row[:length].clone() for i, row, length in rows}
        windows: dict[int, list[Window]] = {number: [] for number, _, _ in cut}
        for i, (number, part, start_s) in enumerate(cut):
            windows[number].append(Window(heard[i], start_s, len(part) / rate, _is_silent(part, rate)))
        return [
            one if isinstance(one, Spelled) else Spelled(tuple(windows[number]), self.duration_s(one))
            for number, one in enumerate(audio)
        ]

    def _batches(self, clips: Sequence[np.ndarray]) -> Iterator[tuple[list[int], torch.Tensor, torch.Tensor]]:
        """Which clips share a batch, their log-probabilities (batch, frames, ids), their lengths (batch,)."""
        hearing, weight = self.hearing, self.network.lm_head.weight
        steps = [hearing.steps(len(clip)) for clip in clips]
        for chosen in batches(steps, round(BATCH_S * hearing.steps_a_second), self.network.pads):
            inputs = [hearing.inputs(clips[i]) for i in chosen]
            lengths = torch.tensor([len(one) for one in inputs], device=weight.device)
            padded = nn.utils.rnn.pad_sequence(inputs, batch_first=True).to(weight)
            yield chosen, *self.network.characters(padded, lengths)

    def _segment(self, window: Window, word_times: bool) -> Segment | None:
        hop_s = self.network.hop / self.hearing.steps_a_second
        words = greedy(window.log_probs, self.network.alphabet, hop_s)
        if not words:
            return None
        text, confidence = " ".join(w.text for w in words), float(np.mean([w.confidence for w in words]))
        times = tuple(words) if word_times else ()
        segment = Segment(text, words[0].start_s, words[-1].end_s, confidence, times)
        # The last frame may reach past the last sample.
        return segment.later(window.start_s, window.start_s + window.duration_s)


def batches(lengths: Sequence[int], budget: int, pads: bool) -> Iterator[list[int]]:
    """Indices by length, in batches of `budget` padded steps at most; without `pads`, of equal lengths alone."""
    batch: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        if batch and (
            (len(batch) + 1) * lengths[i] > budget or not (pads or lengths[batch[0]] == lengths[i])
        ):
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


def _samples(audio: Audio) -> np.ndarray:
    if isinstance(audio, Encoded):
        raise TypeError(f"{type(audio).__name__} cannot be learned from; expected samples")
    return np.asarray(audio, dtype=np.float32)


def _is_silent(samples: np.ndarray, rate: int) -> bool:
    size = rate // 10
    whole = np.pad(samples, (0, -len(samples) % size))
    return not len(whole) or float(np.square(whole).reshape(-1, size).mean(axis=1).max()) < SILENT**2
