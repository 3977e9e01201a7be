"""The kind `ctc`: a pretrained encoder that writes characters frame by frame."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from torch import nn

from metavox.errors import UserError
from metavox.recognisers.ctc.decode import greedy, losses, searched, text_log_probs
from metavox.recognisers.ctc.features import FeatureExtractor
from metavox.recognisers.ctc.languages import short_code
from metavox.recognisers.ctc.network import CtcNetwork
from metavox.recognisers.lora import shared_view
from metavox.recognisers.perturb import gently_perturbed
from metavox.recognisers.recogniser import (
    Audio,
    DecodeOptions,
    Encoded,
    Predictions,
    Preset,
    Recipe,
    Recogniser,
    RecogniserSpec,
)
from metavox.recognisers.transcript import Segment, Transcript
from metavox.recognisers.windows import quiet_windows

KIND = "ctc"
WINDOW_S, LONGEST_S = 20.0, 30.0
BATCH_S = 60.0  # padded seconds per batch of the encoder
# Root mean square of the loudest tenth of a second (-60 dB). Encoders of normalised samples find words in anything quieter.
SILENT = 1e-3
PRESETS: tuple[Preset, ...] = ("lora", "lora-encoder", "norms", "head", "last", "all")
LAST_LAYERS = 2  # of the preset `last`
# As usual, the convolutions over samples are not trained; the head is added by each preset that trains it.
FIXED = ("acoustic.feature_extractor.", "acoustic.masked_spec_embed", "lm_head.", "more_characters.")
GATE = "gru_rel_pos_linear"  # of WavLM's relative positions: eight numbers per head, too small for LoRA


@dataclass(frozen=True)
class Window:
    """A window of a recording: log-probabilities (frames, ids), start and duration."""

    log_probs: torch.Tensor
    start_s: float
    duration_s: float
    silent: bool


@dataclass(frozen=True)
class EncodedRecording(Encoded):
    """A recording of `duration_s`, in windows."""

    windows: tuple[Window, ...]
    duration_s: float


class CtcRecogniser(Recogniser):
    """Recogniser of a CTC network. Audio is samples at the spec's rate; features are cheap, so `prepare`
    changes nothing.

    Texts and transcripts are in lower case unless the head distinguishes case.
    """

    network: CtcNetwork

    def __init__(self, network: CtcNetwork, spec: RecogniserSpec, feature_extractor: FeatureExtractor):
        self.network, self.spec, self.feature_extractor = network, spec, feature_extractor

    def encode(self, audio: Sequence[Audio]) -> list[Audio]:
        return list(self._encoded(audio))

    def transcribe(
        self, audio: Sequence[Audio], options: DecodeOptions = DecodeOptions()
    ) -> list[Transcript]:
        self._check(options)
        language = self.spec.languages[0] if self.spec.languages else ""
        out = []
        for recording in self._encoded(audio):
            segments = [self._segment(window, options) for window in recording.windows if not window.silent]
            out.append(Transcript(tuple(s for s in segments if s), recording.duration_s, language))
        return out

    def loss(self, audio: Sequence[Audio], texts: Sequence[str]) -> torch.Tensor:
        """The mean CTC loss per character; a text that does not fit its frames does not count."""
        alphabet, device = self.network.alphabet, self.network.lm_head.weight.device
        tokens = [alphabet.encode(text) for text in texts]
        total, count = torch.zeros((), device=device), torch.zeros((), device=device)
        for batch, log_probs, lengths in self._batches([_samples(clip) for clip in audio]):
            batch_total, batch_count = losses(log_probs, lengths, [tokens[i] for i in batch], alphabet.blank)
            total, count = total + batch_total, count + batch_count
        return total / count.clamp_min(1)

    def text_log_probs(self, audio: Sequence[Audio], texts: Sequence[str]) -> torch.Tensor:
        tokens = [self.network.alphabet.encode(text) for text in texts]
        out = torch.zeros(len(audio), len(texts))
        for row, recording in zip(out, self._encoded(audio), strict=True):
            log_probs = torch.cat([window.log_probs for window in recording.windows])
            row.copy_(text_log_probs(log_probs, tokens, self.network.alphabet.blank))
        return out

    def predictions(self, audio: Audio, text: str) -> Predictions:
        ((_, log_probs, _),) = self._batches([_samples(audio)])
        writes = torch.tensor([bool(written) for written in self.network.alphabet.written])
        return Predictions(log_probs[0], writes.to(log_probs.device)[log_probs[0].argmax(dim=1)])

    def recipes(self, recordings: int) -> tuple[Recipe, ...]:
        """More steps for a head that is learned from scratch."""
        if self.network.lm_head.out_features == 1:
            return Recipe("lora", 1e-3, 300, 8), Recipe("norms", 1e-3, 300, 8)
        steps = 20 if recordings < 10 else 40 if recordings < 50 else 100
        usual = Recipe("lora", 1e-3, steps, 4)
        return usual, replace(usual, learning_rate=3e-4), Recipe("norms", 1e-3, steps, 4)

    def adapter_targets(self, preset: Preset) -> tuple[str, ...]:
        """`lora`: linear layers of the encoder and the head; `norms`: normalisations, biases and the head;
        `last`: the last two layers and the head; `all`: everything but the convolutions over samples.
        """
        if preset not in PRESETS:
            raise UserError(
                f"preset {preset!r}: {self.spec.name} does not support it; expected one of {', '.join(PRESETS)}"
            )
        head = ("lm_head.weight", "lm_head.bias")
        names = [
            n for n, _ in self.network.named_parameters() if not n.startswith(FIXED) and ".lora_" not in n
        ]
        if preset in ("lora", "lora-encoder"):
            linear = {f"{n}.weight" for n, m in self.network.named_modules() if isinstance(m, nn.Linear)}
            targets = [n for n in names if n in linear and ".encoder.layers." in n and GATE not in n]
            return (*targets, *head[:1]) if self.network.lm_head.out_features > 1 else tuple(targets)
        if preset == "head":
            return head
        if preset == "norms":
            norms = [n for n in names if n.endswith("bias") or "norm" in n.split(".")[-2]]
            return (*norms, *head)
        if preset == "last":
            count = self.network.acoustic.config.num_hidden_layers
            last = tuple(f"acoustic.encoder.layers.{i}." for i in range(count - LAST_LAYERS, count))
            return (*(n for n in names if n.startswith(last)), *head)
        return (*names, *head)

    def perturb(self, audio: Sequence[Audio], random: np.random.Generator) -> list[Audio]:
        """Other speed, noise and equalisation; see `recognisers.perturb`."""
        return [gently_perturbed(_samples(clip), self.spec.sample_rate_hz, random) for clip in audio]

    def duration_s(self, audio: Audio) -> float:
        if isinstance(audio, EncodedRecording):
            return audio.duration_s
        return len(_samples(audio)) / self.spec.sample_rate_hz

    def speaker_frames(self, audio: Sequence[Audio]) -> list[torch.Tensor]:
        out = []
        for clip in map(_samples, audio):
            windows = quiet_windows(clip, self.spec.sample_rate_hz, WINDOW_S)
            with torch.inference_mode():
                states = [
                    self.network.early_states(self.feature_extractor.inputs(window)[None])
                    for window, _ in windows
                ]
            out.append(torch.cat(states))
        return out

    def writable(self, text: str) -> str:
        alphabet = self.network.alphabet
        return alphabet.decode(alphabet.encode(text))

    def missing_characters(self, texts: Sequence[str]) -> str:
        return self.network.alphabet.missing(texts)

    def with_characters(self, characters: str) -> Self:
        view = shared_view(self.network)
        if characters:
            view.add_output_rows(self.network.initial_rows(characters))
        return self.with_network(view)

    def _check(self, options: DecodeOptions) -> None:
        known = self.spec.languages
        if options.task == "translate":
            raise UserError(
                f"{self.spec.name} transcribes but does not translate; choose a Whisper base for translation"
            )
        if known and options.language and short_code(options.language) not in known:
            raise UserError(
                f"language {options.language!r}: {self.spec.name} was loaded for {known[0]}; "
                f"load it again for {options.language}"
            )

    def _encoded(self, audio: Sequence[Audio]) -> list[EncodedRecording]:
        """Run the encoder on each recording, in windows; encoded recordings are returned unchanged."""
        rate = self.spec.sample_rate_hz
        windows_of_audio = [
            (index, window, start_s)
            for index, one in enumerate(audio)
            if not isinstance(one, EncodedRecording)
            for window, start_s in quiet_windows(_samples(one), rate, WINDOW_S)
        ]
        log_probs_of: dict[int, torch.Tensor] = {}
        with torch.inference_mode():
            for batch, log_probs, lengths in self._batches([window for _, window, _ in windows_of_audio]):
                rows = zip(batch, log_probs.cpu(), lengths.tolist(), strict=True)
                log_probs_of |= {i: row[:length].clone() for i, row, length in rows}
        windows: dict[int, list[Window]] = {index: [] for index, _, _ in windows_of_audio}
        for i, (index, window, start_s) in enumerate(windows_of_audio):
            windows[index].append(
                Window(log_probs_of[i], start_s, len(window) / rate, _is_silent(window, rate))
            )
        return [
            one
            if isinstance(one, EncodedRecording)
            else EncodedRecording(tuple(windows[index]), self.duration_s(one))
            for index, one in enumerate(audio)
        ]

    def _batches(self, clips: Sequence[np.ndarray]) -> Iterator[tuple[list[int], torch.Tensor, torch.Tensor]]:
        """Batches of clips: their indices, log-probabilities (batch, frames, ids) and lengths (batch,)."""
        feature_extractor, weight = self.feature_extractor, self.network.lm_head.weight
        steps = [feature_extractor.steps(len(clip)) for clip in clips]
        for batch in batches(steps, round(BATCH_S * feature_extractor.steps_a_second), self.network.pads):
            inputs = [feature_extractor.inputs(clips[i]) for i in batch]
            lengths = torch.tensor([len(item) for item in inputs], device=weight.device)
            padded = nn.utils.rnn.pad_sequence(inputs, batch_first=True).to(weight)
            yield batch, *self.network.characters(padded, lengths)

    def _segment(self, window: Window, options: DecodeOptions) -> Segment | None:
        hop_s = self.network.hop / self.feature_extractor.steps_a_second
        arguments = window.log_probs, self.network.alphabet, hop_s
        if options.searches:
            words, log_prob = searched(*arguments, options.beam, options.guide)
        else:
            words, log_prob = greedy(*arguments), float(window.log_probs.amax(dim=1).sum())
        if not words:
            return None
        text, confidence = " ".join(w.text for w in words), float(np.mean([w.confidence for w in words]))
        times = tuple(words) if options.word_times else ()
        segment = Segment(text, words[0].start_s, words[-1].end_s, confidence, times, log_prob)
        # The last frame may extend past the last sample.
        return segment.later(window.start_s, window.start_s + window.duration_s)


def batches(lengths: Sequence[int], budget: int, pads: bool) -> Iterator[list[int]]:
    """Indices sorted by length, in batches of at most `budget` padded steps; without `pads`, of equal lengths
    only.
    """
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
        raise TypeError(f"cannot learn from {type(audio).__name__}; expected samples")
    return np.asarray(audio, dtype=np.float32)


def _is_silent(samples: np.ndarray, rate: int) -> bool:
    size = rate // 10
    padded = np.pad(samples, (0, -len(samples) % size))
    return not len(padded) or float(np.square(padded).reshape(-1, size).mean(axis=1).max()) < SILENT**2
