"""The kind `whisper`: an encoder over log-mels and a decoder that writes text with times."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from metavox.errors import UserError
from metavox.recognisers.perturb import gently_perturbed
from metavox.recognisers.recogniser import (
    Audio,
    DecodeOptions,
    Predictions,
    Preset,
    Recipe,
    Recogniser,
    RecogniserSpec,
)
from metavox.recognisers.transcript import Segment, Transcript
from metavox.recognisers.whisper.decoding import Decoded, Rules, decode, detect_languages, max_tokens
from metavox.recognisers.whisper.encoding import (
    MAX_CLIPS,
    ClipEncoder,
    EncodedRecording,
    Window,
    batches,
    samples_of,
)
from metavox.recognisers.whisper.features import SAMPLE_RATE_HZ
from metavox.recognisers.whisper.network import Whisper, half_precision
from metavox.recognisers.whisper.search import search
from metavox.recognisers.whisper.segments import rest_start_s, segments
from metavox.recognisers.whisper.targets import Target, log_likelihoods, predictions, target
from metavox.recognisers.whisper.tokens import Tokens
from metavox.recognisers.whisper.words import with_words

KIND = "whisper"
PRESETS: tuple[Preset, ...] = ("lora", "lora-encoder", "lora-decoder", "norms", "last", "all")
TEMPERATURES = (0.4, 0.8)  # tried in turn if the most likely tokens form a loop
MAX_PASSES = 3
SPEAKER_LAYERS = 1


class WhisperRecogniser(Recogniser):
    """Recogniser of a Whisper network. Audio is samples at 16 kHz; `short` says whether the network was
    trained for short contexts.
    """

    network: Whisper

    def __init__(
        self,
        network: Whisper,
        spec: RecogniserSpec,
        rules: Rules,
        heads: Sequence[tuple[int, int]],
        short: bool,
    ):
        self.network, self.spec, self.rules, self.short = network, spec, rules, short
        self.heads = tuple(heads)  # (layer, head) of the alignment heads, whose attention follows the audio

    @property
    def clip_encoder(self) -> ClipEncoder:
        return ClipEncoder(self.network, self.short)

    @property
    def tokens(self) -> Tokens:
        return self.rules.tokens

    def encode(self, audio: Sequence[Audio]) -> list[Audio]:
        """Encode each window in the context that it needs."""
        windows = self.clip_encoder.windows(audio)
        states = self.clip_encoder.states(
            windows, [self.clip_encoder.context_s(window) for window in windows]
        )
        windows = [replace(window, states=s) for window, s in zip(windows, states, strict=True)]
        return [EncodedRecording(tuple(w for w in windows if w.recording == i)) for i in range(len(audio))]

    def transcribe(
        self, audio: Sequence[Audio], options: DecodeOptions = DecodeOptions()
    ) -> list[Transcript]:
        """Transcribe recordings; those over 30 s are cut at quiet points.

        What the decoder left out at the end of a window is decoded again.
        """
        self._check(options)
        windows = [window for window in self.clip_encoder.windows(audio) if not window.silent]
        segments_of: list[list[Segment]] = [[] for _ in audio]
        languages = self._languages(windows, len(audio), options)
        for _ in range(MAX_PASSES):
            decoded_windows = (self._search_windows if options.searches else self._decode_windows)(
                windows, languages, options
            )
            rest = []
            for window, decoded in zip(windows, decoded_windows, strict=True):
                new = segments(decoded, self.tokens, window.duration_s)
                if options.word_times:
                    new = with_words(
                        self.clip_encoder,
                        window,
                        new,
                        self.tokens.prompt(languages[window.recording], options.task, False),
                        self.tokens,
                        self.heads,
                    )
                segments_of[window.recording] += [
                    s.later(window.start_s, window.start_s + window.duration_s) for s in new
                ]
                from_s = rest_start_s(decoded, new, window.samples)
                if from_s is not None:
                    start = round(from_s * SAMPLE_RATE_HZ)
                    rest.append(Window(window.samples[start:], window.start_s + from_s, window.recording))
            if not (windows := rest):
                break
        return [
            Transcript(tuple(sorted(own_segments, key=lambda s: s.start_s)), self.duration_s(one), language)
            for own_segments, one, language in zip(segments_of, audio, languages, strict=True)
        ]

    def loss(self, audio: Sequence[Audio], texts: Sequence[str]) -> torch.Tensor:
        """The mean cross-entropy per token of the text and its end; the prompt does not count."""
        clips = [self._check_length(one) for one in audio]
        targets = [self._target(text, clip) for text, clip in zip(texts, clips, strict=True)]
        total, count = torch.zeros(()), 0
        contexts = [self.clip_encoder.context_s(Window(clip, 0.0, 0)) for clip in clips]
        for rows in batches(contexts, [len(t.inputs) for t in targets]):
            mels = self.clip_encoder.mels([clips[i] for i in rows], contexts[rows[0]])
            with half_precision(self.clip_encoder.device):
                attention = self.network.decoder.cross_attention(self.network.encoder(mels))
                sums = log_likelihoods(self.network, attention, [targets[i] for i in rows], self.tokens)
            total = total - sums.sum().cpu()
            count += sum(targets[i].counted for i in rows)
        return total / max(1, count)

    @torch.inference_mode()
    def text_log_probs(self, audio: Sequence[Audio], texts: Sequence[str]) -> torch.Tensor:
        recordings = [one if isinstance(one, EncodedRecording) else self.encode([one])[0] for one in audio]
        out = torch.zeros(len(audio), len(texts))
        characters = torch.tensor([max(1, len(self.writable(text))) for text in texts])
        for row, one in zip(out, recordings, strict=True):
            self._check_length(one)
            window = one.windows[0]  # type: ignore[union-attr]
            targets = [self._target(text, window.samples) for text in texts]
            order = sorted(range(len(texts)), key=lambda i: len(targets[i].inputs))
            with half_precision(self.clip_encoder.device):
                attention = self.network.decoder.cross_attention(
                    window.states.to(self.clip_encoder.device)[None]
                )
                for first in range(0, len(order), MAX_CLIPS):
                    rows = order[first : first + MAX_CLIPS]
                    sums = log_likelihoods(
                        self.network,
                        attention.repeated(len(rows)),
                        [targets[i] for i in rows],
                        self.tokens,
                    )
                    row[rows] = sums.float().cpu()
        return out / characters

    def predictions(self, audio: Audio, text: str) -> Predictions:
        clip = self._check_length(audio)
        mels = self.clip_encoder.mels([clip], self.clip_encoder.context_s(Window(clip, 0.0, 0)))
        with half_precision(self.clip_encoder.device):
            attention = self.network.decoder.cross_attention(self.network.encoder(mels))
            return predictions(self.network, attention, self._target(text, clip), self.tokens)

    def recipes(self, recordings: int) -> tuple[Recipe, ...]:
        """More steps for more recordings.

        Fewer than ten recordings are overfitted, and half of the learned update served development speakers
        better than all of it.
        """
        steps = 20 if recordings < 10 else 40 if recordings < 50 else 100
        default = Recipe("lora", 1e-3, steps, 4, scale=0.5 if recordings < 10 else 1.0)
        return (
            default,
            replace(default, learning_rate=3e-4),
            replace(default, preset="lora-encoder"),
            replace(default, preset="norms"),
        )

    def adapter_targets(self, preset: Preset) -> tuple[str, ...]:
        """`lora`: all linear layers; `norms`: normalisations and biases; `last`: the last layer of the
        encoder and of the decoder; `all`: everything but the encoder's fixed positions.
        """
        if preset not in PRESETS:
            raise UserError(
                f"preset {preset!r}: {self.spec.name} does not support it; expected one of {', '.join(PRESETS)}"
            )
        names = [n for n, _ in self.network.named_parameters() if n != "encoder.embed_positions.weight"]
        if preset.startswith("lora"):
            side = preset.removeprefix("lora").removeprefix("-")
            linear = {f"{n}.weight" for n, m in self.network.named_modules() if isinstance(m, nn.Linear)}
            return tuple(n for n in names if n in linear and n.startswith(side))
        if preset == "norms":
            return tuple(n for n in names if n.endswith("bias") or "layer_norm" in n)
        if preset == "last":
            of = self.network.dimensions
            last = (f"encoder.layers.{of.encoder_layers - 1}.", f"decoder.layers.{of.decoder_layers - 1}.")
            return tuple(n for n in names if n.startswith(last))
        return tuple(names)

    def perturb(self, audio: Sequence[Audio], random: np.random.Generator) -> list[Audio]:
        """Other speed, noise and equalisation (see `recognisers.perturb`); unchanged if the result would
        exceed the window.
        """
        max_samples = round(self.spec.longest_s * SAMPLE_RATE_HZ)
        out: list[Audio] = []
        for one in map(samples_of, audio):
            other = gently_perturbed(one, SAMPLE_RATE_HZ, random)
            out.append(other if len(other) <= max_samples else one)
        return out

    def duration_s(self, audio: Audio) -> float:
        if isinstance(audio, EncodedRecording):
            return sum(window.duration_s for window in audio.windows)
        return len(samples_of(audio)) / SAMPLE_RATE_HZ

    def speaker_frames(self, audio: Sequence[Audio]) -> list[torch.Tensor]:
        """The states of the first layer, which separated development speakers best."""
        windows = self.clip_encoder.windows([samples_of(one) for one in audio])
        states = self.clip_encoder.early_states(windows, SPEAKER_LAYERS)
        return [
            torch.cat([each for window, each in zip(windows, states, strict=True) if window.recording == i])
            for i in range(len(audio))
        ]

    # Transcription

    def _check(self, options: DecodeOptions) -> None:
        if options.task == "translate" and not self.tokens.multilingual:
            raise UserError(
                f"{self.spec.name} knows English only and does not translate; choose a multilingual Whisper"
            )
        if options.language and options.language not in self.spec.languages:
            known = "English only" if not self.tokens.multilingual else f"{len(self.spec.languages)} others"
            raise UserError(
                f"language {options.language!r}: {self.spec.name} knows {known}; choose a base that knows it (metavox base list)"
            )

    def _languages(self, windows: Sequence[Window], recordings: int, options: DecodeOptions) -> list[str]:
        """The language of each recording: the requested one, or that of its first window."""
        requested = options.language or self.language
        out = [requested or ("" if self.tokens.multilingual else "en")] * recordings
        if requested or not self.tokens.multilingual:
            return out
        first_windows = list({window.recording: window for window in reversed(windows)}.values())
        for window, states in zip(
            first_windows,
            self.clip_encoder.states(first_windows, [self.clip_encoder.window_s] * len(first_windows)),
            strict=True,
        ):
            out[window.recording] = detect_languages(self.network, states[None], self.tokens)[0]
        return out

    def _prompt(self, options: DecodeOptions, language: str) -> list[int]:
        timestamps = self.rules.timestamps and not options.searches
        start = self.tokens.prompt(language, options.task, timestamps)
        if not options.prompt.strip():
            return start
        max_ids = self.network.dimensions.max_target_positions // 2 - 1
        return [
            self.tokens.previous,
            *self.tokens.encode(" " + options.prompt.strip())[-max_ids:],
            *start,
        ]

    def _decode_windows(
        self, windows: Sequence[Window], languages: Sequence[str], options: DecodeOptions
    ) -> list[Decoded]:
        """Decode each window.

        What a short context made improbable or endless is decoded again at the full one, and what is endless
        there is sampled.
        """
        prompts = [self._prompt(options, languages[window.recording]) for window in windows]
        contexts = [self.clip_encoder.context_s(window, options.context) for window in windows]
        out: dict[int, Decoded] = {}

        def keep_better(rows: list[int], temperature: float = 0.0) -> None:
            for i, new in self._decode_rows(windows, prompts, contexts, rows, temperature):
                if i not in out or (new.loops, -new.log_prob) < (out[i].loops, -out[i].log_prob):
                    out[i] = new

        keep_better(list(range(len(windows))))
        short = [i for i, x in out.items() if x.doubtful and contexts[i] < self.clip_encoder.window_s]
        for i in short:
            contexts[i] = self.clip_encoder.window_s
        keep_better(short)
        for temperature in TEMPERATURES:
            keep_better([i for i, x in out.items() if x.loops], temperature)
        return [out[i] for i in range(len(windows))]

    def _search_windows(
        self, windows: Sequence[Window], languages: Sequence[str], options: DecodeOptions
    ) -> list[Decoded]:
        """Search each window on its own, and again at the full context if the text is improbable.

        Texts are without times: each window becomes one segment.
        """
        follower = self.rules.spellings.following(options.guide) if options.guide else None
        strict = options.guide is not None and options.guide.strict
        out = []
        for window in windows:
            prompt = self._prompt(options, languages[window.recording])
            contexts_s = [self.clip_encoder.context_s(window, options.context)]
            contexts_s += [self.clip_encoder.window_s] if contexts_s[0] < self.clip_encoder.window_s else []
            found = []
            for context_s in contexts_s:
                states = self.clip_encoder.shared_states([window], context_s)
                limit = max_tokens(window.duration_s)
                found.append(search(self.network, states, prompt, self.rules, limit, options.beam, follower))
                if strict or not found[-1].doubtful:
                    break
            out.append(max(found, key=lambda decoded: (not decoded.loops, decoded.log_prob)))
        return out

    def _decode_rows(
        self,
        windows: Sequence[Window],
        prompts: Sequence[Sequence[int]],
        contexts_s: Sequence[float],
        rows: list[int],
        temperature: float,
    ) -> Iterator[tuple[int, Decoded]]:
        lengths = [windows[i].duration_s for i in rows]
        # Sampled windows are decoded one by one, and each window has its own limit, so that batch mates change nothing.
        groups = (
            [[j] for j in range(len(rows))]
            if temperature
            else batches([contexts_s[i] for i in rows], lengths)
        )
        for batch in groups:
            indices = [rows[j] for j in batch]
            context_s = contexts_s[indices[0]]
            states = self.clip_encoder.shared_states([windows[i] for i in indices], context_s)
            random = torch.Generator(self.clip_encoder.device).manual_seed(0) if temperature else None
            limits = [max_tokens(windows[i].duration_s) for i in indices]
            decoded_windows = decode(
                self.network, states, [prompts[i] for i in indices], self.rules, limits, temperature, random
            )
            yield from zip(indices, decoded_windows, strict=True)

    # Training

    def _check_length(self, audio: Audio) -> np.ndarray:
        samples = samples_of(audio)
        if len(samples) > self.clip_encoder.window_s * SAMPLE_RATE_HZ:
            raise UserError(
                f"a clip of {len(samples) / SAMPLE_RATE_HZ:.1f} s, but {self.spec.name} learns from up to {self.clip_encoder.window_s:g} s; "
                "cut it into sentences"
            )
        return samples

    def _target(self, text: str, samples: np.ndarray) -> Target:
        prompt = self.tokens.prompt(self.language or self.spec.languages[0], "transcribe", timestamps=True)
        return target(
            self.writable(text), samples, prompt, self.tokens, self.network.dimensions.max_target_positions
        )
