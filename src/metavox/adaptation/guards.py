"""Proof that what was adapted got no worse elsewhere, and a smaller adapter where it did.

Each check is made of the base and of the adapted recogniser, so that a fault of the base is not laid at the adapter's
door. An adapter that fails one is made smaller until it passes (the middle between base and adapted weights keeps most
of what was learned and forgets less, Wortsman et al. 2022); where none passes, the base is kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch

from metavox.adaptation.estimate import Unit, counted
from metavox.adaptation.fine_tune import Recordings
from metavox.adaptation.loops import loops
from metavox.adaptation.rehearsal import Rehearsal
from metavox.intervals import SAME, Z, error_rate
from metavox.recognisers.delta import Delta
from metavox.recognisers.recogniser import Audio, DecodeOptions, Recogniser
from metavox.recognisers.transcript import Transcript, Word
from metavox.text import any_words, normalise_text

SILENT_S = (1.0, 5.0, 12.0)
NOISE_DB = -40.0  # of full scale, root mean square
HUM_HZ = 50.0
LEAST_TEXTS = 4  # that a collapse can be seen by
HOPELESS = 0.6  # of words wrong: such a base has nothing to forget
SEED = 12
WORDS = DecodeOptions(word_times=True)


@dataclass(frozen=True)
class GuardConfig:
    """Which checks are made. Of general speech, `fine_points` more words wrong in a hundred are no loss, and more than
    `worst_points` are a failure if the interval agrees (infinity only reports); the median word may begin `apart_s` from
    where it began. `scales` of the adapter are tried in turn, the whole one first. At most `heard` of the recordings that
    taught are listened to."""

    general: bool = True
    timing: bool = True
    silence: bool = True
    loops: bool = True
    collapse: bool = True
    fine_points: float = 0.5
    worst_points: float = 2.0
    apart_s: float = 0.08
    scales: tuple[float, ...] = (1.0, 0.5, 0.25)
    heard: int = 40


@dataclass(frozen=True)
class Finding:
    """One check: whether it passed, its figures, and a sentence for people; `why` it failed, in a few words."""

    name: str
    passed: bool
    figures: dict[str, Any]
    line: str
    why: str = ""


def guard(
    recogniser: Recogniser,
    delta: Delta,
    said: Recordings,
    rehearsal: Rehearsal | None,
    config: GuardConfig = GuardConfig(),
) -> Delta:
    """The delta, or a smaller one, whose `about["guards"]` says what was measured; `lines` of it are for people.

    `said` are the prepared recordings that taught; without `rehearsal`, general speech is not judged.
    """
    if not _moves(delta):
        lines = ["the recogniser stays as it is, which can do no harm elsewhere"]
        return _told(delta, {"scale": 0.0, "lines": lines})
    checks = _Checks(recogniser, said, rehearsal, config)
    failed: list[Finding] = []
    for scale in config.scales:
        smaller = scaled(delta, scale)
        findings = checks.of(recogniser.using([smaller]))
        wrong = [finding for finding in findings if not finding.passed]
        if not wrong:
            return _told(smaller, _report(findings, scale, failed))
        failed = failed or wrong
    kept = replace(
        delta, weights={}, lora=None
    )  # without the rows for new characters nothing could be written
    but = " but for its new characters" if delta.output_rows else ""
    lines = [f"the recogniser stays as it is{but}: even with a small adapter, {_why(failed)}"]
    return _told(kept, _report(findings, 0.0, []) | {"lines": [*lines, *(one.line for one in failed)]})


def scaled(delta: Delta, factor: float) -> Delta:
    """The delta with `factor` of its change of the base's weights; rows for new characters stay."""
    lora = replace(delta.lora, alpha=delta.lora.alpha * factor) if delta.lora else None
    return replace(delta, weights={name: value * factor for name, value in delta.weights.items()}, lora=lora)


