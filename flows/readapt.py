"""The loop: learn from new recordings, compare what was learned with the model that is served, and promote it or not.

    python -m flows.readapt INBOX [--base whisper-tiny.en] [-- --layout folders --speaker me --language en]

The served model is the folder `champion/`; the recordings are in `field/`, `field.csv` says what was decided about each, and
`history.csv` what about each batch. `policy.yaml` decides. The inbox is only read.
"""

import argparse
import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
from prefect import flow, get_run_logger

from flows import journal
from flows.challenge import FOLDER, judge, run_metavox
from flows.collect import add, split_at_dashes
from flows.command import add_shared_options, run_command, start_prefect
from flows.conclude import POLICY, champion_name, conclude, show
from flows.field import ACCEPTED, COLUMNS, REFUSED, Batch, read_field, use_of, write_decisions
from flows.lock import only_writer
from flows.repro import Checkout
from flows.tasks import WAIT_S, run_name
from metavox.promotion import versions
from metavox.promotion.policy import load_policy
from metavox.promotion.recovery import recover
from metavox.promotion.versions import CHAMPION, FIELD
from metavox.telemetry import disable_telemetry


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
    with (
        journal.flow_run(folder, "readapt"),
        only_writer(folder, f"readapt {inbox}", wait_s, logger.warning) as lock,
    ):
        if recover(folder):
            logger.warning("a promotion was interrupted before its commit, and was undone")
        source = Path(inbox).resolve()
        counts = add(folder, source, [*(options or []), "--into", str(FIELD)], lock)["counts"]
        outcome = decide_about(Checkout(folder, lock), base)
    logger.info("%s: %s", outcome["outcome"], outcome["why"])
    return {"added": counts["take"], "known": counts["have"], "refused": counts["refuse"], **outcome}


def decide_about(checkout: Checkout, base: str) -> dict[str, Any]:
    """Decide about all recordings of `field/` that no decision names: what was decided, why, and the champion's version."""
    project = checkout.project
    policy = load_policy(project / POLICY)
    rows, decided = read_field(project)
    waiting = rows[~rows["sha256"].isin(decided["sha256"])]
    if len(waiting) < policy.learn.min_recordings:
        why = f"{len(waiting)} recordings wait for a decision; {policy.learn.min_recordings} are enough to learn from"
        versions.commit(project, why)
        return {"outcome": "wait", "why": why, "version": champion_name(project)}
    if not (project / CHAMPION).is_dir():
        run_metavox(checkout, "champion", "start", base, "--out", str(project / CHAMPION))
    shutil.rmtree(project / FOLDER, ignore_errors=True)
    (project / FOLDER).mkdir(parents=True)
    batch = Batch(
        f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S}",
        waiting.assign(use=use_of(waiting["sha256"], policy.learn)),
        rows.merge(decided[decided["decision"] == ACCEPTED][["sha256", "use"]], on="sha256"),
        policy,
    )
    verdict = judge(checkout, batch)
    show(batch, verdict)
    decision = REFUSED if verdict["decision"] == "refuse" else ACCEPTED
    new = batch.rows.assign(batch=batch.name, decision=decision)[COLUMNS]
    write_decisions(project, pd.concat([decided, new]))
    return conclude(project, batch, verdict, decision)


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
