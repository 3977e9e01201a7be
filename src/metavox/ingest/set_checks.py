"""Checks of all rows together: duplicates, contradictions, splits, and the quality gate's rules for the whole set."""

from collections import defaultdict

import pandas as pd

from metavox.dataset.manifest import COLUMNS
from metavox.ingest.existing import Corpus
from metavox.ingest.ledger import Ledger
from metavox.params import Validate
from metavox.quality import Fault, judge_set

SPLIT_CHECKS = ("speaker on one split", "speaker group on one split")  # made here, with the corpus's splits
NAMES_SHOWN = 3


def check_set(ledger: Ledger, corpus: Corpus, limits: Validate) -> tuple[list[Fault], list[Fault]]:
    """(faults that stop the add, warnings). Gives every accepted row its split."""
    ledger.resolve_duplicates()
    faults, warnings = _assign_splits(ledger, corpus)
    new = [
        {**details["row"], "path": f"{path}#{n}", "split": split}
        for n, path, split, details in ledger.accepted()
    ]
    if new:
        set_faults, set_warnings = _judge(pd.DataFrame(new), corpus, limits)
        faults += [fault for fault in set_faults if fault.name not in SPLIT_CHECKS]
        warnings += set_warnings
    return faults, warnings


def _assign_splits(ledger: Ledger, corpus: Corpus) -> tuple[list[Fault], list[Fault]]:
    """Keep every speaker and speaker group in one split.

    That is the split in the corpus, or else the one that any of their rows gives, or else train. Two splits for one
    speaker or group are a fault.
    """
    known = {column: corpus.splits_by(column) for column in ("speaker", "speaker_group")}
    declared = ledger.speaker_splits()
    splits: dict[tuple[str, str], set[str]] = defaultdict(set)
    for speaker, speaker_group, split, _ in declared:
        for column, name in {("speaker", speaker), ("speaker_group", speaker_group)}:
            splits[column, name] |= {split} - {""}
            splits[column, name] |= {known[column][name]} if name in known[column] else set()
    faults = []
    speakers = {speaker for speaker, *_ in declared}
    for (column, name), of_name in sorted(splits.items()):
        if len(of_name) > 1 and (column == "speaker" or name not in speakers):
            in_corpus = f", and {known[column][name]} in the corpus" if name in known[column] else ""
            kind = column.replace("_", " ")
            explanation = (
                f"{kind} {name} is in {' and '.join(sorted(of_name))}{in_corpus}, expected one split"
            )
            faults.append(Fault(f"{kind} on one split", explanation))
    by_default = set()
    for speaker, speaker_group, split, accepted in declared:
        if accepted and split == "":
            of_name = splits["speaker", speaker] or splits["speaker_group", speaker_group]
            if not of_name:
                by_default.add(speaker)
            ledger.assign_split(speaker, speaker_group, min(of_name) if of_name else "train")
    if not by_default:
        return faults, []
    names = ", ".join(sorted(by_default)[:NAMES_SHOWN])
    if len(by_default) > NAMES_SHOWN:
        names += f" and {len(by_default) - NAMES_SHOWN} more"
    explanation = f"{names}: assigned to train; choose another split with --split dev or --split test"
    return faults, [Fault("no split given", explanation)]


def _judge(new: pd.DataFrame, corpus: Corpus, limits: Validate) -> tuple[list[Fault], list[Fault]]:
    """(faults, warnings) that the gate finds in the corpus with the new rows and not in the corpus alone."""
    existing = corpus.rows[list(COLUMNS)].copy()
    existing["synthetic"] = existing["synthetic"].str.lower().isin(("true", "1"))
    for name in ("duration_s", "sample_rate"):
        existing[name] = pd.to_numeric(existing[name], errors="coerce")
    together = new
    if len(existing):
        together = pd.concat([existing, new[list(COLUMNS)]], ignore_index=True)
    after = judge_set(together, limits)
    before = judge_set(existing, limits) if len(existing) and any(after) else ([], [])
    faults, warnings = (
        [fault for fault in now if fault not in earlier] for now, earlier in zip(after, before, strict=True)
    )
    return faults, warnings
