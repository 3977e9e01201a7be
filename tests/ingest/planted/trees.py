"""The planted faults combined into trees, each with a manifest."""

import csv
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from planted.archives import MEMBERS, UNSAFE, cut, pack
from planted.clean import CLEAN
from planted.clean import TEXTS as CLEAN_TEXTS
from planted.clips import Clip, clips, encoded, wav
from planted.fault import REFUSE, TAKE, Fault
from planted.levels import SOUNDS
from planted.paths import PATHS, UNLISTED, Site
from planted.texts import TEXTS

from metavox.dataset.manifest import COLUMNS, write_manifest
from metavox.dataset.shards import write_shards

LANGUAGES = ("en", "de", "fr", "es", "ru", "el", "hi", "ko", "vi", "ka", "ar", "tr")
Row = dict[str, str]


@dataclass(frozen=True)
class Expected:
    name: str
    path: str  # as `corpus add` reports it
    outcome: str
    message: str
    row: bool = True  # whether the manifest has a row for it


@dataclass
class Tree:
    folder: Path
    rows: list[Row] = field(default_factory=list)
    expected: list[Expected] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)  # by fault: why it could not be planted

    def write(self, name: str, data: bytes) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def put(self, expected: Expected, row: Row) -> None:
        self.rows.append(row)
        self.expected.append(expected)

    def write_manifest(self) -> None:
        columns = list(dict.fromkeys(name for row in self.rows for name in row))
        with (self.folder / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns, lineterminator="\n", restval="")
            writer.writeheader()
            writer.writerows(self.rows)


def row_of(clip: Clip, path: str, split: str = "train") -> Row:
    return {
        "path": path,
        "text": clip.text,
        "speaker": clip.speaker,
        "language": clip.language,
        "split": split,
    }


def clean(tree: Tree) -> None:
    """Clean recordings."""
    for (name, make), clip in zip(CLEAN.items(), clips(len(CLEAN), LANGUAGES), strict=True):
        row = row_of(clip, f"good/{name}")
        row["text"] = CLEAN_TEXTS.get(name, str)(clip.text)
        tree.write(row["path"], make(clip))
        tree.put(Expected(f"clean {name}", row["path"], TAKE, ""), row)


def sounds(tree: Tree) -> None:
    for fault, clip in zip(SOUNDS, clips(len(SOUNDS), take=1), strict=True):
        path = f"sounds/{fault.file}"
        tree.write(path, fault.make(clip))
        tree.put(Expected(fault.name, path, fault.outcome, fault.message), row_of(clip, path))


def texts(tree: Tree) -> None:
    for fault, clip in zip(TEXTS, clips(len(TEXTS), take=2), strict=True):
        path = f"texts/{fault.file}"
        tree.write(path, wav(clip.at(16000), 16000))
        tree.put(Expected(fault.name, path, fault.outcome, fault.message), fault.make(row_of(clip, path)))


TWINS = {
    "recording under two speakers": ("speaker", "another text or speaker"),
    "recording with two texts": ("text", "another text or speaker"),
}


def twins(tree: Tree) -> None:
    """One recording in two files with contradictory rows, or with the same row."""
    samples = clips(len(TWINS) + 1, take=3)
    for (name, (column, message)), clip in zip(TWINS.items(), samples, strict=False):
        for side in ("a", "b"):
            row = row_of(clip, f"twins/{column}-{side}.wav")
            row[column] = f"{row[column]} {side}"
            tree.write(row["path"], wav(clip.at(16000), 16000))
            tree.put(Expected(f"{name}, {side}", row["path"], REFUSE, message), row)
    for side, outcome in (("a", TAKE), ("b", "have")):
        row = row_of(samples[-1], f"twins/same-{side}.wav")
        tree.write(row["path"], wav(samples[-1].at(16000), 16000))
        tree.put(Expected(f"recording twice, {side}", row["path"], outcome, ""), row)


def divided(tree: Tree) -> None:
    """Speakers and speaker groups in two splits of the tree, or of the tree and the corpus."""
    samples = clips(10, take=5)
    rows = [
        {"speaker": "both", "split": "train"},
        {"speaker": "both", "split": "test"},
        {"speaker": "day", "speaker_group": "someone", "split": "dev"},
        {"speaker": "night", "speaker_group": "someone", "split": "train"},
        {"speaker": "corpus-test", "split": "train"},
        {"speaker": "alias", "speaker_group": "corpus-train", "split": "test"},
        {"speaker": "fine", "split": "train"},
    ]
    for number, (row, clip) in enumerate(zip(rows, samples, strict=False)):
        tree.write(f"{number}.wav", wav(clip.at(16000), 16000))
        tree.put(
            Expected("", f"{number}.wav", TAKE, ""),
            {**row_of(clip, f"{number}.wav"), "speaker_group": "", **row},
        )


