"""Guards: the checks of an adapted recogniser, and scaling of an adapter that fails one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import nn

from metavox.adaptation.fine_tune import Recordings
from metavox.adaptation.guards import GuardConfig, guard, scaled, silence_and_noise
from metavox.adaptation.rehearsal import Rehearsal
from metavox.adaptation.repetition import has_loop
from metavox.recognisers.conformer.kind import ConformerRecogniser
from metavox.recognisers.conformer.network import Network
from metavox.recognisers.delta import Delta, LoRA
from metavox.recognisers.recogniser import (
    Audio,
    DecodeOptions,
    Preset,
    Recipe,
    Recogniser,
    RecogniserSpec,
)
from metavox.recognisers.transcript import Segment, Transcript, Word

RATE = 1000
TEXTS = [f"say number{chr(97 + i)} again please" for i in range(20)]


@dataclass
class Faults:
    """The value of the recogniser's only weight at which each fault begins."""

    forgets: float = 9.0
    speaks: float = 9.0
    loops: float = 9.0
    collapses: float = 9.0
    delays: float = 9.0


class FaultyRecogniser(Recogniser):
    """Transcribes a recording by the value of its first sample: below 1 it is silence, above 100 general speech."""

    def __init__(self, faults: Faults, digest: str = "base"):
        self.spec = RecogniserSpec("fake", "fake", digest, RATE, 30.0, ("en",), ("lora",))
        self.network = nn.Sequential(nn.Linear(1, 1, bias=False)).requires_grad_(False)
        self.network[0].weight.zero_()
        self.faults = faults

    def transcribe(
        self, audio: Sequence[Audio], options: DecodeOptions = DecodeOptions()
    ) -> list[Transcript]:
        delay_s = 0.2 if float(self.network(torch.ones(1, 1))) >= self.faults.delays else 0.0
        transcripts = []
        for recording in audio:
            text = self._text(np.asarray(recording))
            starts_s = [0.2 * i + delay_s for i in range(len(text.split()))] if options.word_times else []
            words = tuple(Word(w, at, at + 0.1, 1.0) for w, at in zip(text.split(), starts_s, strict=False))
            transcripts.append(Transcript((Segment(text, 0.0, 1.0, 1.0, words),), len(recording) / RATE))
        return transcripts

    def _text(self, samples: np.ndarray) -> str:
        weight, number = float(self.network(torch.ones(1, 1))), int(samples[0])
        if number < 1:
            return "thank you" if weight >= self.faults.speaks else " ."
        general = number > 100
        if general:
            return "nothing like it" if weight >= self.faults.forgets else TEXTS[number - 101]
        if weight >= self.faults.loops and number % 5 == 0:
            return "go " * 9
        return TEXTS[0] if weight >= self.faults.collapses else TEXTS[number - 1]

    def loss(self, audio: Sequence[Audio], texts: Sequence[str]) -> torch.Tensor:
        raise NotImplementedError

    text_log_probs = predictions = loss

    def adapter_targets(self, preset: Preset) -> tuple[str, ...]:
        return ("0.weight",)

    def recipes(self, recordings: int) -> tuple[Recipe, ...]:
        return ()

    def perturb(self, audio: Sequence[Audio], random: np.random.Generator) -> list[Audio]:
        return list(audio)

    def speaker_frames(self, audio: Sequence[Audio]) -> list[torch.Tensor]:
        raise NotImplementedError

    def duration_s(self, audio: Audio) -> float:
        return len(audio) / RATE


def recording(number: int) -> np.ndarray:
    return np.full(RATE, number, np.float32)


TRAINING = Recordings([recording(i + 1) for i in range(20)], TEXTS)
GENERAL = Rehearsal([], [recording(i + 101) for i in range(20)], TEXTS, "sentences")
WEIGHTS = Delta("base", {"0.weight": torch.ones(1, 1)}, about={"steps": 3})


def guarded(faults: Faults, delta: Delta = WEIGHTS, config: GuardConfig = GuardConfig()) -> Delta:
    return guard(FaultyRecogniser(faults), delta, TRAINING, GENERAL, config)


def test_an_adapter_that_passes_is_kept_with_its_measurements() -> None:
    delta = guarded(Faults())
    report = delta.about["guards"]
    assert delta.weights is not WEIGHTS.weights
    assert torch.equal(delta.weights["0.weight"], WEIGHTS.weights["0.weight"])
    assert delta.about["steps"] == 3
    assert report["scale"] == 1.0
    assert all(report[name]["passed"] for name in ("general", "timing", "silence", "loops", "collapse"))
    assert report["timing"] == {"words": 80, "median_s": 0.0, "within": 1.0, "passed": True}
    assert report["general"]["more"]["mean"] == 0
    assert report["general"]["more"]["ci95"] > 0, "20 unchanged recordings still leave an interval"
    assert len(report["lines"]) == 5
    assert all("\n" not in line for line in report["lines"])


@pytest.mark.parametrize(
    ("faults", "reason"),
    [
        (Faults(forgets=0.4), "general speech got worse"),
        (Faults(delays=0.4), "word times moved"),
        (Faults(speaks=0.4), "silence or noise"),
        (Faults(loops=0.4), "loops"),
        (Faults(collapses=0.4), "the same words"),
    ],
)
def test_an_adapter_with_a_fault_is_scaled_down_until_it_passes(faults: Faults, reason: str) -> None:
    delta = guarded(faults)
    assert delta.about["guards"]["scale"] == 0.25
    assert float(delta.weights["0.weight"]) == 0.25
    assert reason in delta.about["guards"]["lines"][0]
    assert delta.about["guards"]["failed_whole"]


