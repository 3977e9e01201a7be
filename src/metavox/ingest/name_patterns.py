"""Infers from folder and file names what they say about recordings, as a pattern."""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence

SEPARATORS = "_- "
SPLITS = {"train", "dev", "test"}
SPLIT_NAMES = {*SPLITS, "training", "val", "valid", "validation", "eval", "evaluation", "testing"}
SPEAKER_ID = re.compile(r"(?i)[a-z]{1,8}[-_ ]?\d{1,6}")  # s01, spk-3, p225
# Words of well-known command data sets: names that contain them are texts.
COMMANDS = """
yes no up down left right on off stop go start pause play next back forward backward follow learn hello help
zero one two three four five six seven eight nine ten bed bird cat dog happy house tree wow visual
"""


def infer_pattern(paths: Iterable[Sequence[str]]) -> str:
    """The pattern that paths of recordings follow; empty if the names are ambiguous.

    Each path is a sequence of folder names and, last, the file name without its suffix. The depth of most paths
    decides; paths of other depths are ignored.
    """
    by_depth: dict[int, list[Sequence[str]]] = defaultdict(list)
    for parts in paths:
        by_depth[len(parts)].append(parts)
    depth = max(by_depth, key=lambda depth: len(by_depth[depth]), default=0)
    if depth == 1:
        return _infer_flat([parts[0] for parts in by_depth[1]])
    if depth == 2:
        return "{text}/{}"
    return _infer_nested([(parts[0], parts[1]) for parts in by_depth[3]]) if depth == 3 else ""


def _infer_nested(folders: list[tuple[str, str]]) -> str:
    """Two levels of folders: speaker and text in either order, or split and text."""
    outer, inner = {name for name, _ in folders}, {name for _, name in folders}
    if {name.lower() for name in outer} & SPLIT_NAMES:
        return "{split}/{text}/{}" if outer <= SPLITS and len(inner) > 1 else ""
    if len(inner) < 2 or (len(outer) > 1 and not _seconds_recur(folders)):
        return ""
    patterns = {"speaker": "{speaker}/{text}/{}", "text": "{text}/{speaker}/{}"}
    return patterns.get(_first_column(outer, inner), "")


def _infer_flat(names: list[str]) -> str:
    """Names such as anna_lights-on_01, all in one folder."""
    for separator in SEPARATORS:
        fields = [name.split(separator) for name in names]
        if len(names) > 1 and all(len(parts) > 1 for parts in fields):
            return _infer_fields(fields, separator)
    return ""


def _infer_fields(names: list[list[str]], separator: str) -> str:
    """The pattern of names that have been split at the separator."""
    numbered = all(parts[-1].isdigit() for parts in names)
    fields = [parts[:-1] if numbered else parts for parts in names]
    suffix = f"{separator}{{}}" if numbered else ""
    if all(len(parts) == 1 for parts in fields):
        texts = {parts[0] for parts in fields}
        return "{text}" + suffix if len(texts) > 1 and not all(text.isdigit() for text in texts) else ""
    if any(len(parts) == 1 for parts in fields):
        return ""
    pairs = [(parts[0], separator.join(parts[1:])) for parts in fields]
    firsts, seconds = {first for first, _ in pairs}, {second for _, second in pairs}
    if not numbered and len(firsts) == len(pairs) and all(first.isdigit() for first in firsts):
        return f"{{}}{separator}{{text}}" if len(seconds) > 1 else ""
    if len(firsts) < 2 or len(seconds) < 2 or not _seconds_recur(pairs):
        return ""
    first = _first_column(firsts, seconds)
    if first == "speaker":
        return f"{{speaker}}{separator}{{text}}{suffix}"
    if first == "text" and all(len(parts) == 2 for parts in fields):
        return f"{{text}}{separator}{{speaker}}{suffix}"
    return ""


def _seconds_recur(pairs: list[tuple[str, str]]) -> bool:
    """Whether a second name occurs under several first names, as a word that several speakers say does."""
    seen: dict[str, str] = {}
    return any(seen.setdefault(second, first) != first for first, second in pairs)


def _first_column(firsts: set[str], seconds: set[str]) -> str:
    """Which of two columns of names comes first, `speaker` or `text`; empty if it is ambiguous.

    Most people put the speaker first; speaker IDs, commands and names of several words can show otherwise.
    """

    def are_ids(names: set[str]) -> bool:
        return all(SPEAKER_ID.fullmatch(name) for name in names)

    def are_numbers(names: set[str]) -> bool:
        return all(name.isdigit() for name in names)

    def have_words(names: set[str]) -> bool:
        return any(
            name.lower() in COMMANDS.split() or re.search(r"[^\W\d_][-_ ][^\W\d_]", name) for name in names
        )

    if are_ids(firsts) != are_ids(seconds):
        return "speaker" if are_ids(firsts) else "text"
    if are_numbers(seconds) or are_ids(firsts) or (are_numbers(firsts) and not have_words(seconds)):
        return ""
    if have_words(firsts) != have_words(seconds):
        return "text" if have_words(firsts) else "speaker"
    return "speaker"
