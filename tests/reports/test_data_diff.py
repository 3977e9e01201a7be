"""The comparison of two corpus versions reports exactly what was changed between them."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from metavox.dataset.manifest import COLUMNS, read_manifest, write_manifest
from metavox.reports.data.diff import Diff, compare
from metavox.reports.data.diff_page import diff_page, sentences, tables_of


@pytest.fixture
def rows() -> pd.DataFrame:
    """Forty recordings of four speakers; dora is held out."""
    made = []
    for number in range(40):
        speaker = ("anna", "bert", "carl", "dora")[number % 4]
        made.append(
            {
                "path": f"shards/s-000.tar/{speaker}/{number}.wav",
                "text": f"word {number}",
                "speaker": speaker,
                "language": "en",
                "source": "here",
                "split": "test" if speaker == "dora" else "train",
                "duration_s": 0.5 + number / 40,
                "sample_rate": 16000,
                "sha256": f"{number:064x}",
            }
        )
    return pd.DataFrame({**COLUMNS, **pd.DataFrame(made)})


def counts(diff: Diff) -> dict[str, int]:
    names = ("added", "removed", "renamed", "changed", "moved", "alarms")
    return {name: len(getattr(diff, name)) for name in names if len(getattr(diff, name))}


def test_same_version_has_no_difference(rows: pd.DataFrame, tmp_path: Path) -> None:
    write_manifest(rows, tmp_path / "manifest.csv")
    diff = compare(read_manifest(tmp_path / "manifest.csv"), rows.sample(frac=1, random_state=3))
    assert diff.same
    assert counts(diff) == {}
    assert tables_of(diff) == []


def test_added_and_removed_with_their_hours(rows: pd.DataFrame) -> None:
    extra = rows.iloc[:3].assign(
        path=["x/1.wav", "x/2.wav", "x/3.wav"],
        sha256=["a", "b", "c"],
        speaker="eve",
        language="fr",
        duration_s=3600.0,
    )
    diff = compare(rows, pd.concat([rows[rows["speaker"] != "bert"], extra]))
    assert counts(diff) == {"added": 3, "removed": 10}
    assert (diff.speakers_new, diff.speakers_gone) == (["eve"], ["bert"])
    assert diff.hours("language").loc["fr", "added"] == pytest.approx(3.0)
    removed_hours = rows.loc[rows["speaker"] == "bert", "duration_s"].sum() / 3600
    assert diff.hours("speaker").loc["bert", "removed"] == pytest.approx(removed_hours)
    assert "New speakers: eve." in sentences(diff)


def test_renames_are_recognised_even_if_two_recordings_swap_names(rows: pd.DataFrame) -> None:
    after = rows.copy()
    after.loc[[0, 1], "path"] = after.loc[[1, 0], "path"].to_numpy()
    after.loc[2, "path"] = "shards/s-001.tar/carl/2.wav"
    diff = compare(rows, after)
    assert counts(diff) == {"renamed": 3}
    assert set(diff.renamed["path_before"]) == set(rows["path"].iloc[:3])
    assert "Of the renamed recordings, 1 only moved to another shard." in sentences(diff)


def test_another_recording_under_the_same_name_is_a_change(rows: pd.DataFrame) -> None:
    after = rows.copy()
    after.loc[4, "sha256"] = "f" * 64
    after.loc[5, ["text", "language"]] = ["other", "de"]
    diff = compare(rows, after)
    assert dict(zip(diff.changed["path"], diff.changed["fields"], strict=True)) == {
        rows["path"][4]: ("recording",),
        rows["path"][5]: ("text", "language"),
    }
    (change,) = (one for one in diff.as_json()["changed"] if one["path"] == rows["path"][5])
    assert change["fields"]["text"] == {"before": "word 5", "after": "other"}


def test_recordings_with_the_same_digest_keep_their_own_rows(rows: pd.DataFrame) -> None:
    """Of three rows with the same digest, the one that is reported as removed is the right one."""
    rows.loc[[0, 4, 8], "sha256"] = "e" * 64
    diff = compare(rows, rows.drop(index=4))
    assert counts(diff) == {"removed": 1}
    assert diff.removed["path"].tolist() == [rows["path"][4]]
    same_name = pd.concat([rows, rows.iloc[:1]])
    assert counts(compare(rows, same_name)) == {"added": 1}


def test_without_digests_rows_are_matched_by_path(rows: pd.DataFrame) -> None:
    after = rows.assign(sha256="")
    after.loc[0, "path"] = "new.wav"
    for before in (rows, rows.assign(sha256="")):
        assert counts(compare(before, after)) == {"added": 1, "removed": 1}


@pytest.mark.parametrize(
    ("speaker", "split", "message"),
    [
        ("dora", "train", "test speaker dora is now in train (10 recordings moved)"),
        ("anna", "test", "speaker anna moved from train to test"),
    ],
)
def test_a_speaker_that_changes_its_split_raises_an_alarm(
    rows: pd.DataFrame, speaker: str, split: str, message: str
) -> None:
    diff = compare(rows, rows.assign(split=rows["split"].where(rows["speaker"] != speaker, split)))
    assert diff.moved.to_dict("records")[0]["recordings"] == 10
    assert len(diff.alarms) == 1
    assert message in diff.alarms[0]
    page = diff_page(diff, "HEAD~1", "workspace")
    assert page.index(message) < page.index("<ul>")


def test_test_recordings_in_train_under_another_name_raise_an_alarm(rows: pd.DataFrame) -> None:
    after = rows.copy()
    after.loc[rows["speaker"] == "dora", ["speaker", "split"]] = ["eve", "train"]
    (alarm,) = compare(rows, after).alarms
    assert "10 recordings of test speaker dora are now in train under the name eve" in alarm
    part = rows.copy()
    part.loc[[3, 7], "split"] = "train"
    (alarm,) = compare(rows, part).alarms
    assert "test speaker dora is now in train (2 recordings moved)" in alarm


def test_moves_between_train_and_dev_are_listed_and_only_dev_to_train_raises_an_alarm(
    rows: pd.DataFrame,
) -> None:
    dev = rows.assign(split=rows["split"].where(rows["speaker"] != "carl", "dev"))
    assert counts(compare(rows, dev)) == {"changed": 10, "moved": 1}
    assert counts(compare(dev, rows)) == {"changed": 10, "moved": 1, "alarms": 1}


def test_shift_of_durations_and_rates(rows: pd.DataFrame) -> None:
    longer = rows.assign(duration_s=rows["duration_s"] * 4, sample_rate=8000)
    diff = compare(rows, longer)
    assert diff.duration_shift() > 0.9
    text = " ".join(sentences(compare(rows, longer.assign(text="x"))))
    assert "Durations have shifted" in text
    assert "8000 Hz from 0 to 100%" in text
    assert compare(rows, rows).duration_shift() == 0.0


@pytest.mark.parametrize("seed", range(5))
def test_every_row_is_accounted_for(rows: pd.DataFrame, seed: int) -> None:
    """Each row of both versions is matched once, added or removed, in both directions."""
    random = np.random.default_rng(seed)
    rows = rows.assign(sha256=random.choice(["", "a", "b", *rows["sha256"]], len(rows)))
    after = rows.sample(25, random_state=seed).reset_index(drop=True)
    some: Any = random.random(25) < 0.3
    after.loc[some, "path"] = [f"new/{number}" for number in range(int(some.sum()))]
    after.loc[random.random(25) < 0.3, "sha256"] = "c"
    forth, back = compare(rows, after), compare(after, rows)
    assert len(after) - len(forth.added) == len(rows) - len(forth.removed)
    assert (len(forth.added), len(forth.renamed)) == (len(back.removed), len(back.renamed))
    assert set(forth.added["path"]) <= set(after["path"])
    assert set(forth.removed["path"]) <= set(rows["path"])


def test_the_page_escapes_labels_and_cuts_long_lists(rows: pd.DataFrame) -> None:
    after = rows.assign(text=[f"<b>{'long ' * 40}</b>"] * len(rows))
    page = diff_page(compare(rows, after), "<v1>", "workspace")
    assert "<b>" not in page
    assert "… and 28 more" in page
    assert "://" not in page
