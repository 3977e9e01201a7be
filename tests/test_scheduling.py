"""The order of the tests, and which of them share a worker."""

from pathlib import Path

import pytest

from tests.scheduling import SHARING, LoadByFixture, longest_first

ROOT = Path(__file__).parents[1]


def test_the_folders_that_stay_together_exist() -> None:
    assert [folder for folder in SHARING if not (ROOT / folder).is_dir()] == []


@pytest.mark.parametrize(
    ("nodeid", "scope"),
    [
        ("tests/serve/test_launch.py::test_a", "tests/serve/"),
        ("tests/serve/test_deltas.py::test_b[x::y]", "tests/serve/"),
        ("tests/audio/test_read.py::test_c[x::y]", "tests/audio/test_read.py"),
    ],
)
def test_a_folder_with_a_server_is_one_unit_of_work_and_elsewhere_a_file_is(nodeid: str, scope: str) -> None:
    assert LoadByFixture._split_scope(LoadByFixture.__new__(LoadByFixture), nodeid) == scope


def test_the_longest_run_first_and_the_others_keep_their_order() -> None:
    names = ["tests/audio/b.py", "tests/audio/a.py", "tests/flows/c.py", "tests/e2e/d.py"]
    assert sorted(names, key=longest_first) == [
        "tests/e2e/d.py",
        "tests/flows/c.py",
        "tests/audio/b.py",
        "tests/audio/a.py",
    ]
