"""The experiment on test-time adaptation: its streams, its input normalisation and its table."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from small_whisper import save_small_whisper

from experiments import streams, test_time
from experiments.equaliser import Equaliser, EqualiserConfig, spectrum
from metavox.adaptation.test_time import TestTimeConfig
from metavox.audio.classical import bandwidth, coloured
from metavox.errors import UserError
from tests.recognisers.contract import speech

RATE = streams.RATE
BLOCKS = {
    "dev": (("ann", "noise"), ("ann", streams.CLEAN)),
    "test": (("bob", streams.CLEAN), ("cat", "phone"), ("bob", "babble")),
}


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project folder with a small corpus, and blocks of its speakers."""
    monkeypatch.setattr(streams, "BLOCKS", BLOCKS)
    rows = []
    (tmp_path / "data").mkdir()
    for speaker, split in (("ann", "dev"), ("bob", "test"), ("cat", "test"), ("dan", "train")):
        for number in range(6):
            name = f"{speaker}-{number}.wav"
            soundfile.write(tmp_path / "data" / name, speech(0.7, len(rows)), RATE)
            rows.append(
                {
                    "path": name,
                    "text": f"sentence number {number} of {speaker}",
                    "speaker": speaker,
                    "language": "en",
                    "split": split,
                    "unit": "sentence",
                    "duration_s": 0.7,
                }
            )
    pd.DataFrame(rows).to_csv(tmp_path / "data/manifest.csv", index=False)
    return tmp_path


def test_blocks_have_one_speaker_and_condition_and_no_sentence_twice(corpus: Path) -> None:
    utterances = streams.stream(streams.Corpus.read(corpus / "data"), "test", 3, seed=1)
    assert [u.condition for u in utterances] == ["clean"] * 3 + ["phone"] * 3 + ["babble"] * 3
    assert [u.text.split()[-1] for u in utterances] == ["bob"] * 3 + ["cat"] * 3 + ["bob"] * 3
    assert len({u.text for u in utterances}) == 9
    again = streams.stream(streams.Corpus.read(corpus / "data"), "test", 3, seed=1)
    assert all(np.array_equal(u.samples, v.samples) for u, v in zip(utterances, again, strict=True))
    with pytest.raises(UserError, match="speaker bob has too few sentences"):
        streams.stream(streams.Corpus.read(corpus / "data"), "test", 4, seed=1)


def test_development_and_test_share_no_speaker_and_no_adverse_condition() -> None:
    dev, test = (set(streams.BLOCKS[name]) for name in ("dev", "test"))
    assert not {speaker for speaker, _ in dev} & {speaker for speaker, _ in test}
    assert {c for _, c in dev} & {c for _, c in test} == {streams.CLEAN}


def noise(seed: int, slope_db: float = 3.0) -> np.ndarray:
    return 0.1 * coloured(2 * RATE, slope_db, RATE, np.random.default_rng(seed))


def test_the_equaliser_removes_a_channel_up_to_its_limit() -> None:
    reference, heard = spectrum([noise(0)], RATE), noise(1, slope_db=6.0)
    distance = np.abs(spectrum([heard], RATE) - reference).mean()
    equalised = Equaliser(reference, RATE, EqualiserConfig(1.0, 0.0, 30.0))(heard)
    assert np.abs(spectrum([equalised], RATE) - reference).mean() < 0.25 * distance
    half = Equaliser(reference, RATE, EqualiserConfig(0.5, 0.0, 30.0))(heard)
    assert np.abs(spectrum([half], RATE) - reference).mean() == pytest.approx(0.5 * distance, rel=0.2)
    assert np.std(equalised) == pytest.approx(np.std(heard), rel=0.01)
    cut = bandwidth(heard, RATE, 300.0, 3400.0)
    limited = Equaliser(reference, RATE, EqualiserConfig(1.0, 0.0, 3.0))(cut)
    assert np.abs(spectrum([limited], RATE) - spectrum([cut], RATE)).max() < 6.5, "3 dB up or down"
    silence = np.zeros(RATE, np.float32)
    assert np.array_equal(Equaliser(reference, RATE)(silence), silence)


def test_the_running_spectrum_remembers_earlier_recordings() -> None:
    reference, bright, dark = spectrum([noise(0)], RATE), noise(1, 0.0), noise(2, 6.0)
    remembering = Equaliser(reference, RATE, EqualiserConfig(1.0, 0.8, 30.0))
    alone = Equaliser(reference, RATE, EqualiserConfig(1.0, 0.0, 30.0))
    assert np.array_equal(remembering(bright), alone(bright)), "there is nothing to remember yet"
    assert np.abs(spectrum([remembering(dark)], RATE) - spectrum([alone(dark)], RATE)).mean() > 1.0


def test_the_table_chooses_on_development_and_runs_nothing_twice(
    corpus: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    base = tmp_path / "small"
    save_small_whisper(base)
    settings = TestTimeConfig("continual", 1, 1e-3, objective="pseudo-labels", confidence=0.0)
    equaliser = EqualiserConfig()
    monkeypatch.setattr(test_time, "DEV_SENTENCES", 2)
    monkeypatch.setattr(test_time, "TEST_SENTENCES", 2)
    monkeypatch.setattr(
        test_time, "arms", lambda kind: {"none": [None], "labels": [settings], "equaliser": [equaliser]}
    )
    table = test_time.table(corpus, str(base), [1])
    assert table["arm"].tolist() == ["none", "labels", "equaliser"]
    assert {"clean", "phone", "babble"} <= set(table.columns)
    assert table["error reduction"].tolist()[0] == ""
    files = {file: file.stat().st_mtime_ns for file in (corpus / test_time.FOLDER).rglob("*.json")}
    assert len(files) == 6, "one for each arm and stream"
    again = test_time.table(corpus, str(base), [1], ["none", "labels"])
    assert again["WER"].tolist() == table["WER"].tolist()[:2]
    assert {file: file.stat().st_mtime_ns for file in (corpus / test_time.FOLDER).rglob("*.json")} == files
    pooled = test_time.table(corpus, str(base), [1, 2], ["none"])
    assert len(list((corpus / test_time.FOLDER).rglob("*.json"))) == 7, "development chooses once"
    assert pooled["dev WER"].tolist() == table["dev WER"].tolist()[:1]
    with pytest.raises(UserError, match="arm enthropy: no such arm; expected one of none, labels"):
        test_time.table(corpus, str(base), [1], ["enthropy"])
