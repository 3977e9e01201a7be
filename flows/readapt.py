"""The loop: learn from new recordings, compare what was learned with the model that is served, and promote it or not.

    python -m flows.readapt INBOX [--base whisper-tiny.en] [-- --layout folders --speaker me --language en]

The served model is the folder `champion/`; the recordings are in `field/`, and `field.csv` says what was decided about each.
`policy.yaml` decides. The inbox is only read.
"""

import argparse
import hashlib
import json
import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact

from flows.collect import add, metavox, split_at_dashes
from flows.command import add_shared_options, run_command, start_prefect
from flows.lock import only_writer
from flows.tasks import WAIT_S, run_name
from metavox.dataset.manifest import read_manifest, resolve, write_manifest
from metavox.errors import UserError
from metavox.files import content_digest, write_json, written_aside
from metavox.promotion import versions
from metavox.promotion.policy import LearnPolicy, load_policy
from metavox.promotion.versions import CHAMPION, DECISIONS, FIELD
from metavox.telemetry import disable_telemetry

FOLDER = Path(".metavox/readapt")
POLICY = "policy.yaml"
DELTA, ALWAYS = (
    "field",
    "always.json",
)  # the delta that every request uses, unless it names another vocabulary
ACCEPTED, REFUSED = "accepted", "refused"
COLUMNS = ["sha256", "batch", "use", "decision"]
TRAIN, JUDGE = "train", "judge"


@flow(name="readapt", flow_run_name=run_name("readapt"), validate_parameters=True)
def readapt(
    inbox: str,
    options: list[str] | None = None,
    base: str = "whisper-tiny.en",
    project: str = ".",
    wait_s: float = WAIT_S,
) -> dict[str, Any]:
    """Learn from the recordings in an inbox, and promote what was learned if the policy says so.

    Args:
        inbox: A folder or archive of labelled recordings, which is only read.
        options: Options of `metavox corpus add`, such as --layout folders.
        base: The base model of the first champion; later runs go on from the champion.
        project: The checkout, a git repository with DVC.
        wait_s: How long to wait for another flow in this checkout, in seconds.
    """
    folder, logger = Path(project).resolve(), get_run_logger()
    with only_writer(folder, f"readapt {inbox}", wait_s, logger.warning) as lock:
        if versions.recover(folder):
            logger.warning("a promotion was interrupted before its commit, and was undone")
        counts = add(folder, Path(inbox).resolve(), [*(options or []), "--into", str(FIELD)], lock)["counts"]
        outcome = decide_about(folder, base, lock)
    logger.info("%s: %s", outcome["outcome"], outcome["why"])
    return {"added": counts["take"], "known": counts["have"], "refused": counts["refuse"], **outcome}


def decide_about(project: Path, base: str, lock: int) -> dict[str, Any]:
    """Decide about all recordings of `field/` that no decision names: what was decided, why, and the champion's version."""
    policy = load_policy(project / POLICY)
    rows, decided = read_field(project)
    batch = rows[~rows["sha256"].isin(decided["sha256"])]
    present = versions.champion(project)
    version = present.name if present else ""
    if len(batch) < policy.learn.min_recordings:
        why = f"{len(batch)} recordings wait for a decision; {policy.learn.min_recordings} are enough to learn from"
        versions.commit(project, why)
        return {"outcome": "wait", "why": why, "version": version}
    if not (project / CHAMPION).is_dir():
        _checked(project, lock, "champion", "start", base, "--out", str(project / CHAMPION))
    folder = project / FOLDER
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    batch = batch.assign(use=use_of(batch["sha256"], policy.learn))
    name = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S}"
    verdict = compare(project, batch.assign(set="newest"), None, lock)
    if verdict["decision"] != "refuse":
        known = rows.merge(decided[decided["decision"] == ACCEPTED][["sha256", "use"]], on="sha256")
        learned = pd.concat([known[known["use"] == TRAIN], batch[batch["use"] == TRAIN]])
        challenger = teach(project, learned, policy.learn, lock)
        judged = pd.concat(
            [
                known[known["use"] == JUDGE].assign(set="fixed"),
                batch[batch["use"] == JUDGE].assign(set="newest"),
            ]
        )
        verdict = {"batch": verdict, **compare(project, judged, challenger, lock)}
    show(name, batch, verdict)
    decision = REFUSED if verdict["decision"] == "refuse" else ACCEPTED
    write_decisions(project, pd.concat([decided, batch.assign(batch=name, decision=decision)[COLUMNS]]))
    if verdict["decision"] != "promote":
        versions.dvc(project, "add", "--quiet", str(FIELD), *([] if present else [str(CHAMPION)]))
        versions.commit(project, f"batch {name} {decision}: {verdict['why']}")
        return {"outcome": verdict["decision"], "why": verdict["why"], "version": version}
    with written_aside(project / CHAMPION) as aside:
        shutil.copytree(challenger, aside)
    record = record_of(project, name, learned, verdict)
    return {"outcome": "promote", "why": verdict["why"], "version": versions.promote(project, record).name}


