"""What folder and file names say of recordings, worked out from the names themselves and given as a pattern."""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence

SEPARATORS = "_- "
SPLITS = {"train", "dev", "test"}
LIKE_SPLITS = {*SPLITS, "training", "val", "valid", "validation", "eval", "evaluation", "testing"}
SPEAKER_ID = re.compile(r"(?i)[a-z]{1,8}[-_ ]?\d{1,6}")  # s01, spk-3, p225
# Words of the well-known sets of commands: where they stand, the text stands.
COMMANDS = """
yes no up down left right on off stop go start pause play next back forward backward follow learn hello help
zero one two three four five six seven eight nine ten bed bird cat dog happy house tree wow visual
"""


def told_pattern(paths: Iterable[Sequence[str]]) -> str:
    """The pattern that paths of recordings follow; empty where the names leave it open.

    `paths` holds the folders and, last, the name without its suffix. Most of them decide how deep it is.
    """
    by_depth: dict[int, list[Sequence[str]]] = defaultdict(list)
    for parts in paths:
        by_depth[len(parts)].append(parts)
    depth = max(by_depth, key=lambda depth: len(by_depth[depth]), default=0)
    if depth == 1:
        return _flat([parts[0] for parts in by_depth[1]])
    if depth == 2:
        return "{text}/{}"
    return _nested([(parts[0], parts[1]) for parts in by_depth[3]]) if depth == 3 else ""


def _nested(folders: list[tuple[str, str]]) -> str:
    """Two levels of folders: who speaks and what is said, or the split and what is said."""
    outer, inner = {one for one, _ in folders}, {other for _, other in folders}
    if {name.lower() for name in outer} & LIKE_SPLITS:
        return "{split}/{text}/{}" if outer <= SPLITS and len(inner) > 1 else ""
    if len(inner) < 2 or (len(outer) > 1 and not _recur(folders)):
        return ""
    return {"speaker": "{speaker}/{text}/{}", "text": "{text}/{speaker}/{}"}.get(_first(outer, inner), "")


def _flat(names: list[str]) -> str:
    """Names such as anna_lights-on_01, all in one folder."""
    for sign in SEPARATORS:
        fields = [name.split(sign) for name in names]
        if len(names) > 1 and all(len(parts) > 1 for parts in fields):
            return _fields(fields, sign)
    return ""


def _fields(fields: list[list[str]], sign: str) -> str:
    numbered = all(parts[-1].isdigit() for parts in fields)
    rest = [parts[:-1] if numbered else parts for parts in fields]
    last = f"{sign}{{}}" if numbered else ""
    if all(len(parts) == 1 for parts in rest):
        texts = {parts[0] for parts in rest}
        return "{text}" + last if len(texts) > 1 and not all(text.isdigit() for text in texts) else ""
    if any(len(parts) == 1 for parts in rest):
        return ""
    numbers = [parts[0] for parts in rest]
    if not numbered and len(set(numbers)) == len(numbers) and all(number.isdigit() for number in numbers):
        return f"{{}}{sign}{{text}}" if len({tuple(parts[1:]) for parts in rest}) > 1 else ""
    pairs = [(parts[0], sign.join(parts[1:])) for parts in rest]
    firsts, others = {first for first, _ in pairs}, {other for _, other in pairs}
    if len(firsts) < 2 or len(others) < 2 or not _recur(pairs):
        return ""
    order = _first(firsts, others)
    if order == "text" and any(len(parts) > 2 for parts in rest):
        return ""
    return {"speaker": f"{{speaker}}{sign}{{text}}{last}", "text": f"{{text}}{sign}{{speaker}}{last}"}.get(
        order, ""
    )


def _recur(pairs: list[tuple[str, str]]) -> bool:
    """Whether one of the second names stands under several of the first, as a word that several people say does."""
    seen: dict[str, str] = {}
    return any(seen.setdefault(second, first) != first for first, second in pairs)


def _first(firsts: set[str], seconds: set[str]) -> str:
    """Which of two columns of names comes first, `speaker` or `text`; empty where it cannot be told.

    Speaker before text is the habit; identifiers of speakers, commands and names of several words may say otherwise.
    """

    def identifiers(names: set[str]) -> bool:
        return all(SPEAKER_ID.fullmatch(name) for name in names)

    def numbers(names: set[str]) -> bool:
        return all(name.isdigit() for name in names)

    def words(names: set[str]) -> bool:
        return any(
            name.lower() in COMMANDS.split() or re.search(r"[^\W\d_][-_ ][^\W\d_]", name) for name in names
        )

    if identifiers(firsts) != identifiers(seconds):
        return "speaker" if identifiers(firsts) else "text"
    if numbers(seconds) or identifiers(firsts) or (numbers(firsts) and not words(seconds)):
        return ""
    if words(firsts) != words(seconds):
        return "text" if words(firsts) else "speaker"
    return "speaker"
