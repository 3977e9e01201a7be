import resource
from pathlib import Path

import pandas as pd
import pytest
from pandas.testing import assert_frame_equal
from small_packages import needs_apt, quiet
from typer.testing import CliRunner

from metavox.audio.read import read_audio
from metavox.cli import corpus as cli
from metavox.dataset.manifest import COLUMNS, read_manifest, resolve
from metavox.errors import UserError
from metavox.sources import asterisk
from metavox.sources.build import Built, build, check_splits, header
from metavox.sources.profile import Profile, profile_path, read_profile, record_digest


@pytest.fixture
def smaller() -> Profile:
    """The tiny profile with the recordings of one source, and its synthetic speech in one language."""
    tiny = read_profile("tiny")
    assert tiny.synthetic is not None
    return tiny.model_copy(
        update={
            "packages": {"saytime": tiny.packages["saytime"]},
            "sources": ["saytime"],
            "limits": {},
            "splits": tiny.splits.model_copy(update={"dev": [], "test": ["saytime"]}),
            "synthetic": tiny.synthetic.model_copy(update={"languages": ["en"]}),
        }
    )


def test_a_build_has_the_recorded_digest(tiny: Built) -> None:
    assert tiny.digest == read_profile("tiny").digest


@needs_apt
def test_a_build_is_reproducible(smaller: Profile, tmp_path: Path, state: Path) -> None:
    first, second = (build(smaller, tmp_path / name, quiet, state=state) for name in ("first", "second"))
    assert first.digest == second.digest
    assert set(first.rows["source"]) == {"saytime", "espeak"}


def test_every_recording_can_be_read(tiny: Built) -> None:
    manifest = tiny.folder / "manifest.csv"
    rows = read_manifest(manifest)
    assert list(rows.columns) == list(COLUMNS)
    assert_frame_equal(rows, tiny.rows, check_dtype=False)
    for row in rows.groupby("source").head(5).itertuples():
        samples = read_audio(resolve(manifest, str(row.path)))
        assert len(samples) / 16000 == pytest.approx(row.duration_s, abs=0.03)


def test_tiny_has_speakers_in_every_split(tiny: Built) -> None:
    speakers = tiny.rows.groupby("split")["speaker"].agg(set)
    assert set(speakers.index) == {"train", "dev", "test"}
    assert len(speakers["test"]) >= 2
    assert tiny.rows.loc[tiny.rows["synthetic"], "split"].eq("train").all()
    assert tiny.rows.groupby("speaker_group")["split"].nunique().eq(1).all()


def test_digits_of_tiny_are_marked(tiny: Built) -> None:
    digits = tiny.rows[tiny.rows["unit"] == "digit"].groupby("speaker")["text"].agg(set)
    assert {"zero", "nine", "oh"} <= digits["saytime"]
    assert len(digits["asterisk-es-co"]) == len(digits["asterisk-fr-armelle"]) == 10
    assert not tiny.rows[tiny.rows["synthetic"]]["unit"].eq("digit").any()


def test_texts_hold_no_markup(tiny: Built) -> None:
    assert not tiny.rows["text"].str.contains(r"[\[\]<>*|]").any()
    assert tiny.rows["text"].str.strip().eq(tiny.rows["text"]).all()
    assert tiny.rows["text"].ne("").all()


@needs_apt
def test_a_stopped_build_leaves_the_old_corpus(smaller: Profile, tmp_path: Path, state: Path) -> None:
    out = tmp_path / "data"
    out.mkdir()
    (out / "manifest.csv").write_text("the old one")

    def stop(what: str, done: int, total: int) -> None:
        if what == "speaking words" and done == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(smaller, out, stop, state=state)
    assert [p.name for p in tmp_path.rglob("*")] == ["data", "manifest.csv"]
    assert (out / "manifest.csv").read_text() == "the old one"