DIVIDED = {
    "a speaker in two splits": "speaker both is in (test and train|train and test)",
    "a speaker group with two speakers in two splits": "speaker group someone is in (dev and train|train and dev)",
    "a speaker that the corpus tests with": "speaker corpus-test is in",
    "a speaker group that the corpus trains on": "speaker group corpus-train is in",
}


def lopsided(tree: Tree) -> None:
    """95% of the clips have the same word, and only one person speaks Georgian."""
    samples = clips(21, take=6)
    for number, clip in enumerate((*samples[:20], *clips(1, ("ka",), take=6))):
        path = f"{number}.wav"
        tree.write(path, wav(clip.at(16000), 16000))
        word = clip.text if number == 20 else "no" if number == 19 else "yes"
        tree.put(
            Expected("", path, TAKE, ""),
            {**row_of(clip, path), "text": word, "speaker": f"v{number % 2}-{clip.language}"},
        )


LOPSIDED = {"labels 95 to 5": "'yes' is 19 of the 20", "a language with one speaker": "ka has 1"}


def corpus(folder: Path) -> list[bytes]:
    """Make a small corpus in `folder`, as a build does; returns its recordings."""
    samples = clips(4, take=7)
    data = [encoded(clip.at(16000), 16000, "FLAC") for clip in samples]
    locations = write_shards(folder / "shards", "before", ((f"{n}.flac", one) for n, one in enumerate(data)))
    rows = []
    for number, clip in enumerate(samples):
        split = ("train", "train", "train", "test")[number]
        about = {"source": "before", "license": "CC0-1.0", "unit": "word", "speaker_group": f"corpus-{split}"}
        row = {**COLUMNS, **row_of(clip, locations[f"{number}.flac"], split), **about}
        sha256 = hashlib.sha256(data[number]).hexdigest()
        rows.append(
            {
                **row,
                "speaker": f"corpus-{split}",
                "sha256": sha256,
                "sample_rate": 16000,
                "duration_s": round(len(clip.at(16000)) / 16000, 4),
            }
        )
    write_manifest(pd.DataFrame(rows), folder / "manifest.csv")
    return data


KNOWN = {
    "recording the corpus has": ("as-before.flac", {}, "have", ""),
    "recording the corpus has with another text": (
        "reworded.flac",
        {"text": "else"},
        REFUSE,
        "same recording",
    ),
    "recording the corpus has with another speaker": (
        "renamed.flac",
        {"speaker": "else"},
        REFUSE,
        "same recording",
    ),
}


def known(tree: Tree, data: list[bytes]) -> None:
    """Recordings that the corpus has already."""
    for (name, (path, changes, outcome, message)), clip, recording in zip(
        KNOWN.items(), clips(4, take=7), data, strict=False
    ):
        tree.write(path, recording)
        row = {**row_of(clip, path), "speaker": "corpus-train", **changes}
        tree.put(Expected(name, path, outcome, message), row)


def paths(tree: Tree, outside: Path, web: str) -> None:
    recordings = _recordings()
    outside.mkdir()
    (outside / "secret.wav").write_bytes(next(recordings)[1])

    def make_site() -> Site:
        return Site(tree.folder, outside, next(recordings)[1], web)

    tree.write("pack.tar", pack(make_site))
    tree.write("cut.tar", cut(next(recordings)[1]))
    cut_short = Fault("truncated archive", "cut.tar/a.wav", REFUSE, "not a tar|cut|ends|no such member", str)
    for fault in (*PATHS, *MEMBERS, cut_short, *UNLISTED, *UNSAFE):
        row = fault not in (*UNLISTED, *UNSAFE)
        path = fault.file.format(outside=outside, web=web)
        try:
            if fault in PATHS or fault in UNLISTED:
                fault.make(make_site())
        except PermissionError as error:
            tree.skipped[fault.name] = f"the user may not create it ({error.strerror})"
            continue
        expected = Expected(fault.name, path, fault.outcome, fault.message, row)
        if row:
            tree.put(expected, {**row_of(clips(1, take=4)[0], path), "text": "one two"})
        else:
            tree.expected.append(expected)


def _recordings() -> Iterator[tuple[Clip, bytes]]:
    for clip in clips(90, take=4):
        yield clip, wav(clip.at(16000), 16000)


def tree_of(folder: Path, count: int = 6) -> Path:
    tree = Tree(folder)
    for n, clip in enumerate(clips(count, take=9)):
        tree.write(f"{n}.wav", wav(clip.at(16000), 16000))
        tree.put(Expected("", f"{n}.wav", TAKE, ""), row_of(clip, f"{n}.wav"))
    tree.write_manifest()
    return folder
