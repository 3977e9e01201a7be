"""CSV and TSV tables as people write them: every row is accounted for, and a bad row affects only itself."""

from pathlib import Path

import pytest
from adding import accepted, record, refused, run_add, table

from metavox.dataset.manifest import COLUMNS
from metavox.dataset.tables import LONGEST_LINE, TableFault, open_table


@pytest.fixture
def into(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    for number in range(6):
        record(tmp_path / f"mine/{number}.wav", number)
    return tmp_path / "mine"


def lines(report: dict) -> dict[int, str]:
    return {row["line"]: "; ".join(row["reasons"]) for row in report["refuse"]}


def test_path_and_text_are_enough(recordings: Path, into: Path) -> None:
    path = table(recordings / "m.csv", ["0.wav,yes"], "path,text")
    report = run_add(path, into, speaker="anna", language="en")
    assert accepted(report, "text", "speaker", "language", "split") == {
        "0.wav": ("yes", "anna", "en", "train")
    }
    assert report["layout"] == "csv (a table)"
    fault = run_add(path, into, speaker="anna")["faults"]
    assert fault[0]["name"] == "columns missing"
    assert "no column language among path, text" in fault[0]["explanation"]


def test_a_bad_row_affects_only_itself(recordings: Path, into: Path) -> None:
    rows = [
        "0.wav,yes,anna,en",
        "1.wav,no",
        "path,text,speaker,language",
        '2.wav,"two\nlines",anna,en',
        "gone.wav,no,anna,en",
        ",no,anna,en",
        "0.wav,other,anna,en",
        "3.wav,n\0o,anna,en",
        '4.wav,"never closed,anna,en',
        "5.wav,stop,anna,en,more",
        "",
        "../outside.wav,no,anna,en",
        "/etc/passwd,no,anna,en",
        "5.wav,stop,anna,en",
        ".,no,anna,en",
    ]
    report = run_add(table(recordings / "m.csv", rows), into)
    assert accepted(report, "text") == {"0.wav": "yes", "5.wav": "stop"}
    expected = {
        3: "cells on the line",
        4: "repeats the header",
        5: "a line break",
        7: "no such recording",
        8: "no path",
        9: "is already on line 2",
        10: "a NUL",
        11: "a quote that is not closed",
        12: "cells on the line",
        14: "is outside",
        15: "is outside",
        17: "not a regular file",
    }
    assert sorted(lines(report)) == sorted(expected)
    for line, reason in expected.items():
        assert reason in lines(report)[line], line


def test_a_lone_quote_inside_a_cell_is_text(recordings: Path, into: Path) -> None:
    rows = ['0.wav,the 5" disk,anna,en', '1.wav,a 3" disk,anna,en', '2.wav,"say ""yes""",anna,en']
    report = run_add(table(recordings / "m.csv", rows), into)
    assert accepted(report, "text") == {"0.wav": 'the 5" disk', "1.wav": 'a 3" disk', "2.wav": 'say "yes"'}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1", "utf-16"])
def test_encodings(recordings: Path, into: Path, encoding: str) -> None:
    path = recordings / "m.csv"
    path.write_bytes("path,text,speaker,language\n1.wav,ja,anna,de\n0.wav,schön,anna,de\n".encode(encoding))
    report = run_add(path, into, encoding="" if encoding.startswith("utf-8") else encoding)
    assert accepted(report, "text") == {"1.wav": "ja", "0.wav": "schön"}


def test_an_unknown_encoding_is_a_one_line_error_with_the_position(recordings: Path, into: Path) -> None:
    path = recordings / "m.csv"
    path.write_bytes("path,text,speaker,language\n1.wav,da,anna,ru\n0.wav,нет,anna,ru\n".encode("cp1251"))
    (fault,) = run_add(path, into)["faults"]
    assert fault["name"] == "encoding"
    position = path.read_bytes().index("н".encode("cp1251"))
    assert f"byte {position} on line 3 is not UTF-8" in fault["explanation"]
    assert "--encoding latin-1" in fault["explanation"]
    assert not into.exists()
    assert (
        "expected one such as latin-1" in run_add(path, into, encoding="klingon")["faults"][0]["explanation"]
    )


def test_the_position_of_an_undecodable_byte_is_right_across_blocks(tmp_path: Path) -> None:
    path = tmp_path / "big.csv"
    body = b"path,text\n" + b"a.wav,\xc3\xa4\n" * 150_000
    path.write_bytes(body + b"a.wav,\xff\n")
    with pytest.raises(TableFault, match=f"byte {len(body) + 6} on line 150002"):
        open_table(path, COLUMNS)


def test_columns(recordings: Path, into: Path) -> None:
    report = run_add(
        table(recordings / "m.csv", ["0.wav,yes,anna,en,7"], "path,text,speaker,language,mood"), into
    )
    assert report["warnings"][0]["name"] == "columns ignored"
    assert "mood" in report["warnings"][0]["explanation"]
    for header, name in (
        ("text,speaker", "columns missing"),
        ("path,text,text", "column twice"),
        ("", "manifest empty"),
    ):
        assert run_add(table(recordings / "m.csv", [], header), into)["faults"][0]["name"] == name
    tabs = table(recordings / "m.tsv", ["1.wav\tno, thanks\tanna\ten"], "path\ttext\tvoice\tlanguage")
    assert accepted(run_add(tabs, into), "text") == {"1.wav": "no, thanks"}


def test_invalid_values(recordings: Path, into: Path) -> None:
    rows = [
        "0.wav,yes,anna,en,holdout,",
        "1.wav,no,anna,en,test,true",
        "2.wav,no,anna,en,,perhaps",
        "3.wav,stop,bert,en,,true",
        "4.wav,go,carl,en,dev,",
    ]
    report = run_add(table(recordings / "m.csv", rows, "path,text,speaker,language,split,synthetic"), into)
    assert accepted(report, "split") == {"3.wav": "train", "4.wav": "dev"}
    assert lines(report) == {
        2: "split 'holdout', expected train, dev, test",
        3: "synthetic speech in test, expected only in train",
        4: "synthetic 'perhaps', expected true or false",
    }


def test_a_file_whose_digest_differs_from_the_manifest_is_refused(recordings: Path, into: Path) -> None:
    rows = [f"0.wav,yes,anna,en,{'0' * 64}"]
    report = run_add(table(recordings / "m.csv", rows, "path,text,speaker,language,sha256"), into)
    assert "SHA-256" in refused(report)["0.wav"]


def test_unlisted_recordings_are_reported(recordings: Path, into: Path) -> None:
    table(recordings / "manifest.csv", ["0.wav,yes,anna,en", "1.wav,ragged"])
    report = run_add(recordings, into)
    assert report["layout"] == "csv (manifest.csv, with a column path)"
    assert accepted(report, "text") == {"0.wav": "yes"}
    assert {path: reason for path, reason in refused(report).items() if path != "1.wav"} == {
        f"{number}.wav": "no row refers to it" for number in range(2, 6)
    }
    assert len(report["refuse"]) == 5


def test_outside_files_are_read_if_allowed(recordings: Path, into: Path, tmp_path: Path) -> None:
    outside = record(tmp_path / "elsewhere/x.wav", 77)
    path = table(recordings / "m.csv", [f"{outside},yes,anna,en", "../elsewhere/x.wav,yes,anna,en"])
    assert not run_add(path, into)["take"]
    report = run_add(path, into, allow_outside=True)
    assert len(report["take"]) == 1
    assert lines(report) == {3: "is already on line 2"}


def test_a_table_of_many_and_very_long_lines(tmp_path: Path, into: Path) -> None:
    path = tmp_path / "m.csv"
    with path.open("w") as file:
        file.write("path,text\n" + "x" * (3 * LONGEST_LINE) + "\n")
        file.writelines(f"{number}.wav,no\n" for number in range(20_000))
    report = run_add(path, into, speaker="anna", language="en")
    assert report["counts"] == {"take": 0, "have": 0, "refuse": 20_001}
    assert lines(report)[2].startswith("a line of more than")
    assert max(lines(report)) == 20_002
