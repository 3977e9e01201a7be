"""Conclude about a batch of recordings: commit the decision, keep its history, and tell of it."""

import hashlib
import shutil
from pathlib import Path
from typing import Any

from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.events import emit_event

from flows import journal
from flows.field import Batch
from metavox.files import content_digest, written_aside
from metavox.promotion import canary, history, versions
from metavox.promotion.versions import CHAMPION, FIELD

POLICY = "policy.yaml"
EVENT = "metavox.champion"  # a promotion, a canary, or its end


def conclude(project: Path, batch: Batch, verdict: dict[str, Any], decision: str) -> dict[str, Any]:
    """Commit the decision: a new champion, a canary, or the champion that stays."""
    outcome, why = verdict["decision"], verdict["why"]
    share = batch.policy.promote.canary if versions.champion(project) else 0.0
    if outcome == "promote" and share:
        outcome = "canary"
    version = versions.next_name(project) if outcome == "promote" else champion_name(project)
    history.add(project, history_row(batch, verdict) | {"outcome": outcome, "version": version})
    if outcome == "promote":
        with written_aside(project / CHAMPION) as aside:
            shutil.copytree(verdict["challenger"], aside)
        versions.promote(project, record_of(project, batch, verdict))
        told("promoted", project, version=version, why=why)
    elif outcome == "canary":
        canary.place(project, verdict["challenger"], record_of(project, batch, verdict), share)
        told("canary", project, share=share, why=why)
    else:
        first = [] if versions.champion(project) else [str(CHAMPION)]
        versions.dvc(project, "add", "--quiet", str(FIELD), *first)
        versions.commit(project, f"batch {batch.name} {decision}: {why}")
    return {"outcome": outcome, "why": why, "version": champion_name(project)}


def champion_name(project: Path) -> str:
    """The champion's version; empty before the first promotion."""
    present = versions.champion(project)
    return present.name if present else ""


def decided_by(project: Path) -> dict[str, Any]:
    return {"by": POLICY, "policy": hashlib.sha256((project / POLICY).read_bytes()).hexdigest()[:12]}


def record_of(project: Path, batch: Batch, verdict: dict[str, Any]) -> dict[str, Any]:
    """What a model came from and why it was chosen."""
    versions.dvc(project, "add", "--quiet", str(FIELD))
    return {
        "version": versions.next_name(project),
        "parent": champion_name(project),
        "batch": batch.name,
        "why": verdict["why"],
        "decided": decided_by(project),
        "commit": versions.head(project),
        "data": versions.digest_of(project / "field.dvc"),
        "model": content_digest(verdict["challenger"]),
        "metrics": verdict["sets"],
        "recordings": sorted(batch.learned()["sha256"]),
        "run": journal.run_id(),
    }


def history_row(batch: Batch, verdict: dict[str, Any]) -> dict[str, Any]:
    """The line of history.csv, without the outcome."""
    row = {
        "batch": batch.name,
        "why": verdict["why"],
        "recordings": len(batch.rows),
        "error_rate": verdict["error_rate"],
        "confidence": verdict["confidence"],
        "contradicted": verdict["contradicted"]["mean"],
        "drifted": ";".join(verdict["drifted"]),
        "run": journal.run_id(),
    }
    for name in ("fixed", "newest"):
        if found := verdict.get("sets", {}).get(name):
            after = found["challenger" if verdict["decision"] == "promote" else "champion"]
            row |= {f"{name}_before": found["champion"], f"{name}_after": after}
    return row


def told(what: str, project: Path, **values: Any) -> None:
    """Say it in the journal, and as an event on Prefect's server, which `flows.deploy --webhook` passes on."""
    journal.record(project, what, **values)
    resource = {"prefect.resource.id": "metavox.champion", "prefect.resource.name": "champion"}
    emit_event(EVENT, resource=resource, payload={"what": what, **values})


def show(batch: Batch, verdict: dict[str, Any]) -> None:
    """Publish the decision and its figures on Prefect's pages."""
    create_markdown_artifact(
        f"**{verdict['decision']}**: {verdict['why']}",
        key="decision",
        description=f"Batch {batch.name}, {len(batch.rows)} recordings",
    )
    rows = [
        {"set": name, **{k: v for k, v in found.items() if k != "change"}}
        for name, found in verdict.get("sets", {}).items()
    ]
    if rows:
        create_table_artifact(rows, key="comparison", description="Error rates of champion and challenger")
