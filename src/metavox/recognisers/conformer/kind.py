"""The kind `conformer`: the small network as a recogniser and as a word embedder.

It is the only kind that is trained from scratch here. `prepare` turns samples into log-mels, which the
pipeline computes once for the whole corpus.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import nn

from metavox.audio.features import extract, make_transform
from metavox.audio.perturb import Perturbation, for_features
from metavox.errors import UserError
from metavox.recognisers.conformer.artifact import load_model
from metavox.recognisers.conformer.decoding import ctc_loss, greedy, searched, text_of, text_scores
from metavox.recognisers.conformer.frontend.normalise import Normalise
from metavox.recognisers.conformer.network import Network, pad
from metavox.recognisers.conformer.tokenizer import BLANK, normalise_text
from metavox.recognisers.conformer.vocabulary import adapted_embedding, normalised_scores, word_scores
from metavox.recognisers.delta import OutputRows, Vocabulary
from metavox.recognisers.lora import shared_view
from metavox.recognisers.recogniser import (
    Audio,
    DecodeOptions,
    Encoded,
    Predictions,
    Preset,
    Recipe,
    RecogniserSpec,
    WordEmbedder,
)
from metavox.recognisers.transcript import Segment, Transcript, Word
from metavox.recognisers.windows import quiet_windows

WINDOW_S = 20.0
LONGEST_S = 30.0
BATCH = 32
PRESETS: tuple[Preset, ...] = ("norms", "lora", "head", "frontend", "all")
GENTLE = Perturbation(stretch=0.1, warp=0.05, tilt_db=3.0, noise_snr_db=(15.0, 45.0), bandlimit_chance=0.1)


@dataclass(frozen=True)
class Frames(Encoded):
    """Acoustic and context frames (frames, dim) of a recording of `duration_s`."""

    acoustic: torch.Tensor
    context: torch.Tensor
    duration_s: float


class ConformerRecogniser(WordEmbedder):
    """Transcribes characters by CTC and embeds words."""

    network: Network

    def __init__(self, network: Network, name: str, digest: str):
        self.network = network
        rate = network.config.features.sample_rate_hz
        self.spec = RecogniserSpec("conformer", name, digest, rate, LONGEST_S, (), PRESETS)
        self._transform = make_transform(network.config.features)

    @property
    def margin_s(self) -> float:
        return self.network.config.word_margin_s

    def prepare(self, audio: Sequence[Audio]) -> list[Audio]:
        return list(self._mels(audio))

    def encode(self, audio: Sequence[Audio]) -> list[Audio]:
        return list(self._encoded(audio))

    def transcribe(
        self, audio: Sequence[Audio], options: DecodeOptions = DecodeOptions()
    ) -> list[Transcript]:
        short = [i for i, recording in enumerate(audio) if self.duration_s(recording) <= WINDOW_S]
        encoded = dict(zip(short, self._encoded([audio[i] for i in short]), strict=True))
        return [self._transcript(encoded.get(i, recording), options) for i, recording in enumerate(audio)]

    def loss(self, audio: Sequence[Audio], texts: Sequence[str]) -> torch.Tensor:
        characters, lengths = self.network.characters(*pad(self._mels(audio)))
        return ctc_loss(characters, lengths, [self.network.tokenizer.encode(text) for text in texts])

    def text_log_probs(self, audio: Sequence[Audio], texts: Sequence[str]) -> torch.Tensor:
        tokens = [self.network.tokenizer.encode(text) for text in texts]
        with torch.inference_mode():
            rows = [
                text_scores(self.network.spell(context), lengths, tokens)
                for _, context, lengths in self._batches(audio)
            ]
        return torch.cat(rows) if rows else torch.zeros(0, len(texts))

    def predictions(self, audio: Audio, text: str) -> Predictions:
        log_probs = self.network.characters(*pad(self._mels([audio])))[0][0]
        return Predictions(log_probs, log_probs.argmax(dim=1) != BLANK)

    def embed(self, audio: Sequence[Audio]) -> torch.Tensor:
        with torch.inference_mode():
            rows = [self.network.pool(acoustic, lengths) for acoustic, _, lengths in self._batches(audio)]
        return torch.cat(rows) if rows else torch.zeros(0, self.network.config.embedding)

    def score_words(self, vocabulary: Vocabulary, audio: Sequence[Audio]) -> torch.Tensor:
        with torch.inference_mode():
            rows = [word_scores(self.network, vocabulary, *batch) for batch in self._batches(audio)]
        return torch.cat(rows) if rows else torch.zeros(0, len(vocabulary.words))

    def word_log_probs(self, vocabulary: Vocabulary, audio: Sequence[Audio]) -> torch.Tensor:
        word = adapted_embedding(self.network, vocabulary)
        embedded = self.network.embed(*pad(self._mels(audio)), word=word)
        scores = normalised_scores(self.network.cohort, embedded, vocabulary.prototypes)
        return (vocabulary.logit_scale * scores).log_softmax(dim=1)

    def perturb(self, audio: Sequence[Audio], random: np.random.Generator) -> list[Audio]:
        if not audio:
            return []
        generator = torch.Generator().manual_seed(int(random.integers(2**31)))
        mels, lengths = for_features(GENTLE, self.network.config.features)(*pad(self._mels(audio)), generator)
        return [clip[:count] for clip, count in zip(mels, lengths.tolist(), strict=True)]

    def duration_s(self, audio: Audio) -> float:
        if isinstance(audio, Frames):
            return audio.duration_s
        if isinstance(audio, torch.Tensor):
            return len(audio) * self.network.config.features.hop_s
        return len(_samples(audio)) / self.spec.sample_rate_hz

    def speaker_frames(self, audio: Sequence[Audio]) -> list[torch.Tensor]:
        return [frames.acoustic for frames in self._encoded(audio)]

    def writable(self, text: str) -> str:
        known = set(self.network.tokenizer.alphabet)
        return " ".join("".join(c for c in normalise_text(text) if c in known).split())

    def missing_characters(self, texts: Sequence[str]) -> str:
        return "".join(
            sorted(set("".join(map(normalise_text, texts))) - set(self.network.tokenizer.alphabet))
        )

    def with_characters(self, characters: str) -> Self:
        """New rows start as the mean of the existing rows, a little less likely."""
        weight, bias = self.network.ctc.weight[1:], self.network.ctc.bias[1:]
        count = len(characters)
        network = shared_view(self.network)
        rows = OutputRows(
            characters,
            weight.mean(dim=0).expand(count, -1).clone(),
            (bias.mean() - 1.0).expand(count).clone(),
        )
        network.add_output_rows(rows)
        return self.with_network(network)

    def recipes(self, recordings: int) -> tuple[Recipe, ...]:
        return (Recipe("norms", 3e-3, 30, 16),)

    def adapter_targets(self, preset: Preset) -> tuple[str, ...]:
        return trainable(self.network, preset)

    def _transcript(self, audio: Audio, options: DecodeOptions) -> Transcript:
        if not isinstance(audio, np.ndarray):
            duration_s = self.duration_s(audio)
            return Transcript((self._segment(audio, 0.0, duration_s, options),), duration_s)
        rate = self.spec.sample_rate_hz
        segments = [
            self._segment(window, start_s, start_s + len(window) / rate, options)
            for window, start_s in quiet_windows(audio, rate, WINDOW_S)
        ]
        return Transcript(tuple(segments), len(audio) / rate)

    def _segment(self, audio: Audio, start_s: float, end_s: float, options: DecodeOptions) -> Segment:
        (frames,) = self._encoded([audio])
        with torch.inference_mode():
            log_probs = self.network.spell(frames.context.unsqueeze(0)).squeeze(0)
        if options.searches:
            words, log_prob = searched(log_probs, self.network, options.beam, options.guide)
        else:
            words, log_prob = greedy(log_probs, self.network), float(log_probs.amax(dim=1).sum())
        return replace(segment_of(words, start_s, end_s), log_prob=log_prob)

    def _mels(self, audio: Sequence[Audio]) -> list[torch.Tensor]:
        # Cloned, because inference tensors have no gradients.
        return [
            item if isinstance(item, torch.Tensor) else extract(_samples(item), self._transform).clone()
            for item in audio
        ]

    def _encoded(self, audio: Sequence[Audio]) -> list[Frames]:
        """Run the encoder on each recording, in batches; encoded recordings are returned unchanged."""
        out = {i: item for i, item in enumerate(audio) if isinstance(item, Frames)}
        missing = sorted(
            (i for i in range(len(audio)) if i not in out), key=lambda i: self.duration_s(audio[i])
        )
        for start in range(0, len(missing), BATCH):
            batch = missing[start : start + BATCH]
            mels = self._mels([audio[i] for i in batch])
            with torch.inference_mode():
                (acoustic, lengths), (context, _) = self.network.encoder.both(*pad(mels))
            for i, acoustic_frames, context_frames, count in zip(
                batch, acoustic, context, lengths.tolist(), strict=True
            ):
                out[i] = Frames(acoustic_frames[:count], context_frames[:count], self.duration_s(audio[i]))
        return [out[i] for i in range(len(audio))]

    def _batches(self, audio: Sequence[Audio]) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        """Batches of padded acoustic and context frames (clips, frames, dim) with their lengths (clips,)."""
        encoded = self._encoded(audio)
        for start in range(0, len(encoded), BATCH):
            batch = encoded[start : start + BATCH]
            acoustic, lengths = pad([frames.acoustic for frames in batch])
            yield acoustic, pad([frames.context for frames in batch])[0], lengths


def load(folder: Path, name: str, digest: str) -> ConformerRecogniser:
    """The recogniser of a model folder. Raises UserError if the folder is incomplete."""
    return ConformerRecogniser(load_model(folder).requires_grad_(False), name, digest)


def segment_of(words: Sequence[Word], start_s: float, end_s: float) -> Segment:
    """Words with times from the start of their window -> one segment of the recording."""
    confidence = float(np.mean([w.confidence for w in words])) if words else 0.0
    segment = Segment(text_of(list(words)), 0.0, end_s - start_s, confidence, tuple(words))
    return segment.later(start_s, end_s)  # the last frame may reach past the last sample


def trainable(model: nn.Module, preset: Preset) -> tuple[str, ...]:
    """Names of the weights that an adapter trains. Raises UserError for a preset of other kinds."""
    names = [
        name for name, _ in model.named_parameters() if not name.startswith(("word.", "more_characters."))
    ]
    if preset == "all":
        return tuple(names)
    if preset == "head":
        return tuple(name for name in names if name.startswith("ctc."))
    if preset == "frontend":
        return tuple(name for name in names if name.startswith("encoder.frontend."))
    if preset == "lora":
        modules = model.named_modules()
        return tuple(
            f"{path}.weight"
            for path, module in modules
            if isinstance(module, nn.Linear) and path.startswith(("encoder.", "ctc"))
        )
    if preset == "norms":
        norms = {
            f"{path}.{name}"
            for path, module in model.named_modules()
            if isinstance(module, nn.LayerNorm | nn.GroupNorm | nn.BatchNorm2d | Normalise)
            for name, _ in module.named_parameters(recurse=False)
        }
        return tuple(n for n in names if n in norms or n.endswith("bias") or n.startswith("ctc."))
    raise UserError(
        f"preset {preset!r}: the conformer does not support it; expected one of {', '.join(PRESETS)}"
    )


def _samples(audio: Audio) -> np.ndarray:
    if not isinstance(audio, np.ndarray):
        raise TypeError(f"cannot learn from {type(audio).__name__}; expected samples or log-mels")
    return audio
