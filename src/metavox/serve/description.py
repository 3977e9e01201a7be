"""Descriptions of stored deltas, as the HTTP service and the command line show them."""

from collections.abc import Mapping
from typing import Any

from metavox.serve.store import Entry

OBJECTS = {"voices": "voice", "vocabularies": "vocabulary"}


def describe_entry(entry: Entry) -> dict[str, object]:
    """Describe a delta without its tensors, as JSON values."""
    about, words = entry.about, entry.words
    out: dict[str, object] = {
        "id": entry.name,
        "object": OBJECTS[entry.kind],
        "created": entry.created,
        "bytes": entry.bytes,
        "base": entry.base,
        "base_name": about.get("base_name", ""),
        "sections": summary(entry.sections),
        "files": about.get("recordings", about.get("shots", 0)),
        "read_only": entry.read_only,
        "expected": about.get("expected"),
        "expected_voices": about.get("expected_voices"),
        "guards": about.get("guards"),
        "why": about.get("why", ""),
        "remarks": about.get("remarks", []),
        "expectations": about.get("expectations", []),
    }
    if words:
        out |= {"words": words["words"], "threshold": words["threshold"], "embedder": words["embedder"]}
    return out


def summary(sections: Mapping[str, Any]) -> dict[str, object]:
    """Count what each section of a delta holds."""
    out: dict[str, object] = {}
    if names := sections.get("weights"):
        out["weights"] = {"changed": len(names)}
    if lora := sections.get("lora"):
        out["lora"] = {"rank": lora["rank"], "alpha": lora["alpha"], "targets": len(lora["targets"])}
    if rows := sections.get("output_rows"):
        out["output_rows"] = {"characters": rows["alphabet"]}
    if words := sections.get("vocabulary"):
        out["vocabulary"] = {"words": len(words["words"])}
    return out
