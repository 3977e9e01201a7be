"""Speakers: who is speaking, by embeddings of an early layer of a recogniser's encoder.

An embedding is the mean and the standard deviation of the layer's states over the speech (x-vectors' statistics pooling,
Snyder et al. 2018), projected by a linear discriminant analysis of the training speakers with shrunk covariance. Scores
are cosines, normalised adaptively against a cohort of training speakers (AS-norm; Matějka et al. 2017).

This tells apart people who speak naturally. Recordings that are played back, and voices that are synthesised or
converted to sound like somebody, are not detected: never make it the only key to anything.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from metavox.audio.vad import FRAME_S, speech_probabilities
from metavox.errors import UserError
from metavox.files import written_aside
from metavox.recognisers.recogniser import Recogniser

DIM = 64
COHORT, NEAREST = 400, 100  # embeddings in the cohort, and of them, those that a score is normalised by
MIN_SPEECH_S = 1.0  # less says little about a speaker
SPEECH = 0.5
LONGEST_S = 60.0  # of a recording, of which the first part is as good as all of it
MODEL, ABOUT, FORMAT = "speakers.safetensors", "speakers.json", 1
FALSE_ACCEPT_RATE = 0.01  # of the default threshold


@dataclass(frozen=True)
class SpeakerModel:
    """A projection of pooled states (2 * dim,) to embeddings (DIM,), for the base with digest `base`.

    `cohort` (cohort, DIM) are embeddings of training speakers. `threshold` is the score that FALSE_ACCEPT_RATE of pairs of
    different held-out speakers reach.
    """

    base: str
    mean: np.ndarray
    projection: np.ndarray
    cohort: np.ndarray
    threshold: float = 0.0

    def embed(self, pooled: np.ndarray) -> np.ndarray:
        """Pooled states (clips, 2 * dim) -> unit embeddings (clips, DIM)."""
        return _unit((pooled - self.mean) @ self.projection)

    def scores(self, one: np.ndarray, other: np.ndarray) -> np.ndarray:
        """Normalised scores of embeddings (n, DIM) and (m, DIM): (n, m). A speaker's own are well above 0."""
        raw = one @ other.T
        (mean_1, std_1), (mean_2, std_2) = self._nearest(one), self._nearest(other)
        return 0.5 * ((raw - mean_1[:, None]) / std_1[:, None] + (raw - mean_2) / std_2)  # type: ignore[no-any-return]

    def _nearest(self, embeddings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of the scores of the nearest in the cohort, of each embedding."""
        nearest = np.sort(embeddings @ self.cohort.T, axis=1)[:, -NEAREST:]
        return nearest.mean(axis=1), nearest.std(axis=1) + 1e-6


@dataclass(frozen=True)
class Speaker:
    """An enrolled speaker: a unit embedding (DIM,), the mean over `recordings`."""

    name: str
    base: str
    embedding: np.ndarray
    recordings: int


def pooled(recogniser: Recogniser, recordings: Sequence[np.ndarray]) -> np.ndarray:
    """Recordings (time,) at the recogniser's rate -> mean and standard deviation of the states of their speech
    (clips, 2 * dim); all states if there is hardly any speech."""
    rate, rows = recogniser.spec.sample_rate_hz, []
    for samples in recordings:
        clip = samples[: round(LONGEST_S * rate)]
        (states,) = recogniser.speaker_frames([clip])
        speech = speech_probabilities(clip, rate) >= SPEECH
        at_s = (np.arange(len(states)) + 0.5) * (len(clip) / rate / len(states))
        spoken = speech[np.minimum((at_s / FRAME_S).astype(int), len(speech) - 1)]
        chosen = states[torch.from_numpy(spoken)] if spoken.sum() >= 10 else states
        rows.append(torch.cat([chosen.mean(dim=0), chosen.std(dim=0, unbiased=False)]).numpy())
    return np.stack(rows).astype(np.float64)


def learn_speakers(base: str, states: np.ndarray, speakers: Sequence[str]) -> SpeakerModel:
    """Learn a model from pooled states (clips, 2 * dim) of labelled speakers; half of the speakers, in turn, are held out
    to choose the threshold. Raises UserError for fewer than eight speakers with two recordings."""
    names = np.array(speakers)
    several = [name for name in sorted(set(speakers)) if (names == name).sum() > 1]
    if len(several) < 8:
        raise UserError(f"{len(several)} speakers with two or more recordings; expected at least 8")
    impostors: list[np.ndarray] = []
    for half in (several[::2], several[1::2]):
        held_out = np.isin(names, half)
        model = _fitted(base, states[~held_out], names[~held_out])
        embeddings, who = model.embed(states[held_out]), names[held_out]
        scores = model.scores(embeddings, embeddings)
        impostors.append(scores[who[:, None] != who[None, :]])
    threshold = float(np.quantile(np.concatenate(impostors), 1 - FALSE_ACCEPT_RATE))
    return replace(_fitted(base, states, names), threshold=threshold)


def _fitted(base: str, states: np.ndarray, names: np.ndarray) -> SpeakerModel:
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    mean, scale = states.mean(axis=0), states.std(axis=0) + 1e-6
    scaled = (states - mean) / scale
    analysis = LinearDiscriminantAnalysis(solver="eigen", shrinkage="auto").fit(scaled, names)
    projection = analysis.scalings_[:, : min(DIM, len(set(names)) - 1)] / scale[:, None]
    model = SpeakerModel(base, mean, projection, np.zeros((0, projection.shape[1])))
    chosen = np.random.default_rng(0).permutation(len(states))[:COHORT]
    return replace(model, cohort=model.embed(states[np.sort(chosen)]))


def enrol(
    model: SpeakerModel, recogniser: Recogniser, name: str, recordings: Sequence[np.ndarray]
) -> Speaker:
    """Enrol a speaker from recordings (time,). Raises UserError if they hold hardly any speech."""
    rate = recogniser.spec.sample_rate_hz
    spoken_s = sum(FRAME_S * float((speech_probabilities(clip, rate) >= SPEECH).sum()) for clip in recordings)
    if spoken_s < MIN_SPEECH_S:
        raise UserError(
            f"{name}: {spoken_s:.1f} s of speech in {len(recordings)} recordings; expected at least {MIN_SPEECH_S:g} s"
        )
    embeddings = model.embed(pooled(recogniser, recordings))
    return Speaker(name, model.base, _unit(embeddings.mean(axis=0, keepdims=True))[0], len(recordings))


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)  # type: ignore[no-any-return]


def check_folder(folder: Path) -> None:
    """Raise UserError if there is anything in a folder but a model that may be replaced."""
    if folder.is_dir() and not {path.name for path in folder.iterdir()} <= {MODEL, ABOUT}:
        raise UserError(f"{folder}: exists and is not a speaker model; choose a new folder")


def save_speakers(model: SpeakerModel, folder: Path) -> None:
    """Write a model atomically."""
    with written_aside(folder) as aside:
        aside.mkdir()
        tensors = {
            name: torch.from_numpy(np.ascontiguousarray(getattr(model, name), np.float32))
            for name in ("mean", "projection", "cohort")
        }
        save_file(tensors, aside / MODEL)
        about = {"format": FORMAT, "base": model.base, "threshold": model.threshold}
        (aside / ABOUT).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


def load_speakers(folder: Path) -> SpeakerModel:
    """Read a model. Raises UserError if it is incomplete."""
    try:
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        tensors = {name: value.double().numpy() for name, value in load_file(folder / MODEL).items()}
        return SpeakerModel(about["base"], threshold=float(about["threshold"]), **tensors)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder}: no speaker model that can be read ({error}); learn it again") from error
    except Exception as error:  # safetensors raises its own
        raise UserError(f"{folder}: damaged ({error}); learn it again") from error


def packaged_speakers(base: str) -> SpeakerModel | None:
    """The model that comes with metavox for the base with this digest, if there is one."""
    packaged = Path(str(resources.files("metavox.recognisers.bases") / "packaged"))
    models = map(load_speakers, sorted(file.parent for file in packaged.glob(f"*/speakers/{ABOUT}")))
    return next((model for model in models if model.base == base), None)


def save_speaker(speaker: Speaker, folder: Path) -> Path:
    """Write an enrolled speaker as FOLDER/NAME.json atomically."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{speaker.name}.json"
    values = {
        "format": FORMAT,
        "name": speaker.name,
        "base": speaker.base,
        "recordings": speaker.recordings,
        "embedding": [round(float(value), 6) for value in speaker.embedding],
    }
    with written_aside(file) as aside:
        aside.write_text(json.dumps(values) + "\n", encoding="utf-8")
    return file


def enrolled_speakers(folder: Path, model: SpeakerModel) -> list[Speaker]:
    """The speakers enrolled in a folder. Raises UserError for one of another base or that cannot be read."""
    out = []
    for file in sorted(folder.glob("*.json")):
        try:
            values = json.loads(file.read_text(encoding="utf-8"))
            embedding = np.array(values["embedding"], float)
            speaker = Speaker(str(values["name"]), str(values["base"]), embedding, int(values["recordings"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{file}: no enrolled speaker ({error}); enrol again") from error
        if speaker.base != model.base or embedding.shape != model.cohort.shape[1:]:
            raise UserError(
                f"{file}: enrolled with another base ({speaker.base[:12]}); enrol again with this one"
            )
        out.append(speaker)
    return out
