"""Judge a batch of recordings: measure it, teach a challenger, compare it with the champion, confirm a canary."""

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
from prefect import get_run_logger, task

from flows.collect import DRIFTED, add, metavox
from flows.conclude import POLICY, decided_by, told
from flows.field import Batch
from flows.project import read_stages, up_to
from flows.repro import Checkout
from flows.tasks import run_locked
from metavox.dataset.manifest import write_manifest
from metavox.errors import UserError
from metavox.files import write_json
from metavox.promotion import canary, versions
from metavox.promotion.policy import LearnPolicy
from metavox.promotion.versions import CANARY, CHAMPION

FOLDER = Path(".metavox/readapt")
PROFILE = "data_profile.json"  # in a model's folder: what its training data was like
# The delta that every request uses, unless it names another vocabulary.
DELTA, ALWAYS = "field", "always.json"
RECOGNISER_STAGE, RECOGNISER = "metatrain", Path("artifacts/recogniser")


def run_metavox(checkout: Checkout, *arguments: str, accepted: tuple[int, ...] = (0,)) -> None:
    """Run a command of metavox. Raises UserError with its own line if it fails."""
    status, lines = metavox(checkout.project, checkout.lock, *arguments)
    if status not in accepted:
        own = [line.removeprefix("metavox: ") for line in lines if line.startswith("metavox: ")]
        raise UserError(own[-1] if own else f"metavox {arguments[0]} ended with exit status {status}")


@task(persist_result=False)
def drift_of(checkout: Checkout, rows: pd.DataFrame) -> list[str]:
    """The measures in which the recordings differ from what the champion learned from; empty without its profile."""
    profile = checkout.project / CHAMPION / PROFILE
    if not profile.is_file():
        return []
    manifest, report = (checkout.project / FOLDER / f"drift.{kind}" for kind in ("csv", "json"))
    write_manifest(rows, manifest)
    run_metavox(
        checkout,
        *("corpus", "drift", str(manifest), "--profile", str(profile), "--json", str(report)),
        accepted=(0, DRIFTED),
    )
    shifts = json.loads(report.read_text(encoding="utf-8"))["failed"]
    for shift in shifts:
        get_run_logger().warning("drift: %s: %s", shift["name"], shift["explanation"])
    return [str(shift["name"]) for shift in shifts]


@task(persist_result=False)
def teach(checkout: Checkout, rows: pd.DataFrame, policy: LearnPolicy, base: Path) -> Path:
    """Teach a challenger: the model in the folder `base` with a delta of the recordings; returns its folder."""
    challenger = checkout.project / FOLDER / "challenger"
    shutil.rmtree(challenger, ignore_errors=True)
    shutil.copytree(base, challenger, ignore=shutil.ignore_patterns("deltas", ALWAYS))
    manifest = checkout.project / FOLDER / "train.csv"
    write_manifest(rows, manifest)
    out = challenger / "deltas" / DELTA
    out.parent.mkdir()
    run_metavox(
        checkout, "adapt", str(manifest), "--out", str(out), "--base", str(challenger), "--kind", policy.kind
    )
    write_json(challenger / ALWAYS, [DELTA])
    run_metavox(checkout, "corpus", "profile", str(manifest), "--out", str(challenger / PROFILE))
    return challenger


@task(persist_result=False)
def compare(checkout: Checkout, rows: pd.DataFrame, challenger: Path | None = None) -> dict[str, Any]:
    """The report of `metavox compare` on recordings with a column `set`; without a challenger, of their labels."""
    project, name = checkout.project, "compared" if challenger else "checked"
    manifest, report = (project / FOLDER / f"{name}.{kind}" for kind in ("csv", "json"))
    rows[["path", "text", "speaker", "language", "environment", "set"]].to_csv(manifest, index=False)
    run_metavox(
        checkout,
        "compare",
        *(str(manifest), "--champion", str(project / CHAMPION), "--policy", str(project / POLICY)),
        *(["--challenger", str(challenger)] if challenger else []),
        *("--json", str(report)),
    )
    found: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
    return found


def judge(checkout: Checkout, batch: Batch) -> dict[str, Any]:
    """Check the batch, confirm or drop a canary by it, and compare a challenger with the champion if enough has changed.

    The result has the `decision` and `why`; if there was a comparison, its `sets` and the `challenger`'s folder.
    """
    checked = compare(checkout, batch.rows.assign(set="newest"))
    about = {name: checked[name] for name in ("error_rate", "confidence", "contradicted")}
    about["drifted"] = drift_of(checkout, batch.rows)
    if checked["decision"] == "refuse":
        return {**about, **checked}
    settle_canary(checkout, batch)
    change = batch.policy.change
    if checked["error_rate"] <= change.min_error and not about["drifted"]:
        why = (
            f"nothing to learn: the champion has {checked['error_rate']:.1%} errors of {len(batch.rows)} recordings, which "
            "are like those that it learned from"
        )
        return {**about, "decision": "keep", "why": why}
    base = checkout.project / CHAMPION
    if about["drifted"] and change.drifted == "retrain":
        base = retrain(checkout, batch)
    challenger = teach(checkout, batch.learned(), batch.policy.learn, base)
    return {**about, **compare(checkout, batch.judged(), challenger), "challenger": challenger}


def settle_canary(checkout: Checkout, batch: Batch) -> None:
    """Promote the canary if it is better on a whole batch that it has never seen, otherwise remove it."""
    project = checkout.project
    if canary.record_of(project) is None:
        return
    found = compare(checkout, batch.rows.assign(set="newest"), project / CANARY)
    if found["decision"] == "promote":
        version = canary.promote(project, decided_by(project), found["why"])
        told("promoted", project, version=version.name, why=found["why"])
    else:
        canary.discard(project)
        versions.commit(project, f"canary removed: {found['why']}")
        told("canary removed", project, why=found["why"])


def retrain(checkout: Checkout, batch: Batch) -> Path:
    """Add what the site's recordings teach to the corpus, bring the pipeline's recogniser up to date; returns its folder."""
    manifest = checkout.project / FOLDER / "retrain.csv"
    write_manifest(batch.learned(), manifest)
    add(checkout.project, manifest, ["--name", "field", "--allow-outside"], checkout.lock)
    stages = up_to(read_stages(checkout.project), RECOGNISER_STAGE)
    run_locked(checkout.project, stages, checkout.lock)
    return checkout.project / RECOGNISER
