"""Released rows pass; a changed recording, a new fault and an undecodable recording do not."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from prepared_rows import LIMITS, good_rows, planted

from metavox.errors import UserError
from metavox.quality import judge
from metavox.quality.released import COLUMNS, read_released, write_released

CLIPPED: dict[str, Any] = {"clipping": 0.5}


def released(rows: pd.DataFrame, *indices: int, reasons: str) -> pd.DataFrame:
    table = rows.loc[list(indices), ["content", "path"]]
    return table.assign(reasons=reasons, because="heard")[COLUMNS]


def test_a_released_row_passes() -> None:
    rows = planted({4: CLIPPED, 5: CLIPPED})
    verdict = judge(rows, LIMITS, released(rows, 4, reasons="clipping"))
    assert list(verdict.quarantine["path"]) == [rows["path"][5]]
    pd.testing.assert_frame_equal(verdict.clean, rows.drop(index=5).reset_index(drop=True))
    assert (verdict.statistics["released"], verdict.statistics["reasons"]) == (1, {"clipping": 1})


def test_a_moved_recording_stays_released_but_a_changed_one_does_not() -> None:
    rows = planted({4: CLIPPED})
    table = released(rows, 4, reasons="clipping")
    moved = rows.assign(path="elsewhere/" + rows["path"])
    assert judge(moved, LIMITS, table).quarantine.empty
    rows.loc[4, "content"] = "f" * 64
    assert len(judge(rows, LIMITS, table).quarantine) == 1


def test_a_release_from_one_fault_does_not_cover_another() -> None:
    rows = planted({4: {**CLIPPED, "text": "<b>two</b>"}})
    assert len(judge(rows, LIMITS, released(rows, 4, reasons="clipping")).quarantine) == 1
    assert judge(rows, LIMITS, released(rows, 4, reasons="markup; clipping")).quarantine.empty


@pytest.mark.parametrize(
    "fault", [{"error": "is empty"}, {"snr_db": float("nan")}], ids=["undecodable", "unmeasured"]
)
def test_unusable_recordings_cannot_be_released(fault: dict[str, Any]) -> None:
    rows = planted({4: fault})
    assert len(judge(rows, LIMITS, released(rows, 4, reasons="undecodable; unmeasured")).quarantine) == 1


def test_only_the_released_row_of_a_contradiction_passes() -> None:
    rows = planted({11: {"content": "d" * 64}, 12: {"content": "d" * 64}})
    verdict = judge(rows, LIMITS, released(rows, 11, reasons="contradiction"))
    assert list(verdict.quarantine["path"]) == [rows["path"][12]]


def test_released_rows_do_not_count_as_quarantined() -> None:
    rows = planted(dict.fromkeys(range(40), CLIPPED))
    assert not judge(rows, LIMITS).success
    assert judge(rows, LIMITS, released(rows, *range(40), reasons="clipping")).success


def test_rows_without_a_digest_are_not_released_together() -> None:
    rows = planted({4: CLIPPED, 5: CLIPPED}).assign(content="")
    assert len(judge(rows, LIMITS, released(rows, 4, reasons="clipping")).quarantine) == 2


def test_the_file_is_sorted_and_reads_back(tmp_path: Path) -> None:
    table = released(good_rows(), 9, 2, 5, reasons="clipping")
    write_released(table, tmp_path / "one.csv")
    write_released(table.iloc[::-1], tmp_path / "two.csv")
    assert (tmp_path / "one.csv").read_bytes() == (tmp_path / "two.csv").read_bytes()
    read = read_released(tmp_path / "one.csv")
    assert list(read["path"]) == sorted(table["path"])
    assert read_released(tmp_path / "none.csv").empty


def test_a_file_with_other_columns_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "released.csv").write_text("path,why\na,b\n")
    with pytest.raises(UserError, match="columns path,why; expected content,path,reasons,because"):
        read_released(tmp_path / "released.csv")
    (tmp_path / "released.csv").write_text("")
    with pytest.raises(UserError, match="cannot be read"):
        read_released(tmp_path / "released.csv")


def test_empty_file_of_the_project_releases_nothing() -> None:
    table = read_released(Path(__file__).parents[2] / "released.csv")
    assert list(table.columns) == COLUMNS
    assert len(judge(planted({4: CLIPPED}), LIMITS, table).quarantine) == 1
