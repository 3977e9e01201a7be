"""The stage list, the gate's lookup and DVC's leftover locks: no server needed."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.dvc_locks import RWLOCK, forget_dead_holders
from flows.gates import lookup, scalars
from flows.project import read_stages, up_to
from metavox.errors import UserError


def stages(folder: Path, **entries: Any) -> list[str]:
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": entries}))
    return [stage.name for stage in read_stages(folder)]


def test_stages_are_ordered_by_their_dependencies_even_inside_folders(tmp_path: Path) -> None:
    entries = {
        "report": {"cmd": "c", "deps": ["out/table.csv", "model"]},
        "table": {"cmd": "c", "deps": ["data/rows"], "outs": ["out"]},
        "train": {"cmd": "c", "deps": ["out"], "outs": [{"model": {"persist": True}}]},
    }
    assert stages(tmp_path, **entries) == ["table", "train", "report"]
    assert [stage.name for stage in up_to(read_stages(tmp_path), "train")] == ["table", "train"]


def test_a_dependency_that_params_name_is_followed(tmp_path: Path) -> None:
    entries = {
        "use": {"cmd": "c", "deps": ["${use.folder}"]},
        "make": {"cmd": "c", "outs": ["made"]},
        "other": {"cmd": "c", "outs": ["else"]},
    }
    for folder, needs in (("made", ("make",)), ("else", ("other",)), ("/somewhere", ())):
        (tmp_path / "params.yaml").write_text(f"use: {{folder: {folder}}}\n")
        stages(tmp_path, **entries)
        assert next(s.needs for s in read_stages(tmp_path) if s.name == "use") == needs


@pytest.mark.parametrize(
    ("entries", "line"),
    [
        (
            {"a": {"cmd": "c", "meta": {"pol": "gpu"}}},
            "stage a: unknown meta key pol; expected one of because, gate",
        ),
        ({"a": {"foreach": [1], "do": {"cmd": "c"}}}, "stage a has no `cmd`"),
        (
            {
                "a": {"cmd": "c", "deps": ["y"], "outs": ["x"]},
                "b": {"cmd": "c", "deps": ["x"], "outs": ["y"]},
            },
            "stages depend on each other in a cycle: a -> b -> a",
        ),
    ],
)
def test_unsupported_stages_are_one_line_errors(tmp_path: Path, entries: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError, match=line) as caught:
        stages(tmp_path, **entries)
    assert "\n" not in str(caught.value)


def test_a_folder_without_dvc_yaml_is_a_one_line_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file; run in the project's folder"):
        read_stages(tmp_path)


def test_dotted_keys() -> None:
    values = {"gate": {"passed": True, "reason": "x"}, "rows": [1], "n": 2}
    assert lookup(values, "gate.passed") is True
    assert lookup(values, "gate.nothing.there") is None
    assert scalars(values) == {"gate.passed": True, "gate.reason": "x", "n": 2}


def test_dvc_locks_are_kept_only_for_running_dvc_processes(tmp_path: Path) -> None:
    zombie = subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE)
    assert zombie.stdout is not None
    zombie.stdout.read()  # it has ended and nobody has waited for it: a zombie
    wait = [sys.executable, "-c", "print(flush=True); input()", "dvc", "repro"]
    with subprocess.Popen(wait, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as living:
        assert living.stdout is not None
        living.stdout.readline()  # before it runs, it has no command line to recognise it by
        holders = {"zombie": zombie.pid, "reused": os.getppid(), "living": living.pid}
        entries = {name: {"pid": pid, "cmd": "dvc repro"} for name, pid in holders.items()}
        path = tmp_path / RWLOCK
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({"write": entries, "read": {name: [entries[name]] for name in entries}}))
        notices = forget_dead_holders(tmp_path)
        remaining = json.loads(path.read_text())
        living.communicate(b"\n")
    zombie.wait()
    assert list(remaining["write"]) == list(remaining["read"]) == ["living"]
    assert len(notices) == 2
    assert any(str(zombie.pid) in line for line in notices)
    assert forget_dead_holders(tmp_path / "nowhere") == []