@needs_apt
def test_a_full_disk_leaves_the_old_corpus(smaller: Profile, tmp_path: Path, state: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(what: str, done: int, total: int) -> None:
        if what == "reading sources":
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))

    try:
        with pytest.raises(UserError, match=r"data: cannot be written \(File too large\)"):
            build(smaller, tmp_path / "data", fill, state=state)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.iterdir())


def test_a_speaker_group_in_two_splits_is_refused() -> None:
    profile = read_profile("demo").model_copy(
        update={"splits": read_profile("demo").splits.model_copy(update={"dev": [], "test": ["b"]})}
    )
    rows = pd.DataFrame({"speaker": ["a", "b"], "speaker_group": ["ann", "ann"], "split": ["train", "test"]})
    with pytest.raises(UserError, match="speaker group ann is in test and train; expected one split"):
        check_splits(profile, rows)
    with pytest.raises(UserError, match="b matches no speaker"):
        check_splits(profile, rows.iloc[:1])


def test_splits_of_demo() -> None:
    splits = read_profile("demo").splits
    by_speaker = {speaker.name: splits.of(speaker.name) for speaker in asterisk.SPEAKERS}
    by_group: dict[str, set[str]] = {}
    for speaker in asterisk.SPEAKERS:
        by_group.setdefault(speaker.speaker_group or speaker.name, set()).add(by_speaker[speaker.name])
    assert all(len(group) == 1 for group in by_group.values())
    assert {name for name, split in by_speaker.items() if split == "test"} == {
        "asterisk-it-carlo",
        "asterisk-it-menardi",
        "asterisk-es-co",
    }
    assert splits.of("gcin-3") == splits.of("gcin-5") == splits.of("klettres-it") == "test"


def test_recordings_that_cannot_be_opened_stay_with_size_zero() -> None:
    assert header(b"not audio", "x.ogg") == (0.0, 0)
    assert header(b"\0" * 33 * 50, "x.gsm") == (1.0, 8000)


def test_errors_in_a_profile_are_named(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"^profile no-such: no such profile; expected base, demo, full, tiny"
    ):
        profile_path("no-such")
    text = profile_path("tiny").read_text()
    for old, new, message in (
        ("splits:", "spilts:", r"splits: Field required"),
        ("seed: 1", "sed: 1", r"synthetic\.sed: Extra inputs"),
        ("[asterisk, gcin", "[asterisk, ginc", r"source ginc: expected one of asterisk"),
        ("description:", "\tdescription:", r"not valid YAML"),
    ):
        (tmp_path / "wrong.yaml").write_text(text.replace(old, new, 1))
        with pytest.raises(UserError, match=message):
            read_profile(str(tmp_path / "wrong.yaml"))


def test_recording_a_digest_changes_one_line(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    text = profile_path("tiny").read_text()
    path.write_text(text)
    record_digest(str(path), "abc.dir")
    assert read_profile(str(path)).digest == "abc.dir"
    changed = set(path.read_text().splitlines()) - set(text.splitlines())
    assert changed == {"digest: abc.dir"}


def test_list_names_every_source() -> None:
    shown = CliRunner().invoke(cli.app, ["list", "--json"])
    assert shown.exit_code == 0
    assert '"klettres-data"' in shown.output
    assert CliRunner().invoke(cli.app, ["list"]).exit_code == 0


def test_a_foreign_folder_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("mine")
    result = CliRunner().invoke(cli.app, ["build", "--profile", "tiny", "--out", str(tmp_path)])
    assert isinstance(result.exception, UserError)
    assert "not a built corpus" in str(result.exception)
    assert (tmp_path / "precious.txt").read_text() == "mine"


def test_summary_counts(tiny: Built) -> None:
    summary = cli.summarise(tiny.rows)
    assert summary["files"].sum() == cli.totals(tiny.rows)["files"] == len(tiny.rows)
    assert isinstance(read_profile("tiny"), Profile)
