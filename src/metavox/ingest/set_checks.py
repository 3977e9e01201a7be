"""What only all rows together show: twins, contradictions, sides, and what the gate says of the whole set."""

from collections import defaultdict

import pandas as pd

from metavox.dataset.manifest import COLUMNS
from metavox.ingest.existing import Corpus
from metavox.ingest.ledger import Ledger
from metavox.params import Validate
from metavox.quality import Fault, judge_set

SIDES = ("speaker on one split", "speaker group on one split")  # told here, with what the corpus has


def settle(ledger: Ledger, corpus: Corpus, limits: Validate) -> tuple[list[Fault], list[Fault]]:
    """(faults that stop, warnings); afterwards every row to take has its split."""
    ledger.settle_twins()
    faults, warnings = _put_on_sides(ledger, corpus)
    new = [{**what["row"], "path": f"{path}#{n}", "split": split} for n, path, split, what in ledger.taken()]
    if new:
        more, told = _judged(pd.DataFrame(new), corpus, limits)
        faults += [fault for fault in more if fault.name not in SIDES]
        warnings += told
    return faults, warnings


def _put_on_sides(ledger: Ledger, corpus: Corpus) -> tuple[list[Fault], list[Fault]]:
    """A speaker and a person stay where the corpus has them, or go where one of their rows says; else to train."""
    known = {column: corpus.sides(column) for column in ("speaker", "speaker_group")}
    declared = ledger.sides()
    said: dict[tuple[str, str], set[str]] = defaultdict(set)
    for speaker, speaker_group, split, _ in declared:
        for one in {("speaker", speaker), ("speaker_group", speaker_group)}:
            said[one] |= {split} - {""}
            said[one] |= {known[one[0]][one[1]]} if one[1] in known[one[0]] else set()
    faults, unsaid = [], set()
    for (column, name), splits in sorted(said.items()):
        if len(splits) > 1 and (column == "speaker" or name not in {speaker for speaker, *_ in declared}):
            there = f", and {known[column][name]} in the corpus" if name in known[column] else ""
            kind = column.replace("_", " ")
            told = f"{kind} {name} is in {' and '.join(sorted(splits))}{there}, expected one"
            faults.append(Fault(f"{kind} on one split", told))
    for speaker, speaker_group, split, taken in declared:
        if taken and split == "":
            sides = said["speaker", speaker] or said["speaker_group", speaker_group]
            if not sides:
                unsaid.add(speaker)
            ledger.put_on(speaker, speaker_group, min(sides) if sides else "train")
    if not unsaid:
        return faults, []
    names = ", ".join(sorted(unsaid)[:3]) + (f" and {len(unsaid) - 3} more" if len(unsaid) > 3 else "")
    return faults, [
        Fault("split not said", f"{names}: put in train; --split dev or test puts them elsewhere")
    ]


def _judged(new: pd.DataFrame, corpus: Corpus, limits: Validate) -> tuple[list[Fault], list[Fault]]:
    """What the gate says of the corpus with the new rows, and does not say of it without them."""
    there = corpus.rows[list(COLUMNS)].copy()
    there["synthetic"] = there["synthetic"].str.lower().isin(("true", "1"))
    for name in ("duration_s", "sample_rate"):
        there[name] = pd.to_numeric(there[name], errors="coerce")
    before = judge_set(there, limits) if len(there) else ([], [])
    after = judge_set(
        pd.concat([there, new[list(COLUMNS)]], ignore_index=True) if len(there) else new, limits
    )
    faults, warnings = (
        [one for one in now if one not in then] for now, then in zip(after, before, strict=True)
    )
    return faults, warnings
