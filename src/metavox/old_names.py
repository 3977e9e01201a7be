"""Old names that people's files may still contain, and the current ones. metavox reads both and prints a notice."""

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

# Columns of manifests.
COLUMNS = {"voice": "speaker", "person": "speaker_group"}

# Keys of params.yaml.
PARAMS = {
    "features.window_ms": "features.window_s",
    "features.hop_ms": "features.hop_s",
    "encoder.places": "encoder.position_features",
    "validate.min_test_voices": "validate.min_test_speakers",
    "validate.min_language_voices": "validate.min_language_speakers",
    "metatrain.softmax": "metatrain.classifier_weight",
    "metatrain.pairs": "metatrain.contrastive_weight",
    "metatrain.recorded": "metatrain.recorded_oversampling",
    "metatrain.longest_word_s": "metatrain.max_word_s",
    "metatrain.bank": "metatrain.cohort_size",
    "metatrain.new_words": "metatrain.reversed_words",
    "metatrain.mixed": "metatrain.conditions_per_task",
    "metatrain.by": "metatrain.task_by",
    "adapt.max_voices": "adapt.max_speakers",
}

# Values of params.yaml and of command options.
PAIRINGS = {"cross-voice": "cross-speaker", "same-voice": "same-speaker"}

# Keys in the JSON of artifacts.
ARTIFACTS = {
    "window_ms": "window_s",
    "hop_ms": "hop_s",
    "places": "position_features",
    "background": "cohort",
}

_printed: set[tuple[str, int]] = set()  # notices with the modification time of their file


def current(names: Mapping[str, str], values: Mapping[str, Any]) -> dict[str, Any]:
    """Rename the keys of `values`, converting milliseconds to seconds. A value under the new name takes precedence."""
    out: dict[str, Any] = {}
    for name, value in values.items():
        new = names.get(name, name)
        if name.endswith("_ms") and new.endswith("_s"):
            value = round(value * 0.001, 9)
        if new == name or new not in values:
            out[new] = value
    return out


def current_params(values: Mapping[str, Any]) -> dict[str, Any]:
    """Rename the keys in the sections of params.yaml, with one line of notice if any is old."""
    out: dict[str, Any] = {}
    old: list[str] = []
    for section, inside in values.items():
        if not isinstance(inside, dict):
            out[section] = inside
            continue
        names = {
            name.partition(".")[2]: new.partition(".")[2]
            for name, new in PARAMS.items()
            if name.startswith(f"{section}.")
        }
        old += [f"{section}.{name}" for name in inside if name in names]
        out[section] = current(names, inside)
        if "voice" in (by := out[section].get("task_by") or ()):
            old.append("metatrain.task_by voice")
            out[section]["task_by"] = [COLUMNS.get(name, name) for name in by]
        pairing = out[section].get("pairing")
        if pairing in PAIRINGS:
            old.append(f"{section}.pairing {pairing}")
            out[section]["pairing"] = PAIRINGS[pairing]
    if old:
        values = {f"metatrain.pairing {a}": b for a, b in PAIRINGS.items()}
        notice("params.yaml", old, PARAMS | values | {"metatrain.task_by voice": "speaker"})
    return out


def notice(where: str, old: Iterable[str], names: Mapping[str, str]) -> None:
    """Print one line on standard error that maps the old names in a file to the new ones.

    A file that a command reads several times has the line once, unless the file changes.
    """
    changes = ", ".join(f"{name} is now {names[name]}" for name in old)
    line, file = f"metavox: {where}: old names are still read: {changes}", Path(where)
    seen = (line, file.stat().st_mtime_ns) if file.is_file() else None
    if seen not in _printed:
        print(line, file=sys.stderr)
    if seen:
        _printed.add(seen)