def test_the_largest_scale_that_passes_is_kept() -> None:
    assert guarded(Faults(speaks=0.6)).about["guards"]["scale"] == 0.5


def test_if_no_scale_passes_the_base_is_kept_with_the_reasons() -> None:
    delta = guarded(Faults(forgets=0.1, loops=0.1))
    assert not delta.changes_recogniser
    assert delta.base == "base"
    assert delta.about["guards"]["scale"] == 0.0
    assert "is kept unchanged" in delta.about["guards"]["lines"][0]
    assert "general speech" in delta.about["guards"]["lines"][0]
    assert "loops" in delta.about["guards"]["lines"][0]


@pytest.mark.parametrize("name", ["forgets", "delays", "speaks", "loops", "collapses"])
def test_a_fault_of_the_base_is_not_attributed_to_the_adapter(name: str) -> None:
    delta = guarded(Faults(**{name: 0.0}))
    assert delta.about["guards"]["scale"] == 1.0


@pytest.mark.parametrize("name", ["general", "timing", "silence", "loops", "collapse"])
def test_a_disabled_check_is_skipped(name: str) -> None:
    fault = {
        "general": "forgets",
        "timing": "delays",
        "silence": "speaks",
        "loops": "loops",
        "collapse": "collapses",
    }
    delta = guarded(Faults(**{fault[name]: 0.1}), config=replace(GuardConfig(), **{name: False}))
    assert delta.about["guards"]["scale"] == 1.0
    assert name not in delta.about["guards"]


def test_general_speech_is_only_reported_if_its_limit_is_infinite() -> None:
    delta = guarded(Faults(forgets=0.1), config=GuardConfig(worst_points=float("inf")))
    assert delta.about["guards"]["scale"] == 1.0
    assert delta.about["guards"]["general"]["wer"] == 1.0
    assert "rehearse more general speech" in delta.about["guards"]["lines"][0]


def test_without_general_speech_the_other_checks_run() -> None:
    report = guard(FaultyRecogniser(Faults()), WEIGHTS, TRAINING, None).about["guards"]
    assert set(report) == {"silence", "loops", "collapse", "scale", "lines"}


def test_an_adapter_without_effect_is_not_checked() -> None:
    harmless = Delta("base", lora=LoRA(1, 1.0, {"0.weight": (torch.ones(1, 1), torch.zeros(1, 1))}))
    delta = guarded(Faults(forgets=0.0, speaks=0.0), harmless)
    assert delta.about["guards"]["scale"] == 0.0
    assert "general" not in delta.about["guards"]
    assert delta.lora is harmless.lora


def test_a_lora_adapter_is_scaled_by_its_alpha() -> None:
    factors = {"0.weight": (torch.full((1, 1), 2.0), torch.full((1, 1), 0.5))}
    delta = guarded(Faults(speaks=0.9), Delta("base", lora=LoRA(1, 1.0, factors)))
    assert delta.lora is not None
    assert delta.lora.alpha == 0.5
    assert torch.equal(delta.lora.factors["0.weight"][0], factors["0.weight"][0])
    assert scaled(delta, 0.5).lora.alpha == 0.25  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "text",
    [
        "no no no no no",
        "I think so. I think so. I think so. I think so. I think so.",
        "はい" * 30,
        "".join(f"the end of day {i} and then " for i in range(30)),
    ],
)
def test_loops_are_detected(text: str) -> None:
    assert has_loop(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "No, no, no, no!",
        "The cat sat on the mat and the dog sat on the rug.",
        "吾輩は猫である。名前はまだ無い。",
    ],
)
def test_ordinary_text_is_not_a_loop(text: str) -> None:
    assert not has_loop(text)


def test_silence_noise_and_hum_are_quiet() -> None:
    clips = silence_and_noise(8000)
    levels = [20 * np.log10(np.sqrt(np.mean(np.square(clip))) + 1e-9) for clip in clips]
    assert len(clips) == 9
    assert all(level < -35 for level in levels)
    assert sum(level > -45 for level in levels) == 6


def test_guards_work_on_a_real_network(make_model: Callable[..., Network]) -> None:
    """A delta that always writes the same character fails on a small network, and one without effect passes."""
    base = ConformerRecogniser(make_model().requires_grad_(False), "small", "base")
    audio = base.prepare(
        [np.random.default_rng(i).normal(0, 0.1, 16000).astype(np.float32) for i in range(6)]
    )
    transcripts = [transcript.text or "a" for transcript in base.transcribe(audio)]
    general = Rehearsal([], silence_and_noise(16000)[1:3], ["a b", "b a"], "clips")
    name = base.adapter_targets("lora")[-1]
    harmless = Delta("base", {name: 1e-9 * torch.ones_like(base.network.get_parameter(name))})
    report = guard(base, harmless, Recordings(audio, transcripts), general).about["guards"]
    assert report["scale"] == 1.0
    assert report["general"]["wer"] == report["general"]["wer_before"]
    ruinous = Delta("base", {"ctc.bias": torch.eye(len(base.network.ctc.bias))[3] * 1e3})
    silent = base.using([Delta("base", {"ctc.bias": torch.eye(len(base.network.ctc.bias))[0] * 1e3})])
    silent.spec = replace(silent.spec, digest="base")
    report = guard(
        silent, ruinous, Recordings(audio, transcripts), general, GuardConfig(scales=(2.0,))
    ).about["guards"]
    assert report["scale"] == 0.0
    assert not report["silence"]["passed"]
    assert report["silence"]["with_words_before"] == 0
