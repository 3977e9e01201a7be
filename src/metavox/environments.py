"""Environments learned from a user's own noise, or from recordings of a site, for training and for listening."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from metavox.audio.classical import noise
from metavox.audio.features import LogMel, extract
from metavox.audio.measure import SILENT_PEAK, measure
from metavox.audio.read import decode, read_audio, resample
from metavox.config import FeatureConfig
from metavox.errors import UserError
from metavox.files import write_json, written_aside
from metavox.params import Augment
from metavox.reports.environments import sweeps, write_page
from metavox.sources.synthetic.espeak import SynthesisConfig, encode, plan, speak
from metavox.sources.synthetic.texts import of_cldr
from metavox.training.gan import (
    Crops,
    GanConfig,
    GanData,
    GeneratorConfig,
    LearnedEnvironments,
    learn_environments,
    save_generator,
)

Kind = Literal["auto", "noise", "recordings"]
MIN_S = 30.0  # less sound shows too little variation
PIECE_S = 4.0  # recordings are cut into pieces, so that the last ones can be held out
STEADY_DB = 8.0  # in the median piece, speech exceeds its pauses by more
SNR_DB = (0.0, 25.0)  # of clean speech over a user's noise
HELD_OUT = 0.2  # share of the sound, at its end
LANGUAGES, WORDS, RENDITIONS = ("en-us", "de", "es"), 40, 2  # of synthetic speech


@dataclass(frozen=True)
class Site:
    """Sound recorded at a site: `pieces` (time,) at `rate_hz` in order, and errors of files that cannot be read."""

    pieces: list[np.ndarray]
    rate_hz: int
    unreadable: list[str]

    @property
    def duration_s(self) -> float:
        return sum(map(len, self.pieces)) / self.rate_hz


def read_site(path: Path, rate_hz: int) -> Site:
    """Read a file, or all readable files in a folder, in pieces of PIECE_S; silent pieces are left out.

    Raises UserError when there is no sound, or less than MIN_S of it.
    """
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    if not files:
        raise UserError(f"{path}: an empty folder; expected about ten minutes of recordings")
    pieces, failed, silent = [], [], 0
    for file in files:
        try:
            samples = read_audio(file, rate_hz)
        except UserError as error:
            failed.append(str(error))
            continue
        parts = np.array_split(samples, max(1, round(len(samples) / (PIECE_S * rate_hz))))
        audible = [part for part in parts if len(part) and np.ptp(part) > 2 * SILENT_PEAK]
        silent += len(parts) - len(audible)
        pieces += audible
    if not pieces:
        why = f"{failed[0]}" if failed else f"{silent} pieces, all of them silent"
        raise UserError(f"{path}: no sound in {len(files)} files ({why}); expected recordings of the site")
    site = Site(pieces, rate_hz, failed)
    if site.duration_s < MIN_S:
        raise UserError(
            f"{path}: {site.duration_s:.1f} s of sound; expected at least {MIN_S:.0f} s, and better ten minutes"
        )
    return site


def detect_kind(site: Site) -> tuple[Literal["noise", "recordings"], str]:
    """Whether the sound seems to be noise or to contain speech, judged by its levels, and the reason in words."""
    snr_db = float(np.median([measure(piece, site.rate_hz).snr_db for piece in site.pieces]))
    why = f"its loud moments are {snr_db:.0f} dB above its quiet ones"
    return ("noise", why) if snr_db < STEADY_DB else ("recordings", why)


def learn(
    path: Path,
    out: Path,
    kind: Kind,
    clean: Path | None,
    features: FeatureConfig,
    config: Augment,
    seed: int,
    tell: Callable[[str], None],
) -> LearnedEnvironments:
    """Learn environments from `path`; writes generator.safetensors, config.json, metrics.json and report.html to `out`.

    Clean speech is read from the file or folder `clean`; without it, espeak-ng speaks words. Sound of the kind noise is
    mixed with clean speech at 0 to 25 dB; recordings already contain speech. `tell` takes remarks, a line each. Raises
    UserError as `read_site` does.
    """
    site = read_site(path, features.sample_rate_hz)
    if site.unreadable:
        tell(f"{len(site.unreadable)} files cannot be read and are left out; the first: {site.unreadable[0]}")
    if kind == "auto":
        kind, why = detect_kind(site)
        tell(f"{path}: treated as {kind}, because {why} (change this with --kind)")
    speech = (
        read_site(clean, features.sample_rate_hz).pieces
        if clean
        else synthetic_words(features.sample_rate_hz, seed)
    )
    sides = _sides(site, kind, speech, features, config.crop_frames, seed)
    with tempfile.TemporaryDirectory() as checkpoints:
        learned = learn_environments(
            sides,
            GeneratorConfig(features, config.latent),
            GanConfig(
                config.steps,
                config.batch,
                config.learning_rate,
                config.gradient_penalty,
                seed,
                Path(checkpoints),
                "",
            ),
        )
    about = {
        "kind": kind,
        "minutes": round(site.duration_s / 60, 2),
        "clean": "given" if clean else "espeak-ng",
        "steps": config.steps,
        "seed": seed,
    }
    with written_aside(out) as folder:
        folder.mkdir(parents=True)
        save_generator(learned.generator, folder)
        write_json(folder / "metrics.json", {**about, **learned.evaluation})
        shown = sweeps(learned.generator, _samples(speech, features.sample_rate_hz), seed)
        write_page(
            folder / "report.html",
            f"Environments learned from {path.name}",
            learned.evaluation,
            learned.history,
            shown,
            features.sample_rate_hz,
        )
    return learned


def synthetic_words(rate_hz: int, seed: int) -> list[np.ndarray]:
    """Words in several languages and many voices, spoken by espeak-ng: (time,) each."""
    planned = plan(
        of_cldr(list(LANGUAGES), WORDS, seed).accepted, SynthesisConfig(renditions=RENDITIONS, seed=seed)
    )
    words = []
    for pcm in speak(planned):
        data = encode(pcm or b"")
        if data:
            samples, rate = decode(data, "espeak-ng")
            words.append(resample(samples, rate, rate_hz))
    return words


def _sides(
    site: Site, kind: Kind, speech: list[np.ndarray], features: FeatureConfig, frames: int, seed: int
) -> GanData:
    random = np.random.default_rng(seed)
    transform = LogMel(features)
    speech = [speech[i] for i in random.permutation(len(speech))]
    sounds = [np.concatenate(speech[i : i + 4]) for i in range(0, len(speech), 4)]

    def crops(clips: list[np.ndarray]) -> Crops:
        mels = [extract(np.ascontiguousarray(clip), transform) for clip in clips]
        return Crops(mels, [np.arange(i, min(i + 4, len(mels))) for i in range(0, len(mels), 4)], frames)

    def divide(clips: list[np.ndarray]) -> tuple[list[np.ndarray], list[np.ndarray]]:
        count = min(len(clips) - 1, max(1, round((1 - HELD_OUT) * len(clips))))
        return clips[:count], clips[count:]

    (clean, held_out_clean), (adverse, held_out_adverse) = divide(sounds), divide(site.pieces)
    if kind == "noise":
        adverse, held_out_adverse = (
            _mix(pieces, speech, random)
            for pieces, speech in ((adverse, clean), (held_out_adverse, held_out_clean))
        )
    return GanData(*map(crops, (clean, adverse, held_out_clean, held_out_adverse)))


def _mix(pieces: list[np.ndarray], speech: list[np.ndarray], random: np.random.Generator) -> list[np.ndarray]:
    """Clips of speech, each mixed with a random piece of noise at a random SNR; every piece and clip count at least once."""
    count = max(len(pieces), len(speech))
    return [
        noise(speech[i % len(speech)], pieces[random.integers(len(pieces))], float(random.uniform(*SNR_DB)))
        for i in range(count)
    ]


def _samples(speech: list[np.ndarray], rate_hz: int, count: int = 3) -> list[np.ndarray]:
    """The first clips of at least half a second, cut to two seconds, for the report."""
    long_enough = [clip for clip in speech if len(clip) > 0.5 * rate_hz] or speech
    return [clip[: 2 * rate_hz] for clip in long_enough[:count]]