class _Checks:
    """What all adapters of one call are held against: the base is asked once, and only where a check needs it."""

    def __init__(self, base: Recogniser, said: Recordings, rehearsal: Rehearsal | None, config: GuardConfig):
        self.base, self.rehearsal, self.config = base, rehearsal, config
        chosen = np.random.default_rng(SEED).permutation(len(said))[: config.heard]
        self.said = said.some(np.sort(chosen))
        self.nothing = base.prepare(nothing_said(base.spec.sample_rate_hz))
        self.general = base.prepare(rehearsal.judged) if rehearsal else []

    def of(self, adapted: Recogniser) -> list[Finding]:
        config, found = self.config, []
        heard = _heard(adapted, self.said.audio) if config.loops or config.collapse else []
        if self.rehearsal and (config.general or config.timing):
            general = _transcripts(adapted, self.general)
            found += [self._general(general)] if config.general else []
            found += [self._timing(general)] if config.timing else []
        if config.silence:
            found.append(self._silence(_heard(adapted, self.nothing)))
        if config.loops:
            found.append(self._loops(heard))
        if config.collapse:
            found.append(self._collapse(heard))
        return found

    @cached_property
    def _general_before(self) -> list[Transcript]:
        return _transcripts(self.base, self.general)

    @cached_property
    def _nothing_before(self) -> list[str]:
        return _heard(self.base, self.nothing)

    @cached_property
    def _said_before(self) -> list[str]:
        return _heard(self.base, self.said.audio)

    def _general(self, heard: Sequence[Transcript]) -> Finding:
        assert self.rehearsal is not None
        said = self.rehearsal.judged_texts
        before, lengths = _words_wrong([one.text for one in self._general_before], said)
        after, _ = _words_wrong([one.text for one in heard], said)
        total = max(1, int(lengths.sum()))
        more = float((after - before).sum() / total)
        apart = after - before - more * lengths
        ci95 = float(Z * np.sqrt(np.square(apart).sum()) / total)  # paired, of a ratio of sums
        if ci95 < SAME:  # no recording differs from the others in what it lost, as where none lost anything
            ci95 = error_rate(abs(int((after - before).sum())), total).ci95
        wer_before, wer = float(before.sum() / total), float(after.sum() / total)
        unit = "words" if any_words(said) else "characters"
        worst, fine = self.config.worst_points / 100, self.config.fine_points / 100
        passed = wer_before > HOPELESS or not (more > worst and more > ci95)
        advice = (
            ""
            if more <= fine
            else "; more general speech to rehearse, a lower learning rate or fewer steps keep more"
        )
        line = (
            f"general speech ({len(lengths)} recordings, {self.rehearsal.source}): {100 * wer:.1f}% of {unit} wrong, "
            f"{100 * wer_before:.1f}% without the delta ({100 * more:+.1f} ± {100 * ci95:.1f}){advice}"
        )
        figures = {
            "wer_before": wer_before,
            "wer": wer,
            "more": {"mean": more, "ci95": ci95},
            "recordings": len(lengths),
            "source": self.rehearsal.source,
        }
        return Finding("general", passed, figures, line, "general speech got worse")

    def _timing(self, heard: Sequence[Transcript]) -> Finding:
        """Of general speech that is heard as the same words: the base's own times are what there is to compare with."""
        apart = np.array(
            [
                abs(word.start_s - was.start_s)
                for before, after in zip(self._general_before, heard, strict=True)
                if normalise_text(before.text) == normalise_text(after.text)
                and len(_words(before)) == len(_words(after))
                for word, was in zip(_words(after), _words(before), strict=True)
            ]
        )
        if not len(apart):
            return Finding("timing", True, {"words": 0}, "times of words: nothing to compare")
        median, within = float(np.median(apart)), float(np.mean(apart <= self.config.apart_s))
        line = (
            f"times of words: {len(apart)} words begin a median of {1000 * median:.0f} ms from where they began without the "
            f"delta, {within:.0%} within {1000 * self.config.apart_s:.0f} ms"
        )
        figures = {"words": len(apart), "median_s": median, "within": within}
        return Finding("timing", median <= self.config.apart_s, figures, line, "the times of words moved")

    def _silence(self, heard: Sequence[str]) -> Finding:
        after = sum(map(_says_something, heard))
        before = sum(map(_says_something, self._nothing_before)) if after else 0
        figures = {"clips": len(heard), "with_words": after, "with_words_before": before}
        line = f"silence, noise and hum: words in {after} of {len(heard)} clips"
        line += f", {before} without the delta" if after else ""
        return Finding("silence", after <= before, figures, line, "words were heard in silence or noise")

    def _loops(self, heard: Sequence[str]) -> Finding:
        after = sum(map(loops, heard))
        before = sum(map(loops, self._said_before)) if after else 0
        figures = {"recordings": len(heard), "with_loops": after, "with_loops_before": before}
        line = f"repetition loops: in {after} of {len(heard)} recordings that taught"
        line += f", {before} without the delta" if after else ""
        return Finding("loops", after <= before, figures, line, "it went round in loops")

    def _collapse(self, heard: Sequence[str]) -> Finding:
        texts, after = _different(self.said.texts), _different(heard)
        suspicious = texts >= LEAST_TEXTS and after <= texts / 2
        before = _different(self._said_before) if suspicious else texts
        passed = not suspicious or after > before / 2
        figures = {"texts": texts, "transcripts": after} | (
            {"transcripts_before": before} if suspicious else {}
        )
        line = f"different texts that taught: {texts}, heard as {after} different transcripts"
        return Finding("collapse", passed, figures, line, "different recordings were heard as the same words")