def read_field(project: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The recordings of `field/`, and the decisions about them."""
    manifest = project / FIELD / "manifest.csv"
    rows = read_manifest(manifest)
    rows = rows.assign(path=[str(resolve(manifest, path)) for path in rows["path"]])
    path = project / DECISIONS
    decided = pd.read_csv(path, dtype=str) if path.is_file() else pd.DataFrame(columns=COLUMNS)
    return rows, decided


def write_decisions(project: Path, decided: pd.DataFrame) -> None:
    with written_aside(project / DECISIONS) as aside:
        decided.to_csv(aside, index=False)


def use_of(digests: "pd.Series[str]", policy: LearnPolicy) -> list[str]:
    """Whether each recording teaches or judges. The digest of a recording decides, so it is the same at any time."""
    share = int(policy.held_out * 2**32)
    return [
        JUDGE if int(hashlib.sha256(digest.encode()).hexdigest()[:8], 16) < share else TRAIN
        for digest in digests
    ]


@task(persist_result=False)
def teach(project: Path, rows: pd.DataFrame, policy: LearnPolicy, lock: int) -> Path:
    """Teach a challenger: the champion's base with a delta of all accepted recordings and the batch's."""
    challenger = project / FOLDER / "challenger"
    shutil.rmtree(challenger, ignore_errors=True)
    shutil.copytree(project / CHAMPION, challenger, ignore=shutil.ignore_patterns("deltas"))
    manifest = project / FOLDER / "train.csv"
    write_manifest(rows, manifest)
    out = challenger / "deltas" / DELTA
    out.parent.mkdir()
    _checked(
        project,
        lock,
        "adapt",
        *(str(manifest), "--out", str(out), "--base", str(challenger), "--kind", policy.kind),
    )
    write_json(challenger / ALWAYS, [DELTA])
    return challenger


@task(persist_result=False)
def compare(project: Path, rows: pd.DataFrame, challenger: Path | None, lock: int) -> dict[str, Any]:
    """The report of `metavox compare` on recordings with a column `set`."""
    name = "compared" if challenger else "checked"
    manifest, report = (project / FOLDER / f"{name}.{kind}" for kind in ("csv", "json"))
    rows[["path", "text", "speaker", "language", "environment", "set"]].to_csv(manifest, index=False)
    _checked(
        project,
        lock,
        "compare",
        *(str(manifest), "--champion", str(project / CHAMPION), "--policy", str(project / POLICY)),
        *(["--challenger", str(challenger)] if challenger else []),
        *("--json", str(report)),
    )
    found: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
    return found


def _checked(project: Path, lock: int, *arguments: str) -> None:
    """Run a command of metavox. Raises UserError with its own line if it fails."""
    status, lines = metavox(project, lock, *arguments)
    if status:
        own = [line.removeprefix("metavox: ") for line in lines if line.startswith("metavox: ")]
        raise UserError(own[-1] if own else f"metavox {arguments[0]} ended with exit status {status}")


def record_of(project: Path, batch: str, learned: pd.DataFrame, verdict: dict[str, Any]) -> dict[str, Any]:
    """What a version came from and why it was promoted."""
    versions.dvc(project, "add", "--quiet", str(FIELD))
    present = versions.champion(project)
    return {
        "version": versions.next_name(project),
        "parent": present.name if present else "",
        "batch": batch,
        "why": verdict["why"],
        "decided": {"by": POLICY, "policy": hashlib.sha256((project / POLICY).read_bytes()).hexdigest()[:12]},
        "commit": versions.head(project),
        "data": versions.digest_of(project / "field.dvc"),
        "model": content_digest(project / CHAMPION),
        "metrics": verdict["sets"],
        "recordings": sorted(learned["sha256"]),
    }


def show(name: str, batch: pd.DataFrame, verdict: dict[str, Any]) -> None:
    """Publish the decision and its figures on Prefect's pages."""
    create_markdown_artifact(
        f"**{verdict['decision']}**: {verdict['why']}",
        key="decision",
        description=f"Batch {name}, {len(batch)} recordings",
    )
    rows = [
        {"set": name, **{k: v for k, v in found.items() if k != "change"}}
        for name, found in verdict.get("sets", {}).items()
    ]
    if rows:
        create_table_artifact(rows, key="comparison", description="Error rates of champion and challenger")


def main() -> None:
    """`python -m flows.readapt INBOX`."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.readapt", description="Learn from new recordings, and promote what is better."
    )
    parser.add_argument("inbox", type=Path, help="a folder or archive that `metavox corpus add` can read")
    parser.add_argument("--base", default="whisper-tiny.en", help="the base of the first champion")
    parser.epilog = "Everything after -- is an option of `metavox corpus add`."
    add_shared_options(parser)
    own, options = split_at_dashes(sys.argv[1:])
    arguments = parser.parse_args(own)
    run_command(lambda: _run(arguments, options))


def _run(arguments: argparse.Namespace, options: list[str]) -> None:
    project = arguments.project.resolve()
    load_policy(project / POLICY)
    disable_telemetry()
    start_prefect(project)
    wait_s = WAIT_S if arguments.wait is None else arguments.wait
    result = readapt(str(arguments.inbox.resolve()), options, arguments.base, str(project), wait_s)
    added = f"{result['added']} added, {result['known']} known, {result['refused']} refused"
    print(
        f"metavox: {added}; {result['outcome']}: {result['why']}; champion {result['version'] or 'none'}",
        flush=True,
    )


if __name__ == "__main__":
    main()
