"""environment: a user's own noise, or recordings of a site, as environments to train in and to listen to."""

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
LEAST_S = 30.0  # of sound; less holds too few moments to tell what varies
PIECE_S = 4.0  # recordings are learned from in pieces, so that the last ones can be held out
STEADY_DB = 8.0  # speech stands out from its pauses by more, in half of the pieces
SNR_DB = (0.0, 25.0)  # of clean speech over a user's noise
HELD_OUT = 0.2  # the last part of the sound
LANGUAGES, WORDS, RENDITIONS = ("en-us", "de", "es"), 40, 2  # clean speech, where the user has none


@dataclass(frozen=True)
class Site:
    """What was heard at a site: pieces (time,) of `rate_hz`, in order."""

    pieces: list[np.ndarray]
    rate_hz: int
    unreadable: list[str]

    @property
    def duration_s(self) -> float:
        return sum(map(len, self.pieces)) / self.rate_hz


def listen(path: Path, rate_hz: int) -> Site:
    """A file, or all files in a folder that can be decoded, in pieces of some seconds; silent ones are left out.

    Raises UserError when there is nothing to hear, or too little.
    """
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    if not files:
        raise UserError(f"{path}: an empty folder; expected recordings, about ten minutes")
    pieces, failed, silent = [], [], 0
    for file in files:
        try:
            samples = read_audio(file, rate_hz)
        except UserError as error:
            failed.append(str(error))
            continue
        parts = np.array_split(samples, max(1, round(len(samples) / (PIECE_S * rate_hz))))
        heard = [part for part in parts if len(part) and np.ptp(part) > 2 * SILENT_PEAK]
        silent += len(parts) - len(heard)
        pieces += heard
    if not pieces:
        why = f"{failed[0]}" if failed else f"{silent} pieces, all of them silent"
        raise UserError(
            f"{path}: nothing to hear in {len(files)} files ({why}); expected recordings of the site"
        )
    site = Site(pieces, rate_hz, failed)
    if site.duration_s < LEAST_S:
        raise UserError(
            f"{path}: {site.duration_s:.1f} s of sound; expected at least {LEAST_S:.0f} s, better ten minutes"
        )
    return site


def kind_of(site: Site) -> tuple[Literal["noise", "recordings"], str]:
    """Whether there is speech in it, as far as levels tell, and why."""
    found = float(np.median([measure(piece, site.rate_hz).snr_db for piece in site.pieces]))
    why = f"its loud moments are {found:.0f} dB over its quiet ones"
    return ("noise", why) if found < STEADY_DB else ("recordings", why)


def learn(
    path: Path,
    out: Path,
    kind: Kind,
    clean: Path | None,
    features: FeatureConfig,
    how: Augment,
    seed: int,
    tell: Callable[[str], None],
) -> LearnedEnvironments:
    """Recordings or noise at `path` -> the folder `out`: generator.safetensors, config.json, metrics.json, report.html.

    Clean speech is that of the file or folder `clean`, without one words that espeak-ng says. Noise is heard under it at
    0 to 25 dB; in recordings there is speech already. Raises UserError as `listen` does.
    """
    site = listen(path, features.sample_rate_hz)
    if site.unreadable:
        tell(f"{len(site.unreadable)} files cannot be read and are left out; the first: {site.unreadable[0]}")
    if kind == "auto":
        kind, why = kind_of(site)
        tell(f"{path}: taken as {kind}, because {why} (--kind says otherwise)")
    speech = listen(clean, features.sample_rate_hz).pieces if clean else spoken(features.sample_rate_hz, seed)
    sides = _sides(site, kind, speech, features, how.crop_frames, seed)
    with tempfile.TemporaryDirectory() as checkpoints:
        learned = learn_environments(
            sides,
            GeneratorConfig(features, how.latent),
            GanConfig(
                how.steps, how.batch, how.learning_rate, how.gradient_penalty, seed, Path(checkpoints), ""
            ),
        )
    about = {
        "kind": kind,
        "minutes": round(site.duration_s / 60, 2),
        "clean": "given" if clean else "espeak-ng",
        "steps": how.steps,
        "seed": seed,
    }
    with written_aside(out) as folder:
        folder.mkdir(parents=True)
        save_generator(learned.generator, folder)
        write_json(folder / "metrics.json", {**about, **learned.evaluation})
        shown = sweeps(learned.generator, _heard(speech, features.sample_rate_hz), seed)
        write_page(
            folder / "report.html",
            f"Environments learned from {path.name}",
            learned.evaluation,
            learned.history,
            shown,
            features.sample_rate_hz,
        )
    return learned


def spoken(rate_hz: int, seed: int) -> list[np.ndarray]:
    """Words in some languages and many voices, said by espeak-ng: (time,) each."""
    planned = plan(
        of_cldr(list(LANGUAGES), WORDS, seed).accepted, SynthesisConfig(renditions=RENDITIONS, seed=seed)
    )
    out = []
    for pcm in speak(planned):
        data = encode(pcm or b"")
        if data:
            samples, rate = decode(data, "espeak-ng")
            out.append(resample(samples, rate, rate_hz))
    return out


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

    def parted(clips: list[np.ndarray]) -> tuple[list[np.ndarray], list[np.ndarray]]:
        first = min(len(clips) - 1, max(1, round((1 - HELD_OUT) * len(clips))))
        return clips[:first], clips[first:]

    (clean, held_clean), (heard, held_heard) = parted(sounds), parted(site.pieces)
    if kind == "noise":
        heard, held_heard = (
            _under(pieces, said, random) for pieces, said in ((heard, clean), (held_heard, held_clean))
        )
    return GanData(*map(crops, (clean, heard, held_clean, held_heard)))


def _under(
    pieces: list[np.ndarray], speech: list[np.ndarray], random: np.random.Generator
) -> list[np.ndarray]:
    """Speech with a piece of the noise under each, at a ratio of its own; at least as many as there are pieces."""
    count = max(len(pieces), len(speech))
    return [
        noise(speech[i % len(speech)], pieces[random.integers(len(pieces))], float(random.uniform(*SNR_DB)))
        for i in range(count)
    ]


def _heard(speech: list[np.ndarray], rate_hz: int, count: int = 3) -> list[np.ndarray]:
    """The first clips of about a second."""
    long_enough = [clip for clip in speech if len(clip) > 0.5 * rate_hz] or speech
    return [clip[: 2 * rate_hz] for clip in long_enough[:count]]