def nothing_said(rate: int) -> list[np.ndarray]:
    """Digital silence, white noise and mains hum of several lengths, samples (time,) at `rate` Hz."""
    random = np.random.default_rng(SEED)
    level = 10 ** (NOISE_DB / 20)
    clips = []
    for seconds in SILENT_S:
        time = np.arange(round(seconds * rate)) / rate
        hum = np.sin(2 * np.pi * HUM_HZ * np.outer((1, 2, 3), time)).sum(axis=0)
        clips += [np.zeros(len(time)), level * random.normal(size=len(time)), level * hum]
    return [clip.astype(np.float32) for clip in clips]


def _report(findings: Sequence[Finding], scale: float, failed: Sequence[Finding]) -> dict[str, Any]:
    figures: dict[str, Any] = {one.name: one.figures | {"passed": one.passed} for one in findings}
    lines = [one.line for one in findings]
    if failed:
        lines.insert(
            0,
            f"the adapter counts {scale:g} of what was learned: as it was, {_why(failed)}; expect a smaller gain",
        )
        figures["failed_whole"] = {one.name: one.figures for one in failed}
    return figures | {"scale": scale, "lines": lines}


def _told(delta: Delta, report: dict[str, Any]) -> Delta:
    return replace(delta, about={**delta.about, "guards": report})


def _why(failed: Sequence[Finding]) -> str:
    return " and ".join(finding.why for finding in failed)


def _moves(delta: Delta) -> bool:
    """Whether the delta changes anything that is said: an adapter of no step does not."""
    factors = [b for _, b in delta.lora.factors.values()] if delta.lora else []
    return delta.output_rows is not None or any(bool(x.any()) for x in (*factors, *delta.weights.values()))


def _heard(recogniser: Recogniser, audio: Sequence[Audio]) -> list[str]:
    with torch.inference_mode():
        return [transcript.text for transcript in recogniser.transcribe(audio)]


def _transcripts(recogniser: Recogniser, audio: Sequence[Audio]) -> list[Transcript]:
    """With the times of words."""
    with torch.inference_mode():
        return recogniser.transcribe(audio, WORDS)


def _words(transcript: Transcript) -> list[Word]:
    return [word for segment in transcript.segments for word in segment.words]


def _words_wrong(heard: Sequence[str], said: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Edits of words and reference lengths, (recordings,) each."""
    edits, lengths = counted(heard, said)
    unit: Unit = "words"
    return edits[unit], lengths[unit]


def _says_something(text: str) -> bool:
    return bool(normalise_text(text))


def _different(texts: Sequence[str]) -> int:
    return len(set(map(normalise_text, texts)))
