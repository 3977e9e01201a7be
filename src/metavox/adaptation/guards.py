"""Guards: checks that an adapted recogniser did not get worse elsewhere, and scaling of the adapter if it did.

Each check compares the adapted recogniser with the base model, so that faults of the base model are not attributed to
the adapter. An adapter that fails a check is scaled down until it passes (weights between base and adapted model keep
most of what was learned and forget less, Wortsman et al. 2022). If no scale passes, the base model is kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch

from metavox.adaptation.estimate import Unit, count_edits
from metavox.adaptation.fine_tune import Recordings
from metavox.adaptation.rehearsal import Rehearsal
from metavox.adaptation.repetition import has_loop
from metavox.intervals import SAME, Z, error_rate
from metavox.recognisers.delta import Delta
from metavox.recognisers.recogniser import Audio, DecodeOptions, Recogniser
from metavox.recognisers.transcript import Transcript, Word
from metavox.text import any_words, normalise_text

NOISE_DURATIONS_S = (1.0, 5.0, 12.0)
NOISE_DB = -40.0  # of full scale, root mean square
HUM_HZ = 50.0
MIN_TEXTS = 4  # distinct texts needed to detect a collapse
UNUSABLE_WER = 0.6  # a base model with a higher word error rate has nothing to forget
SEED = 12
WORDS = DecodeOptions(word_times=True)


@dataclass(frozen=True)
class GuardConfig:
    """Which checks are made, and their limits.

    On general speech, a word error rate that rises by up to `fine_points` percentage points is acceptable; a rise of
    more than `worst_points` is a failure if it is significant (with infinity it is only reported). The median start of a
    word may move by `apart_s`. `scales` of the adapter are tried in turn. At most `max_recordings` of the training
    recordings are transcribed.
    """

    general: bool = True
    timing: bool = True
    silence: bool = True
    loops: bool = True
    collapse: bool = True
    fine_points: float = 0.5
    worst_points: float = 2.0
    apart_s: float = 0.08
    scales: tuple[float, ...] = (1.0, 0.5, 0.25)
    max_recordings: int = 40


@dataclass(frozen=True)
class Finding:
    """The result of a check: its figures, one line for the user, and in a few words the `reason` of a failure."""

    name: str
    passed: bool
    figures: dict[str, Any]
    line: str
    reason: str = ""


def guard(
    recogniser: Recogniser,
    delta: Delta,
    recordings: Recordings,
    rehearsal: Rehearsal | None,
    config: GuardConfig = GuardConfig(),
) -> Delta:
    """The delta, scaled down if necessary, with the measurements in `about["guards"]`; its `lines` are for the user.

    `recordings` are the prepared training recordings. Without `rehearsal`, general speech is not checked.
    """
    if not _changes_output(delta):
        lines = ["the base model is kept unchanged, so the guards have nothing to check"]
        return _with_report(delta, {"scale": 0.0, "lines": lines})
    checks = _Checks(recogniser, recordings, rehearsal, config)
    first_failures: list[Finding] = []
    for scale in config.scales:
        scaled_delta = scaled(delta, scale)
        findings = checks.run(recogniser.using([scaled_delta]))
        failures = [finding for finding in findings if not finding.passed]
        if not failures:
            return _with_report(scaled_delta, _report(findings, scale, first_failures))
        first_failures = first_failures or failures
    without_adapter = replace(delta, weights={}, lora=None)
    except_rows = ", except for the new characters" if delta.output_rows else ""
    lines = [
        f"the base model is kept unchanged{except_rows}, because the adapter failed at every scale: "
        f"{_reasons(first_failures)}"
    ]
    return _with_report(
        without_adapter,
        _report(findings, 0.0, []) | {"lines": [*lines, *(finding.line for finding in first_failures)]},
    )


def scaled(delta: Delta, factor: float) -> Delta:
    """The delta with its change of the weights multiplied by `factor`; rows for new characters stay as they are."""
    lora = replace(delta.lora, alpha=delta.lora.alpha * factor) if delta.lora else None
    return replace(delta, weights={name: value * factor for name, value in delta.weights.items()}, lora=lora)


class _Checks:
    """The checks of one call. The outputs of the base model are computed once, when a check first needs them."""

    def __init__(
        self, base: Recogniser, recordings: Recordings, rehearsal: Rehearsal | None, config: GuardConfig
    ):
        self.base, self.rehearsal, self.config = base, rehearsal, config
        chosen = np.random.default_rng(SEED).permutation(len(recordings))[: config.max_recordings]
        self.recordings = recordings.subset(np.sort(chosen))
        self.noise = base.prepare(silence_and_noise(base.spec.sample_rate_hz))
        self.general = base.prepare(rehearsal.held_out) if rehearsal else []

    def run(self, adapted: Recogniser) -> list[Finding]:
        config, findings = self.config, []
        transcripts = _texts(adapted, self.recordings.audio) if config.loops or config.collapse else []
        if self.rehearsal and (config.general or config.timing):
            general = _transcripts(adapted, self.general)
            findings += [self._general(general)] if config.general else []
            findings += [self._timing(general)] if config.timing else []
        if config.silence:
            findings.append(self._silence(_texts(adapted, self.noise)))
        if config.loops:
            findings.append(self._loops(transcripts))
        if config.collapse:
            findings.append(self._collapse(transcripts))
        return findings

    @cached_property
    def _general_before(self) -> list[Transcript]:
        return _transcripts(self.base, self.general)

    @cached_property
    def _noise_before(self) -> list[str]:
        return _texts(self.base, self.noise)

    @cached_property
    def _transcripts_before(self) -> list[str]:
        return _texts(self.base, self.recordings.audio)

    def _general(self, transcripts: Sequence[Transcript]) -> Finding:
        assert self.rehearsal is not None
        texts = self.rehearsal.held_out_texts
        before, lengths = _word_edits([transcript.text for transcript in self._general_before], texts)
        after, _ = _word_edits([transcript.text for transcript in transcripts], texts)
        total = max(1, int(lengths.sum()))
        increase = float((after - before).sum() / total)
        residuals = after - before - increase * lengths
        # Paired: the variance of a ratio of sums.
        ci95 = float(Z * np.sqrt(np.square(residuals).sum()) / total)
        if ci95 < SAME:  # all recordings lost equally much, for example nothing
            ci95 = error_rate(abs(int((after - before).sum())), total).ci95
        wer_before, wer = float(before.sum() / total), float(after.sum() / total)
        unit = "word" if any_words(texts) else "character"
        limit, reported = self.config.worst_points / 100, self.config.fine_points / 100
        passed = wer_before > UNUSABLE_WER or not (increase > limit and increase > ci95)
        advice = "; to forget less, rehearse more general speech, or lower the learning rate or the number of steps"
        line = (
            f"general speech ({len(lengths)} recordings, {self.rehearsal.source}): {unit} error rate {100 * wer:.1f}%, "
            f"without the delta {100 * wer_before:.1f}% ({100 * increase:+.1f} ± {100 * ci95:.1f})"
            f"{advice if increase > reported else ''}"
        )
        figures = {
            "wer_before": wer_before,
            "wer": wer,
            "more": {"mean": increase, "ci95": ci95},
            "recordings": len(lengths),
            "source": self.rehearsal.source,
        }
        return Finding("general", passed, figures, line, "general speech got worse")

    def _timing(self, transcripts: Sequence[Transcript]) -> Finding:
        """Compare word times on general speech that both transcribe identically; the base model's times are the reference."""
        shifts_s = np.array(
            [
                abs(word.start_s - word_before.start_s)
                for before, after in zip(self._general_before, transcripts, strict=True)
                if normalise_text(before.text) == normalise_text(after.text)
                and len(_words(before)) == len(_words(after))
                for word, word_before in zip(_words(after), _words(before), strict=True)
            ]
        )
        if not len(shifts_s):
            return Finding(
                "timing",
                True,
                {"words": 0},
                "word times: no recording has the same transcript with and without the delta",
            )
        median, within = float(np.median(shifts_s)), float(np.mean(shifts_s <= self.config.apart_s))
        line = (
            f"word times: compared with those without the delta, {len(shifts_s)} words start a median of {1000 * median:.0f} ms "
            f"away, {within:.0%} within {1000 * self.config.apart_s:.0f} ms"
        )
        figures = {"words": len(shifts_s), "median_s": median, "within": within}
        return Finding("timing", median <= self.config.apart_s, figures, line, "word times moved")

    def _silence(self, transcripts: Sequence[str]) -> Finding:
        after = sum(map(_has_words, transcripts))
        before = sum(map(_has_words, self._noise_before)) if after else 0
        figures = {"clips": len(transcripts), "with_words": after, "with_words_before": before}
        line = f"silence, noise and hum: words in the transcripts of {after} of {len(transcripts)} clips"
        line += f", {before} without the delta" if after else ""
        return Finding("silence", after <= before, figures, line, "it transcribed words in silence or noise")

    def _loops(self, transcripts: Sequence[str]) -> Finding:
        after = sum(map(has_loop, transcripts))
        before = sum(map(has_loop, self._transcripts_before)) if after else 0
        figures = {"recordings": len(transcripts), "with_loops": after, "with_loops_before": before}
        line = f"repetition loops: in {after} of {len(transcripts)} training recordings"
        line += f", {before} without the delta" if after else ""
        return Finding("loops", after <= before, figures, line, "its transcripts had repetition loops")

    def _collapse(self, transcripts: Sequence[str]) -> Finding:
        texts, after = _distinct(self.recordings.texts), _distinct(transcripts)
        suspect = texts >= MIN_TEXTS and after <= texts / 2
        before = _distinct(self._transcripts_before) if suspect else texts
        passed = not suspect or after > before / 2
        figures = {"texts": texts, "transcripts": after} | ({"transcripts_before": before} if suspect else {})
        line = f"training recordings: {texts} distinct texts, {after} distinct transcripts"
        return Finding(
            "collapse", passed, figures, line, "it transcribed different recordings as the same words"
        )


