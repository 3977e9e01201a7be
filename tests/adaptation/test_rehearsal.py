"""General speech: its sources, the exclusion of test speakers, and the rehearsal of base transcripts."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import soundfile

from metavox.adaptation import rehearsal
from metavox.adaptation.rehearsal import HELD_OUT, NOISES, REHEARSED, Rehearsal, general_speech
from metavox.recognisers.transcript import Segment, Transcript

RATE = 16000


class FixedTranscripts:
    """Stands in for a recogniser, with fixed transcripts."""

    spec = SimpleNamespace(sample_rate_hz=RATE, longest_s=30.0)

    def __init__(self, texts: Sequence[str]):
        self.texts = texts

    def prepare(self, audio: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [2 * samples for samples in audio]

    def transcribe(self, audio: Sequence[np.ndarray]) -> list[Transcript]:
        return [Transcript((Segment(text, 0.0, 1.0, 1.0),), 1.0) for text in self.texts]

    def writable(self, text: str) -> str:
        return text.strip()


def corpus(folder: Path, rows: Sequence[dict[str, object]]) -> Path:
    """Writes a corpus in which all samples of row i are (i + 1) / 1000, so that `numbers` can recognise them."""
    folder.mkdir()
    for number in range(len(rows)):
        soundfile.write(folder / f"{number}.wav", np.full(RATE, (number + 1) / 1000), RATE, subtype="FLOAT")
    table = [
        {
            "path": f"{i}.wav",
            "text": f"sentence number {i}",
            "language": "en",
            "unit": "sentence",
            "text_kind": "spoken",
            "synthetic": False,
            "duration_s": 1.5,
            "speaker": "one",
            "split": "train",
        }
        | row
        for i, row in enumerate(rows)
    ]
    pd.DataFrame(table).to_csv(folder / "manifest.csv", index=False)
    return folder


def numbers(recordings: Sequence[np.ndarray]) -> set[int]:
    return {round(float(samples[100]) * 1000) - 1 for samples in recordings}


@pytest.fixture
def no_espeak(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rehearsal, "_from_espeak", lambda language, rate: None)


@pytest.mark.usefixtures("no_espeak")
def test_development_speakers_are_held_out_and_training_speakers_rehearsed(tmp_path: Path) -> None:
    rows = [{"speaker": f"v{i % 3}"} for i in range(12)]
    rows += [{"split": "dev", "speaker": "development"}] * 10 + [{"split": "test", "speaker": "secret"}] * 10
    general = general_speech("en", RATE, corpus(tmp_path / "data", rows))
    assert general is not None
    assert numbers(general.samples) == set(range(12))
    assert numbers(general.held_out) == set(range(12, 22))
    assert sorted(general.held_out_texts) == sorted(f"sentence number {i}" for i in range(12, 22))


@pytest.mark.usefixtures("no_espeak")
def test_without_development_speakers_some_groups_are_held_out(tmp_path: Path) -> None:
    rows = [{"speaker": f"v{i % 6}", "speaker_group": f"p{i % 6 // 2}"} for i in range(60)]
    general = general_speech("en", RATE, corpus(tmp_path / "data", rows))
    assert general is not None
    rehearsed, held_out = numbers(general.samples), numbers(general.held_out)
    assert {i % 6 // 2 for i in rehearsed}.isdisjoint({i % 6 // 2 for i in held_out})
    assert len(held_out) == 20


@pytest.mark.usefixtures("no_espeak")
def test_a_single_group_is_divided_by_sentence(tmp_path: Path) -> None:
    general = general_speech("en", RATE, corpus(tmp_path / "data", [{}] * 30))
    assert general is not None
    assert numbers(general.samples).isdisjoint(numbers(general.held_out))
    assert len(general.samples) == len(general.held_out) == 15


@pytest.mark.usefixtures("no_espeak")
@pytest.mark.parametrize(
    "unsuitable",
    [
        {"split": "test"},
        {"language": "it"},
        {"unit": "word"},
        {"text_kind": "concept"},
        {"duration_s": 60.0},
        {"duration_s": 0.2},
        {"text": "..."},
    ],
)
def test_unsuitable_rows_are_never_used(tmp_path: Path, unsuitable: dict[str, object]) -> None:
    rows = [{}] * 24 + [unsuitable] * 30
    general = general_speech("en", RATE, corpus(tmp_path / "data", rows))
    assert general is not None
    assert numbers(general.samples) | numbers(general.held_out) == set(range(24))
    assert general_speech("en", RATE, corpus(tmp_path / "other", [unsuitable] * 30)) is None


@pytest.mark.usefixtures("no_espeak")
def test_rows_are_drawn_evenly_and_reproducibly(tmp_path: Path) -> None:
    rows = [{"speaker": "much"}] * 80 + [{"speaker": f"v{i % 4}"} for i in range(20)]
    rows += [{"speaker": f"development{i % 4}", "split": "dev"} for i in range(60)]
    folder = corpus(tmp_path / "data", rows)
    general, again = (general_speech("en", RATE, folder) for _ in range(2))
    assert general is not None
    assert again is not None
    assert len(general.samples) == REHEARSED
    assert len(general.held_out) == HELD_OUT
    assert sum(number < 80 for number in numbers(general.samples)) == 20, (
        "the other speakers have only 20 rows"
    )
    assert numbers(general.samples) == numbers(again.samples)


@pytest.mark.parametrize("language", ["en", "ka"])
def test_without_a_corpus_espeak_is_used(tmp_path: Path, language: str) -> None:
    general = general_speech(language, 8000, tmp_path)
    assert general is not None
    assert len(general.samples) == REHEARSED
    assert len(general.held_out) == len(general.held_out_texts) == HELD_OUT
    assert all(8000 < len(samples) < 12 * 8000 for samples in general.held_out)
    assert "espeak" in general.source


def test_a_language_without_corpus_and_voice_gives_none(tmp_path: Path) -> None:
    assert general_speech("xx", RATE, tmp_path) is None


def test_rehearsal_uses_the_base_transcripts_without_empty_ones_and_loops() -> None:
    samples = [np.full(10, i, np.float32) for i in range(4)]
    general = Rehearsal(samples, [], [], "clips").prepared_for(
        FixedTranscripts(["one", " ", "go " * 20, "four"])
    )  # type: ignore[arg-type]
    assert [text for text in general.texts if text] == ["one", "four"]
    assert [samples[0] for samples in general.audio][:2] == [0.0, 6.0]
    noise = [one for one, text in zip(general.audio, general.texts, strict=True) if not text]
    assert len(noise) == NOISES, "noise is rehearsed too, with an empty text"
    assert sum(bool(np.asarray(samples).any()) for samples in noise) == NOISES * 2 // 3, (
        "a third of it is silence"
    )
