"""Diarization: who speaks when, in a recording of several speakers who are not known."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np

from metavox.audio.vad import FRAME_S, speech_probabilities
from metavox.recognisers.recogniser import Recogniser
from metavox.recognisers.transcript import Segment, Transcript
from metavox.recognition.speakers import SPEECH, SpeakerModel, pooled

WINDOW_S, HOP_S = 2.0, 1.0  # of the pieces of speech that are embedded
LEAST_S = 1.0  # a shorter piece joins the cluster nearest to it, and makes none
MERGE_S = 0.5  # turns of one speaker with a shorter pause between them are one
SAME_SPEAKER = (
    0.68  # mean cosine from which clusters are merged: between those of one and of two development speakers
)


@dataclass(frozen=True)
class Turn:
    """A stretch of one speaker, from 1 in the order of appearance; times in seconds."""

    speaker: int
    start_s: float
    end_s: float


def diarize(
    model: SpeakerModel,
    recogniser: Recogniser,
    samples: np.ndarray,
    speakers: int | None = None,
    same_speaker: float = SAME_SPEAKER,
) -> list[Turn]:
    """The turns of samples (time,), for a known number of speakers, or for as many as there seem to be.

    Pieces of speech are embedded and clustered by average linkage of their cosines (as in Park et al. 2022, section 2.5).
    """
    rate = recogniser.spec.sample_rate_hz
    pieces = _pieces(samples, rate)
    if not pieces:
        return []
    clips = [samples[round(start * rate) : round(end * rate)] for start, end in pieces]
    embeddings = model.embed(pooled(recogniser, clips))
    long = np.array([end - start >= LEAST_S for start, end in pieces])
    if not long.any():
        long[:] = True
    labels = np.zeros(len(pieces), int)
    labels[long] = _clusters(embeddings[long], speakers, same_speaker)
    centres = np.stack(
        [embeddings[long & (labels == label)].mean(axis=0) for label in np.unique(labels[long])]
    )
    labels[~long] = (embeddings[~long] @ centres.T).argmax(axis=1)
    return _turns(pieces, labels.tolist())


def _clusters(embeddings: np.ndarray, speakers: int | None, same_speaker: float) -> np.ndarray:
    """The cluster of each embedding, numbered from 0."""
    from sklearn.cluster import AgglomerativeClustering

    if len(embeddings) == 1:
        return np.zeros(1, int)
    clustering = AgglomerativeClustering(
        n_clusters=min(speakers, len(embeddings)) if speakers else None,
        distance_threshold=None if speakers else 1 - same_speaker,
        metric="precomputed",
        linkage="average",
    )
    found: np.ndarray = clustering.fit_predict(np.clip(1 - embeddings @ embeddings.T, 0, 2))
    return found


def _pieces(samples: np.ndarray, rate: int) -> list[tuple[float, float]]:
    """Stretches of speech, the long ones in overlapping windows, as times in seconds."""
    speech = speech_probabilities(samples, rate) >= SPEECH
    edges = np.flatnonzero(np.diff(np.concatenate([[0], speech.astype(int), [0]])))
    joined: list[list[float]] = []
    for start, end in zip(edges[::2] * FRAME_S, edges[1::2] * FRAME_S, strict=True):
        if joined and start - joined[-1][1] < 0.25:
            joined[-1][1] = end
        else:
            joined.append([start, end])
    pieces = []
    limit_s = len(samples) / rate
    for start, end in joined:
        end = min(end, limit_s)
        if end - start < 0.3:
            continue
        count = 1 + max(0, math.ceil((end - start - WINDOW_S) / HOP_S))
        bounds = np.linspace(start, end - min(WINDOW_S, end - start), count)
        pieces += [(float(at), float(min(at + WINDOW_S, end))) for at in bounds]
    return pieces


def _turns(pieces: Sequence[tuple[float, float]], labels: Sequence[int]) -> list[Turn]:
    """Pieces and their clusters as turns, without overlap: two pieces meet in the middle of what they share."""
    number: dict[int, int] = {}
    turns: list[Turn] = []
    for (start, end), label in zip(pieces, labels, strict=True):
        speaker = number.setdefault(label, len(number) + 1)
        if turns and turns[-1].speaker == speaker and start - turns[-1].end_s < MERGE_S:
            turns[-1] = replace(turns[-1], end_s=max(end, turns[-1].end_s))
            continue
        if turns and start < turns[-1].end_s:
            start = (start + turns[-1].end_s) / 2
            turns[-1] = replace(turns[-1], end_s=start)
        turns.append(Turn(speaker, start, end))
    return turns


def with_speakers(transcript: Transcript, turns: Sequence[Turn]) -> Transcript:
    """The transcript with the speaker of each word; a segment of several speakers is divided."""
    out: list[Segment] = []
    for segment in transcript.segments:
        if not segment.words:
            out.append(replace(segment, speaker=_speaker(segment.start_s, segment.end_s, turns)))
            continue
        for speaker, group in groupby(segment.words, lambda word: _speaker(word.start_s, word.end_s, turns)):
            words = tuple(group)
            text = segment.text if words == segment.words else " ".join(word.text for word in words)
            times = {"start_s": words[0].start_s, "end_s": words[-1].end_s}
            out.append(replace(segment, text=text, words=words, speaker=speaker, **times))
    return replace(transcript, segments=tuple(out))


def _speaker(start_s: float, end_s: float, turns: Sequence[Turn]) -> str:
    """Who speaks most of a time, or next to it."""
    if not turns:
        return ""

    def nearness(turn: Turn) -> tuple[float, float]:
        overlap_s = min(end_s, turn.end_s) - max(start_s, turn.start_s)
        return max(0.0, overlap_s), min(0.0, overlap_s)

    return str(max(turns, key=nearness).speaker)


def as_rttm(turns: Sequence[Turn], name: str) -> str:
    """Turns in NIST's Rich Transcription Time Marked format, which scoring tools read."""
    name = "_".join(name.split()) or "recording"
    return "".join(
        f"SPEAKER {name} 1 {turn.start_s:.3f} {turn.end_s - turn.start_s:.3f} <NA> <NA> speaker{turn.speaker} <NA> <NA>\n"
        for turn in turns
    )