def silence_and_noise(rate: int) -> list[np.ndarray]:
    """Digital silence, white noise and mains hum of several lengths, samples (time,) at `rate` Hz."""
    random = np.random.default_rng(SEED)
    level = 10 ** (NOISE_DB / 20)
    clips = []
    for seconds in NOISE_DURATIONS_S:
        time = np.arange(round(seconds * rate)) / rate
        hum = np.sin(2 * np.pi * HUM_HZ * np.outer((1, 2, 3), time)).sum(axis=0)
        clips += [np.zeros(len(time)), level * random.normal(size=len(time)), level * hum]
    return [clip.astype(np.float32) for clip in clips]


def _report(findings: Sequence[Finding], scale: float, failed: Sequence[Finding]) -> dict[str, Any]:
    figures: dict[str, Any] = {
        finding.name: finding.figures | {"passed": finding.passed} for finding in findings
    }
    lines = [finding.line for finding in findings]
    if failed:
        lines.insert(
            0,
            f"the adapter is scaled to {scale:g}, because at full strength {_reasons(failed)}; expect a smaller gain",
        )
        figures["failed_whole"] = {finding.name: finding.figures for finding in failed}
    return figures | {"scale": scale, "lines": lines}


def _with_report(delta: Delta, report: dict[str, Any]) -> Delta:
    return replace(delta, about={**delta.about, "guards": report})


