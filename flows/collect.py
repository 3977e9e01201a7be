"""Periodic collection: what lies in an inbox becomes part of the corpus, and the pipeline learns from it.

    python -m flows.collect INBOX [--stop-after validate] [-- --layout folders --speaker me --language en]

The inbox is only read. What the corpus holds already is known by its content, so that the same recordings may
lie there every night.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_table_artifact

from flows.command import add_shared_options, ends_in_one_line, start_prefect
from flows.lock import only_writer
from flows.process import run
from flows.project import read_stages, up_to
from flows.running import WAIT_S, run_stages
from metavox.dataset.manifest import read_manifest, resolve, write_manifest
from metavox.errors import UserError

HELD = Path(".metavox/collect")
ADD_TIMEOUT_S = 4 * 3600.0
DRIFTED = 1


@flow(name="collect", validate_parameters=True)
def collect(
    inbox: str,
    options: list[str] | None = None,
    project: str = ".",
    wait_s: float = WAIT_S,
    stop_after: str | None = None,
) -> dict[str, Any]:
    """Add `inbox` to the corpus; where something new came, look for drift and bring the stages up to date.

    `options` are those of `metavox corpus add`. `stop_after` names the last stage to run; empty is none, and by
    default it is the whole pipeline. Returns the counts of recordings taken, had and refused, whether the new
    ones differ from what the model in use learned from, and what came of each stage.
    """
    folder, logger = Path(project).resolve(), get_run_logger()
    with only_writer(folder, f"collect {inbox}", wait_s, logger.warning) as lock:
        found = add(folder, Path(inbox).resolve(), options or [], lock)
        counts = dict(found["counts"])
        if not counts["take"]:
            logger.info("nothing new in %s", inbox)
            return {**counts, "drifted": None, "stages": {}}
        drifted = look_for_drift(folder, found, lock)
    if stop_after == "":
        return {**counts, "drifted": drifted, "stages": {}}
    stages = read_stages(folder)
    outcomes = run_stages(folder, up_to(stages, stop_after) if stop_after else stages, wait_s)
    return {**counts, "drifted": drifted, "stages": outcomes}


@task(persist_result=False)
def add(project: Path, inbox: Path, options: list[str], lock: int) -> dict[str, Any]:
    """`metavox corpus add`; what it took and what it refused, also as an artifact."""
    report = project / HELD / "added.json"
    report.parent.mkdir(parents=True, exist_ok=True)
    report.unlink(missing_ok=True)
    status, lines = _metavox(project, lock, "corpus", "add", str(inbox), *options, "--json", str(report))
    found: dict[str, Any] = json.loads(report.read_text()) if report.is_file() else {}
    refused = [{"path": row["path"], "reasons": "; ".join(row["reasons"])} for row in found.get("refuse", ())]
    if refused:
        create_table_artifact(refused[:1000], key="refused", description=f"Not taken from {inbox}")
    if status and (not found or found["faults"]):  # a few that cannot be taken lie there every night
        own = [line.removeprefix("metavox: ") for line in lines if line.startswith("metavox: ")]
        raise UserError(own[-1] if own else f"corpus add ended with exit status {status}")
    if refused:
        get_run_logger().warning("%d recordings were not taken: %s", len(refused), refused[0])
    return found


@task(persist_result=False)
def look_for_drift(project: Path, found: dict[str, Any], lock: int) -> bool | None:
    """Whether what was taken differs from what the model in use learned from; None where that is not known."""
    manifest = project / "data/manifest.csv"
    rows = read_manifest(manifest)
    rows = rows[rows["sha256"].isin({row["sha256"] for row in found["take"]})]
    new = project / HELD / "new.csv"
    write_manifest(rows.assign(path=[str(resolve(manifest, path)) for path in rows["path"]]), new)
    status, lines = _metavox(project, lock, "corpus", "drift", str(new))
    if status not in (0, DRIFTED):
        get_run_logger().warning("drift: %s", lines[-1] if lines else f"exit status {status}")
        return None
    if status == DRIFTED:
        create_table_artifact(
            [{"drift": line} for line in lines],
            key="drift",
            description="New recordings are unlike the known",
        )
    return status == DRIFTED


def _metavox(project: Path, lock: int, *arguments: str) -> tuple[int, list[str]]:
    command = [sys.executable, "-m", "metavox", *arguments]
    return run(command, project, get_run_logger().info, ADD_TIMEOUT_S, keep_open=[lock])


def main() -> None:
    """`python -m flows.collect INBOX`."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.collect",
        description="Add new recordings to the corpus, and learn from them.",
    )
    parser.add_argument("inbox", type=Path, help="a folder or archive, as `metavox corpus add` takes it")
    parser.add_argument("--stop-after", metavar="NAME", help="the last stage to run; '' for none (all run)")
    add_shared_options(parser)
    parser.add_argument("options", nargs="*", help="after --: options of `metavox corpus add`")
    arguments = parser.parse_args()
    ends_in_one_line(lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> None:
    project = arguments.project.resolve()
    if arguments.stop_after:
        up_to(read_stages(project), arguments.stop_after)
    start_prefect(project)
    found = collect(
        str(arguments.inbox.resolve()),
        arguments.options,
        str(project),
        WAIT_S if arguments.wait is None else arguments.wait,
        arguments.stop_after,
    )
    said = [f"{found['take']} taken, {found['have']} known, {found['refuse']} refused"]
    said += ["unlike what the model learned from"] * bool(found["drifted"])
    said += [f"{name} {outcome}" for name, outcome in found["stages"].items()]
    print("metavox: " + "; ".join(said), flush=True)


if __name__ == "__main__":
    main()
