"""`metavox compare`: decide by a policy between the model that is served and one that was taught since."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from metavox.cli.options import Json, Manifest
from metavox.files import write_json

if TYPE_CHECKING:
    import pandas as pd

    from metavox.promotion.compare import Difference, Scored
    from metavox.session import Session

SET = "set"  # a column of the manifest: fixed or newest; without it, all recordings are the newest
SLICES = ("speaker", "environment", "language")


def compare(
    manifest: Manifest,
    champion: Annotated[Path, typer.Option(file_okay=False, help="The folder of the model that is served.")],
    challenger: Annotated[
        Path | None, typer.Option(file_okay=False, help="The folder of the model that may replace it.")
    ] = None,
    policy: Annotated[Path, typer.Option(dir_okay=False, help="The policy.")] = Path("policy.yaml"),
    json_file: Json = None,
) -> None:
    """Compare two models on recordings that neither learned from; without a challenger, check the labels.

    A folder is a base model, with deltas in its folder `deltas` that are always in use.
    """
    from metavox.cli.manifests import labelled, read
    from metavox.promotion.compare import contradicted, score
    from metavox.promotion.decide import decide, judge_batch
    from metavox.promotion.policy import load_policy

    rules = load_policy(policy)
    rows = labelled(manifest)
    session = served(champion)
    recordings = read(rows, manifest, session.rate)
    rows = rows[rows["path"].isin(recordings.paths)]
    before = score(session, recordings.samples, recordings.texts, recordings.languages)
    share = contradicted(before, rules.batch.sure)
    report: dict[str, Any] = {"recordings": len(recordings.texts), "contradicted": share.as_dict()}
    report["confidence"] = round(float(before.confidence.mean()), 6)
    report["error_rate"] = round(before.rate, 6)
    # A base that was not taught here does not know what its users say.
    taught = any(champion.glob("deltas/*/delta.json"))
    decision = judge_batch(share, rules.batch) if challenger is None and taught else None
    if challenger is not None:
        other = served(challenger)
        again = recordings if other.rate == session.rate else read(rows, manifest, other.rate)
        after = score(other, again.samples, again.texts, again.languages)
        sets = _sets(rows, before, after)
        report["sets"] = {name: found.as_dict() for name, found in sets.items()}
        decision = decide(sets, rules.promote)
    report |= (
        {"decision": decision.outcome, "why": decision.why} if decision else {"decision": "learn", "why": ""}
    )
    if json_file:
        write_json(json_file, report)
    typer.echo(f"{report['decision']}: {report['why'] or 'the labels agree with the champion'}")


def served(folder: Path) -> "Session":
    from metavox.recognisers.bases.find import find_base
    from metavox.recognisers.delta import load_delta
    from metavox.session import session_with

    session = session_with(find_base(str(folder)))
    return session.using([load_delta(file.parent) for file in sorted(folder.glob("deltas/*/delta.json"))])


def _sets(rows: "pd.DataFrame", before: "Scored", after: "Scored") -> "dict[str, Difference]":
    """The differences on the fixed and the newest recordings, and on slices of both together."""
    import numpy as np

    from metavox.promotion.compare import difference
    from metavox.promotion.decide import FIXED, NEWEST

    which = rows[SET].to_numpy() if SET in rows else np.full(len(rows), NEWEST)
    masks = {name: which == name for name in (FIXED, NEWEST)}
    for column in SLICES:
        if column in rows and rows[column].nunique() > 1:
            masks |= {
                f"{column} {value}": (rows[column] == value).to_numpy()
                for value in rows[column].unique()
                if value
            }
    return {
        name: difference(before, after, np.flatnonzero(mask)) for name, mask in masks.items() if mask.any()
    }