def _reasons(failures: Sequence[Finding]) -> str:
    return " and ".join(finding.reason for finding in failures)


def _changes_output(delta: Delta) -> bool:
    """Whether the delta changes the output; an adapter that was not trained does not."""
    factors = [b for _, b in delta.lora.factors.values()] if delta.lora else []
    return delta.output_rows is not None or any(bool(x.any()) for x in (*factors, *delta.weights.values()))


def _texts(recogniser: Recogniser, audio: Sequence[Audio]) -> list[str]:
    with torch.inference_mode():
        return [transcript.text for transcript in recogniser.transcribe(audio)]


def _transcripts(recogniser: Recogniser, audio: Sequence[Audio]) -> list[Transcript]:
    """Transcripts with word times."""
    with torch.inference_mode():
        return recogniser.transcribe(audio, WORDS)


def _words(transcript: Transcript) -> list[Word]:
    return [word for segment in transcript.segments for word in segment.words]


def _word_edits(transcripts: Sequence[str], references: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Word edits and reference lengths, (recordings,) each."""
    edits, lengths = count_edits(transcripts, references)
    unit: Unit = "words"
    return edits[unit], lengths[unit]


def _has_words(text: str) -> bool:
    return bool(normalise_text(text))


def _distinct(texts: Sequence[str]) -> int:
    return len(set(map(normalise_text, texts)))
