"""Manifests written by people, by the pipeline, and broken ones."""

from pathlib import Path

import pandas as pd
import pytest

from metavox.dataset.manifest import COLUMNS, read_manifest, resolve, write_manifest
from metavox.errors import UserError


def test_optional_columns_get_their_defaults(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("path,text,speaker,language\na.wav,да,anna,ru\n", encoding="utf-8")
    rows = read_manifest(tmp_path / "m.csv")
    assert set(COLUMNS) <= set(rows.columns)
    assert [rows.at[0, name] for name in ("text", "text_kind", "split")] == ["да", "spoken", ""]
    assert rows["synthetic"].tolist() == [False]
    assert rows["sample_rate"].tolist() == [0]
    assert rows["duration_s"].isna().all()


def test_texts_are_never_read_as_numbers_or_missing_values(tmp_path: Path) -> None:
    texts = ["NA", "null", "007", "", "1e5"]
    table = pd.DataFrame({"path": list("abcde"), "text": texts, "speaker": "1", "language": "no"})
    table.to_csv(tmp_path / "m.csv", index=False)
    assert read_manifest(tmp_path / "m.csv")["text"].tolist() == texts


def test_a_byte_order_mark_does_not_belong_to_the_first_column(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("path,text\na.wav,yes\n", encoding="utf-8-sig")
    assert read_manifest(tmp_path / "m.csv")["path"].tolist() == ["a.wav"]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_writing_is_deterministic_and_reading_gives_the_same_rows(tmp_path: Path, suffix: str) -> None:
    (tmp_path / "m.csv").write_text("path,text,synthetic,duration_s\na.wav,über,True,1.5\nb.wav,x,False,\n")
    rows = read_manifest(tmp_path / "m.csv")
    first, second = tmp_path / f"one{suffix}", tmp_path / f"two{suffix}"
    write_manifest(rows, first)
    write_manifest(rows, second)
    pd.testing.assert_frame_equal(read_manifest(first), rows, check_dtype=False)
    assert read_manifest(first)["synthetic"].tolist() == [True, False]
    assert first.read_bytes() == second.read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["m.csv", first.name, second.name])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("m.csv", None, "no such file"),
        ("m.csv", b"", "no header; expected a first line such as path,text"),
        ("m.csv", b"\xff\xfe\x00path", "byte 6 on line 1 is not UTF-16"),
        ("m.csv", b"file,text\na,b\n", "no column path among file, text"),
        (
            "m.csv",
            b"path,text\na,b\nc,d,e,f\n",
            "line 3: 4 cells on the line, but the header has 2 .separated by comma.",
        ),
        ("m.parquet", b"path,text\n", "cannot be read"),
    ],
)
def test_a_broken_manifest_is_named_in_one_line(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        read_manifest(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_paths_are_relative_to_the_manifest_unless_absolute() -> None:
    assert resolve("data/m.csv", "s.tar/a.wav") == Path("data/s.tar/a.wav")
    assert resolve("data/m.csv", "/x/a.wav") == Path("/x/a.wav")
