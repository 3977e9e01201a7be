"""Few-shot evaluation of generated tones, from files to intervals."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch

from metavox.dataset.episodes import EpisodeSampler, EpisodeShape
from metavox.dataset.manifest import read_manifest
from metavox.errors import UserError
from metavox.metrics.episodes import score_episodes
from metavox.metrics.fewshot import Protocol, fewshot
from metavox.metrics.recordings import Recordings
from metavox.recognisers.conformer.network import Network

WORDS = {"low": 250, "middle": 800, "high": 2500, "top": 6000}


@pytest.fixture
def tones(tmp_path: Path) -> Path:
    """Four tones by three speakers, three clips each: 36 files and their manifest."""
    random = np.random.default_rng(0)
    rows = []
    for word, pitch in WORDS.items():
        for speaker in range(3):
            for clip in range(3):
                time = np.arange(4000) / 16000
                samples = (0.1 + 0.1 * speaker) * np.sin(2 * np.pi * pitch * (1 + 0.02 * speaker) * time)
                name = f"{word}-{speaker}-{clip}.wav"
                soundfile.write(tmp_path / name, samples + random.normal(0, 0.001, len(time)), 16000)
                rows.append({"path": name, "text": word, "speaker": f"v{speaker}", "language": "tone"})
    pd.DataFrame(rows).to_csv(tmp_path / "manifest.csv", index=False)
    return tmp_path / "manifest.csv"


@pytest.mark.parametrize("pairing", ["same-speaker", "cross-speaker", "any"])
def test_every_figure_is_reported_and_an_untrained_model_distinguishes_tones(
    make_model: Callable[..., Network], tones: Path, pairing: str
) -> None:
    study = fewshot(make_model(), tones, Protocol(3, 1, pairing, episodes=30, seed=1, views=1), [1])
    values = json.loads(json.dumps(study.most.figures.as_dict()))
    assert values.keys() == {
        "accuracy",
        "precision",
        "precision_ci95",
        "recall",
        "recall_ci95",
        "f1",
        "f1_ci95",
        "expected_calibration_error",
        "episodes",
    }
    assert values["accuracy"].keys() == {"mean", "ci95", "low", "high"}
    assert values["episodes"] == 30
    assert 0 < study.most.adaptation_ms["p50"] <= study.most.adaptation_ms["p95"]
    assert study.unreadable == ()
    assert values["accuracy"]["mean"] > (0.6 if pairing == "same-speaker" else 0.34)
    # With one query per word, recall equals accuracy.
    assert values["recall"] == pytest.approx(values["accuracy"]["mean"], abs=1e-6)


def test_words_are_compared_without_the_silence_around_them(
    make_model: Callable[..., Network], tones: Path
) -> None:
    rows = read_manifest(tones)
    plain = Recordings(make_model(), tones, rows)
    word = plain.samples(0)
    random = np.random.default_rng(0)
    quiet = random.normal(0, 1e-4, 9600)
    soundfile.write(tones.parent / rows.at[0, "path"], np.concatenate([quiet, word, quiet]), 16000)
    assert abs(len(plain.samples(0)) - len(word)) <= 320


def test_the_seed_determines_the_figures(make_model: Callable[..., Network], tones: Path) -> None:
    results = [
        fewshot(make_model(), tones, Protocol(4, 2, "any", episodes=12, seed=seed, views=1), [1]).most.figures
        for seed in (1, 1, 2)
    ]
    first, again, other = ((r.accuracy, r.precision, r.f1) for r in results)
    assert first == again
    assert first != other


def test_support_and_query_speakers_follow_the_pairing(tones: Path) -> None:
    rows = read_manifest(tones)
    for pairing in ("same-speaker", "cross-speaker"):
        sampler = EpisodeSampler(rows, EpisodeShape(3, 2, 1, pairing))  # type: ignore[arg-type]
        for seed in range(50):
            episode = sampler(np.random.default_rng(seed))
            support_speakers, query_speakers = (
                set(rows.loc[part, "speaker"]) for part in (episode.support, episode.query)
            )
            assert len(query_speakers) == 1
            assert (
                (support_speakers == query_speakers)
                if pairing == "same-speaker"
                else not support_speakers & query_speakers
            )


def test_unreadable_files_are_named_and_left_out(make_model: Callable[..., Network], tones: Path) -> None:
    (tones.parent / "low-0-0.wav").write_bytes(b"no audio")
    (tones.parent / "top-2-1.wav").unlink()
    study = fewshot(make_model(), tones, Protocol(4, 2, "any", episodes=40, views=0), [2])
    assert len(study.unreadable) == 2
    assert any("low-0-0.wav" in line for line in study.unreadable)
    assert any("top-2-1.wav" in line for line in study.unreadable)
    assert study.most.figures.episodes == 40


def test_episodes_that_cannot_be_drawn_are_a_one_line_error(
    make_model: Callable[..., Network], tones: Path
) -> None:
    for way, shot, pairing in ((5, 1, "any"), (2, 3, "same-speaker"), (2, 9, "any")):
        with pytest.raises(
            UserError, match="cannot be drawn from 36 clips of 4 words by 3 speakers"
        ) as caught:
            fewshot(make_model(), tones, Protocol(way, 1, pairing, episodes=5), [shot])
        assert "\n" not in str(caught.value)
    rows = read_manifest(tones).assign(text=" ")
    rows.to_csv(tones, index=False)
    with pytest.raises(UserError, match="no row with a text"):
        fewshot(make_model(), tones, Protocol(2, 1, "any", episodes=5), [1])


def test_shots_that_cannot_be_drawn_are_named_and_more_shots_raise_the_accuracy(
    make_model: Callable[..., Network], tones: Path
) -> None:
    protocol = Protocol(4, 1, "any", episodes=60, views=0, method="prototypes")
    study = fewshot(make_model(), tones, protocol, [5, 1, 20])
    assert list(study.outcomes) == [1, 5]
    assert "4 words with 20+1 clips each (any) cannot be drawn" in study.not_drawn[20]
    few, many = (study.outcomes[shot].figures.accuracy for shot in (1, 5))
    assert many.mean + many.ci95 > few.mean


def test_unknown_words_and_background_are_queried_and_rejected(
    make_model: Callable[..., Network], tones: Path
) -> None:
    rows = read_manifest(tones)
    random = np.random.default_rng(5)
    for name in ("hum.wav", "hiss.wav"):
        soundfile.write(tones.parent / name, random.normal(0, 0.1, 4000), 16000)
    silence = pd.DataFrame({"path": ["hum.wav", "hiss.wav"], "text": "", "speaker": "", "language": "tone"})
    pd.concat([rows[["path", "text", "speaker", "language"]], silence]).to_csv(tones, index=False)
    protocol = Protocol(2, 1, "any", unknown=2, background=2, episodes=40, views=0)
    study = fewshot(make_model(), tones, protocol, [2])
    trials, result = study.most.trials, study.most.figures.open_set
    assert result
    assert (~trials.known).sum() == result.unknown == 40 * (2 * 1 + 2)
    assert trials.background.sum() == 40 * 2
    assert set(study.rows.loc[trials.row[trials.background], "text"]) == {""}
    assert 0 <= result.accuracy[0.01].mean <= result.accuracy[0.05].mean <= study.most.figures.accuracy.mean


def test_accuracy_before_enrolment_is_from_the_spelling_alone(
    make_model: Callable[..., Network], tones: Path
) -> None:
    study = fewshot(make_model(), tones, Protocol(4, 1, "any", episodes=30, views=0), [1], before=True)
    assert study.before[1].episodes == 30
    assert study.before[1].accuracy.mean < study.most.figures.accuracy.mean, (
        "spelling does not help to recognise tones"
    )


def test_only_the_first_view_of_a_query_counts() -> None:
    """If the first views are perfect and the others wrong, all queries must be correct."""
    labels = np.arange(8).repeat(4)
    rows = pd.DataFrame({"text": labels.astype(str), "speaker": "v", "language": "x"})
    sampler = EpisodeSampler(rows, EpisodeShape(5, 2, 2))
    episodes = [sampler(np.random.default_rng(seed)) for seed in range(10)]
    first = torch.eye(8)[labels]

    def embeddings(indices: np.ndarray) -> torch.Tensor:
        return torch.stack([first[indices], torch.eye(8)[(labels[indices] + 1) % 8] * 0.5], dim=1)

    result = score_episodes(episodes, embeddings, "prototypes")
    assert (result.accuracy.mean, result.f1.mean, result.episodes) == (1.0, 1.0, 10)
