"""Each layout, on a small folder with the structure of a real one."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from adding import accepted, label_folders, record, refused, run_add, sound, table, video

from metavox.audio.read import read_audio
from metavox.dataset.manifest import read_manifest
from metavox.ingest.incoming import SourceFault
from metavox.ingest.layouts import compile_pattern


@pytest.fixture
def into(tmp_path: Path) -> Path:
    return tmp_path / "data"


def test_a_folder_for_each_label(tmp_path: Path, into: Path) -> None:
    source = label_folders(tmp_path / "mine")
    record(source / "stray.wav", 50)
    (source / "readme.txt").write_text("not audio")
    report = run_add(source, into, layout="folders", speaker="anna", language="en")
    assert set(accepted(report, "text").values()) == {"yes", "no", "stop"}
    assert len(report["take"]) == 6
    assert refused(report) == {"stray.wav": "does not match {text}/{}"}
    assert report["ignored"] == 1
    assert (
        run_add(source, into, speaker="anna", language="en")["layout"] == "folders (a folder for each label)"
    )


def test_a_pattern_reads_text_and_speaker_from_file_names(tmp_path: Path, into: Path) -> None:
    source = tmp_path / "mine"
    record(source / "anna_good_morning_1.wav", 1)
    record(source / "deep/bert_no_2.wav", 2)
    record(source / "nothing.wav", 3)
    report = run_add(source, into, language="en", pattern="{speaker}_{text}_{}")
    assert accepted(report, "speaker", "text") == {
        "anna_good_morning_1.wav": ("anna", "good morning"),
        "deep/bert_no_2.wav": ("bert", "no"),
    }
    assert list(refused(report)) == ["nothing.wav"]
    nested = tmp_path / "nested"
    record(nested / "anna/yes/1.wav", 4)
    advice = run_add(nested, into, language="en")["faults"][0]["explanation"]
    assert "--pattern '{speaker}/{text}/{}'" in advice
    report = run_add(nested, into, language="en", layout="folders", pattern="{speaker}/{text}/{}")
    assert accepted(report, "speaker", "text") == {"anna/yes/1.wav": ("anna", "yes")}


@pytest.mark.parametrize("pattern", ["{speaker}_{}", "{text}_{text}", "{text}_{colour}", "plain"])
def test_a_pattern_that_cannot_work_is_refused(pattern: str) -> None:
    with pytest.raises(SourceFault, match=r"expected \{text\}"):
        compile_pattern(pattern)


def test_common_voice(tmp_path: Path, into: Path) -> None:
    language = tmp_path / "cv-corpus/de"
    for number, name in enumerate(("a", "b", "c", "d")):
        record(language / f"clips/{name}.mp3", number)
    header = "client_id\tpath\tsentence\tup_votes\tage\tgender"
    table(language / "train.tsv", ['v1\ta.mp3\t"Ja', "v1\tgone.mp3\tnein"], header)
    table(language / "test.tsv", ["v2\tb.mp3\tnein\t3\tx\ty"], header)
    table(language / "train.tsv", ['v1\ta.mp3\t"Ja\t0\t\t', "v1\tgone.mp3\tnein\t0\t\t", "v1\tc.mp3"], header)
    report = run_add(tmp_path / "cv-corpus", into)
    assert report["layout"] == "commonvoice (de)"
    assert accepted(report, "text", "speaker", "language", "split") == {
        "de/clips/a.mp3": ('"Ja', "v1", "de", "train"),
        "de/clips/b.mp3": ("nein", "v2", "de", "test"),
    }
    assert refused(report)["de/clips/gone.mp3"] == "no such recording"
    assert "cells on the line" in "; ".join(refused(report).values())
    assert refused(report)["de/clips/d.mp3"] == "no row refers to it"


def test_librispeech_continues_after_a_broken_file(tmp_path: Path, into: Path) -> None:
    root = tmp_path / "LibriSpeech"
    chapter = root / "dev-clean/84/121"
    record(chapter / "84-121-0000.flac", 1)
    (chapter / "84-121-0001.flac").write_bytes(b"fLaC, it says")
    chapter.joinpath("84-121.trans.txt").write_text(
        "84-121-0000 GO ON\n84-121-0001 BROKEN\n84-121-0002 MISSING\n"
    )
    record(root / "train-clean-100/19/1/19-1-0000.flac", 2)
    (root / "train-clean-100/19/1/19-1.trans.txt").write_text("19-1-0000 STOP\n")
    report = run_add(root, into)
    assert accepted(report, "text", "speaker", "split") == {
        "dev-clean/84/121/84-121-0000.flac": ("GO ON", "librispeech-84", "dev"),
        "train-clean-100/19/1/19-1-0000.flac": ("STOP", "librispeech-19", "train"),
    }
    assert "not audio that can be decoded" in refused(report)["dev-clean/84/121/84-121-0001.flac"]
    assert refused(report)["dev-clean/84/121/84-121-0002.flac"] == "no such recording"


def test_speech_commands_keep_their_own_splits(tmp_path: Path, into: Path) -> None:
    root = tmp_path / "speech_commands"
    record(root / "yes/aaaa1111_nohash_0.wav", 1)
    record(root / "no/bbbb2222_nohash_0.wav", 2)
    record(root / "no/cccc3333_nohash_1.wav", 3)
    record(root / "_background_noise_/tap.wav", 4)
    (root / "validation_list.txt").write_text("no/bbbb2222_nohash_0.wav\n")
    (root / "testing_list.txt").write_text("no/cccc3333_nohash_1.wav\n")
    report = run_add(root, into)
    assert accepted(report, "text", "speaker", "split") == {
        "yes/aaaa1111_nohash_0.wav": ("yes", "aaaa1111", "train"),
        "no/bbbb2222_nohash_0.wav": ("no", "bbbb2222", "dev"),
        "no/cccc3333_nohash_1.wav": ("no", "cccc3333", "test"),
    }
    assert refused(report) == {"_background_noise_/tap.wav": "background noise: it contains no word"}


def test_kaldi_cuts_segments_and_runs_nothing(tmp_path: Path, into: Path) -> None:
    root = tmp_path / "kaldi"
    record(root / "long.wav", 1, seconds=30)
    proof = tmp_path / "ran"
    (root / "wav.scp").write_text(f"rec1 long.wav\nrec2 touch {proof} |\nrec3 unused.wav\n")
    (root / "segments").write_text("u1 rec1 1.0 2.5\nu2 rec2 0 1\nu3 rec1 5 4\nu4 rec1 4 5\nu5 rec1 29 -1\n")
    (root / "text").write_text("u1 good day\nu2 no\nu3 no\nu5 the end\n")
    (root / "utt2spk").write_text("u1 anna\nu2 anna\nu4 anna\nu5 anna\n\n")
    report = run_add(root, into, language="en")
    assert sorted((row["text"], round(row["duration_s"], 3)) for row in report["take"]) == [
        ("good day", 1.5),
        ("the end", 1),
    ]
    assert not proof.exists()
    reasons = [reason for row in report["refuse"] for reason in row["reasons"]]
    for expected in (
        "a command, which is not run",
        "is not a segment",
        "text '' contains no letter or digit",
        "no segment refers to rec3",
    ):
        assert any(expected in reason for reason in reasons), expected
    rows = read_manifest(into / "manifest.csv").set_index("text")
    samples = read_audio(into / rows.loc["good day", "path"])
    np.testing.assert_allclose(samples, sound(1, 30)[16000:40000], atol=1e-4)


def test_kaldi_without_segments(tmp_path: Path, into: Path) -> None:
    root = tmp_path / "kaldi"
    wav = record(root / "a.wav", 1)
    record(root / "b.wav", 2)
    (root / "wav.scp").write_text(f"a {wav}\nb b.wav\na b.wav\n")
    (root / "text").write_text("a yes\nb no\n")
    (root / "utt2spk").write_text("a anna\nb anna\n")
    (root / "utt2lang").write_text("a en\nb en\n")
    report = run_add(root, into)
    assert set(accepted(report, "text").values()) == {"yes", "no"}
    assert len(report["refuse"]) == 1  # the repeated ID
    assert wav.read_bytes() in {(read_bytes_of(into, row)) for row in report["take"]}


def read_bytes_of(into: Path, row: dict[str, str]) -> bytes:
    from metavox.audio.read import read_bytes

    rows = read_manifest(into / "manifest.csv").set_index("sha256")
    return read_bytes(into / rows.loc[row["sha256"], "path"])


def lhotse_cut(
    name: str, source: str, start: float, length: float, source_type: str = "file"
) -> dict[str, object]:
    recording = {
        "id": f"rec-{source}",
        "sources": [{"type": source_type, "channels": [0], "source": source}],
        "sampling_rate": 16000,
        "num_samples": 160000,
        "duration": 10.0,
    }
    supervision = {
        "id": f"{name}-s",
        "recording_id": f"rec-{source}",
        "start": 0.0,
        "duration": length,
        "channel": 0,
        "text": f"word {name}",
        "language": "English",
        "speaker": "anna",
    }
    return {
        "id": name,
        "start": start,
        "duration": length,
        "channel": 0,
        "supervisions": [supervision],
        "recording": recording,
        "type": "MonoCut",
    }


def test_lhotse_cuts(tmp_path: Path, into: Path) -> None:
    root = tmp_path / "lhotse"
    record(root / "long.wav", 1, seconds=10)
    cuts = [
        lhotse_cut("one", "long.wav", 2.0, 1.0),
        lhotse_cut("all", "long.wav", 0.0, 10.0),
        lhotse_cut("run", f"touch {tmp_path / 'ran'}", 0.0, 1.0, "command"),
        lhotse_cut("web", "http://localhost:9/x.wav", 0.0, 1.0, "url"),
        lhotse_cut("out", "../elsewhere.wav", 0.0, 1.0),
    ]
    lines = [json.dumps(cut) for cut in cuts]
    with gzip.open(root / "cuts_mine.jsonl.gz", "wt") as file:
        file.write("\n".join([*lines[:1], "{not json", *lines[1:]]) + "\n")
    report = run_add(root, into)
    assert report["layout"] == "lhotse (cuts)"
    assert sorted(row["text"] for row in report["take"]) == ["word all", "word one"]
    assert {row["language"] for row in report["take"]} == {"en"}
    whole = next(row for row in report["take"] if row["text"] == "word all")
    assert read_bytes_of(into, whole) == (root / "long.wav").read_bytes()
    reasons = {row["line"]: row["reasons"][0] for row in report["refuse"]}
    assert sorted(reasons) == [2, 4, 5, 6]
    for line, expected in (
        (2, "JSONDecodeError"),
        (4, "of type command"),
        (5, "of type url"),
        (6, "is outside"),
    ):
        assert expected in reasons[line]
    assert not (tmp_path / "ran").exists()


def test_lhotse_recordings_with_supervisions(tmp_path: Path, into: Path) -> None:
    from lhotse import Recording, RecordingSet, SupervisionSegment, SupervisionSet

    root = tmp_path / "set"
    recordings = [Recording.from_file(record(root / f"{name}.wav", seed)) for seed, name in enumerate("ab")]
    RecordingSet.from_recordings(recordings).to_file(root / "recordings.jsonl.gz")
    supervisions = [
        SupervisionSegment("u", "a", 0.0, 0.5, text="yes", speaker="anna", language="en"),
        SupervisionSegment("w", "nowhere", 0.0, 0.5, text="no", speaker="anna", language="en"),
    ]
    SupervisionSet.from_segments(supervisions).to_file(root / "supervisions.jsonl.gz")
    report = run_add(root, into)
    assert list(accepted(report, "text").values()) == ["yes"]
    assert {"no recording nowhere", "no supervision refers to b"} <= set(refused(report).values())


def test_lhotse_shar(tmp_path: Path, into: Path) -> None:
    from lhotse import CutSet, Recording, SupervisionSegment
    from lhotse.shar import SharWriter

    cuts = []
    for seed, name in enumerate("ab"):
        cut = Recording.from_file(record(tmp_path / f"{name}.wav", seed)).to_cut()
        cut.supervisions = [
            SupervisionSegment(f"s{name}", name, 0.0, 0.5, text=f"word {name}", speaker="anna", language="en")
        ]
        cuts.append(cut)
    root = tmp_path / "shar"
    root.mkdir()
    with SharWriter(str(root), fields={"recording": "flac"}, shard_size=1) as writer:
        for cut in CutSet.from_cuts(cuts):
            writer.write(cut)
    report = run_add(root, into)
    assert report["layout"] == "lhotse (Shar)"
    assert sorted(row["text"] for row in report["take"]) == ["word a", "word b"]
    assert not report["refuse"]


def test_only_the_audio_of_a_video_is_stored(tmp_path: Path, into: Path) -> None:
    source = tmp_path / "videos"
    video(source / "yes/clip.mp4", 1)
    report = run_add(source, into, speaker="anna", language="en")
    (row,) = report["take"]
    assert "as 16-bit FLAC" in "; ".join(row["notes"])
    rows = read_manifest(into / "manifest.csv")
    assert rows.loc[0, "path"].endswith(".flac")
    assert abs(rows.loc[0, "duration_s"] - 0.6) < 0.1  # AAC pads
    again = run_add(source, into, speaker="anna", language="en")
    assert (again["counts"], again["version"]["after"]) == ({"take": 0, "have": 1, "refuse": 0}, None)


def test_notes_say_how_the_audio_will_be_converted(tmp_path: Path, into: Path) -> None:
    source = tmp_path / "studio"
    original = record(source / "yes/a.wav", 1, rate=192000, channels=8)
    (row,) = run_add(source, into, speaker="anna", language="en")["take"]
    assert row["notes"] == [
        "8 channels: averaged to mono, or only the loudest where they cancel out",
        "192000 Hz: the prepare stage will resample it to 16000 Hz",
    ]
    assert read_bytes_of(into, row) == original.read_bytes()


def test_a_long_recording_is_refused_by_its_header(tmp_path: Path, into: Path) -> None:
    source = tmp_path / "long"
    (source / "yes").mkdir(parents=True)
    with soundfile.SoundFile(source / "yes/lecture.flac", "w", 8000, 1) as file:
        for _ in range(120):
            file.write(np.zeros(8000 * 60, np.int16))
    report = run_add(source, into, speaker="anna", language="en")
    assert "lasts 7200.0 s, expected at most 20 s; cut it" in refused(report)["yes/lecture.flac"]
