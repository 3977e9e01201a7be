"""What a base gains by a few recordings of a speaker, and what it forgets. From the project's folder:

    python benchmarks/adaptation.py --shots 5,20 --conditions clean,phone,hall,babble
    python benchmarks/adaptation.py --speakers dev --shots 5 --limit 20

Sentences of each speaker are drawn to teach, through the same `teach` as everywhere, with cross-validation and guards;
the others are asked, the same ones for every number of shots. Conditions are those of `metavox.audio.adverse`, which no
training uses, on what teaches and on what is asked. `gone` is the share of errors that is gone against the base at its full
context, paired over utterances. `general` is how many more words are wrong, in a hundred, in sentences of the other
speakers that are asked about, as they were recorded.
"""

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from metavox import threads
from metavox.adaptation.guards import GuardConfig
from metavox.adaptation.rehearsal import LONGEST_S, general_speech
from metavox.audio.adverse import ADVERSE
from metavox.audio.read import read_audio
from metavox.dataset.manifest import read_manifest, resolve
from metavox.errors import UserError
from metavox.metrics.before_after import relative_error_reduction
from metavox.metrics.rates import Errors, Interval, character_errors, word_errors
from metavox.progress import track
from metavox.recognisers import registry
from metavox.recognisers.bases.find import find_base
from metavox.recognisers.delta import Delta
from metavox.recognisers.recogniser import DecodeOptions, Recogniser
from metavox.session import session_on
from metavox.teaching import TeachConfig, TeachingSet, teach
from metavox.text import normalise_text

CLEAN, FULL, AUTO = "clean", "unadapted, full context", "unadapted"
BABBLERS, GENERAL = 24, 60  # recordings
FEWEST = 10  # sentences that are asked about


@dataclass(frozen=True)
class Speaker:
    name: str
    teaching: list[int]
    asked: list[int]


@dataclass
class Tally:
    """What was made of the recordings that were asked about, by row of the manifest, over seeds; what was made of others
    before and after; seconds an adaptation took."""

    texts: dict[tuple[int, int], str] = field(default_factory=dict)
    heard: dict[tuple[int, int], str] = field(default_factory=dict)
    general: list[tuple[str, str, str]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    scales: list[float] = field(default_factory=list)

    def add(self, seed: int, rows: Sequence[int], texts: Sequence[str], heard: Sequence[str]) -> None:
        keys = [(seed, row) for row in rows]
        self.texts |= dict(zip(keys, texts, strict=True))
        self.heard |= dict(zip(keys, heard, strict=True))

    def errors(self, characters: bool = False) -> Errors:
        """By recording; those that were asked about for several seeds count as one, so that intervals stay honest."""
        count = character_errors if characters else word_errors
        counted = count(list(self.texts.values()), list(self.heard.values()))
        rows = [row for _, row in self.texts]
        _, place = np.unique(rows, return_inverse=True)
        return Errors(np.bincount(place, counted.edits), np.bincount(place, counted.lengths))

    def forgotten(self) -> Interval | None:
        """More words wrong in general speech; the interval is that of a ratio of sums, paired."""
        if not self.general:
            return None
        texts, before, after = zip(*self.general, strict=True)
        was, now = word_errors(texts, before), word_errors(texts, after)
        total = max(1, int(was.lengths.sum()))
        more = float((now.edits - was.edits).sum() / total)
        apart = now.edits - was.edits - more * was.lengths
        return Interval(more, float(1.96 * np.sqrt(np.square(apart).sum()) / total))


class Bench:
    """The corpus, the base, and what it heard of each recording already."""

    def __init__(self, given: argparse.Namespace):
        self.given = given
        self.manifest = given.corpus / "manifest.csv"
        self.rows = read_manifest(self.manifest)
        base = find_base(given.base)
        self.base = base.load()
        self.full = without_short_context(base.folder, base.name) if base.kind == "whisper" else None
        self.session = session_on(self.base)
        self.rate = self.base.spec.sample_rate_hz
        self.rehearsal = general_speech(given.language, self.rate, given.corpus) if given.rehearsal else None
        sentences = self.rows[
            (self.rows["language"] == given.language)
            & (self.rows["unit"] == "sentence")
            & (self.rows["duration_s"] <= LONGEST_S)
            & self.rows["text"].map(lambda text: bool(normalise_text(text)))
        ]
        self.sentences = sentences
        train = sentences[sentences["split"] == "train"]
        babblers = train.sample(min(BABBLERS, len(train)), random_state=0).index
        self.others = [self.read(row) for row in babblers]
        names = given.speakers.split(",")
        if names in (["dev"], ["test"]):
            names = sorted(set(sentences.loc[sentences["split"] == names[0], "speaker"]))
        self.speakers = names
        self.tallies: dict[tuple[str, str], Tally] = {}
        self.known: dict[int, str] = {}

    def read(self, row: int, condition: str = CLEAN, seed: int = 0) -> np.ndarray:
        samples = read_audio(resolve(self.manifest, str(self.rows.at[row, "path"])), self.rate)
        if condition == CLEAN:
            return samples
        return ADVERSE[condition](samples, self.rate, np.random.default_rng((seed, row)), self.others)

    def texts(self, rows: Sequence[int]) -> list[str]:
        return [str(text) for text in self.rows.loc[list(rows), "text"]]

    def drawn(self, name: str, seed: int) -> Speaker:
        own = self.sentences.index[self.sentences["speaker"] == name]
        mixed = np.random.default_rng(seed).permutation(own)
        most = min(max(self.given.shots), len(mixed) - FEWEST)
        if most < min(self.given.shots):
            raise UserError(
                f"speaker {name}: {len(own)} sentences; expected {min(self.given.shots) + FEWEST} or more"
            )
        asked = mixed[most:][: self.given.limit or None]
        return Speaker(name, [int(i) for i in mixed[:most]], [int(i) for i in asked])

    def tally(self, condition: str, arm: str) -> Tally:
        return self.tallies.setdefault((condition, arm), Tally())

    def run(self, condition: str, name: str, seed: int) -> None:
        """One speaker in one condition: unadapted, then after each number of recordings."""
        speaker = self.drawn(name, seed)
        asked = [self.read(row, condition) for row in speaker.asked]
        texts = self.texts(speaker.asked)
        if self.full:
            full = heard(self.full, asked, "full")
            self.tally(condition, FULL).add(seed, speaker.asked, texts, full)
        self.tally(condition, AUTO).add(seed, speaker.asked, texts, heard(self.base, asked))
        for shots in self.given.shots:
            if shots > len(speaker.teaching):
                continue
            tally = self.tally(condition, f"after {shots}")
            rows = speaker.teaching[:shots]
            support = TeachingSet([self.read(row, condition) for row in rows], self.texts(rows))
            began = time.perf_counter()
            delta = teach(self.session, support, self.config, self.rehearsal).delta
            tally.seconds.append(time.perf_counter() - began)
            tally.scales.append(float(delta.about.get("guards", {}).get("scale", 1.0)))
            tally.add(seed, speaker.asked, texts, heard(self.base.using([delta]), asked))
            self.general(tally, delta, name)

    @property
    def config(self) -> TeachConfig:
        config = TeachConfig(kind="utterances", guards=GuardConfig() if self.given.guards else None)
        if self.given.folds is not None:
            config = replace(config, utterances=replace(config.utterances, folds=self.given.folds))
        return config

    def general(self, tally: Tally, delta: Delta, name: str) -> None:
        """Sentences of the other speakers that are asked about (else of those of the split), before and after."""
        split = self.sentences.loc[self.sentences["speaker"] == name, "split"].iloc[0]
        wanted = set(self.speakers) - {name} or set(
            self.sentences.loc[self.sentences["split"] == split, "speaker"]
        ) - {name}
        others = self.sentences[self.sentences["speaker"].isin(wanted)]
        mixed = others.sample(frac=1.0, random_state=1)
        turn = mixed.groupby("speaker").cumcount().sort_values(kind="stable")
        rows = [int(i) for i in turn.index[: min(GENERAL, self.given.limit * 3 or GENERAL)]]
        samples = {row: self.read(row) for row in rows}
        if missing := [row for row in rows if row not in self.known]:
            self.known |= dict(zip(missing, heard(self.base, [samples[i] for i in missing]), strict=True))
        after = heard(self.base.using([delta]), [samples[row] for row in rows])
        tally.general += list(zip(self.texts(rows), [self.known[row] for row in rows], after, strict=True))

    def table(self) -> pd.DataFrame:
        found = []
        for (condition, arm), tally in self.tallies.items():
            reference = self.tallies.get((condition, FULL)) or self.tallies[condition, AUTO]
            words, letters = tally.errors(), tally.errors(characters=True)
            forgotten = tally.forgotten()
            matched = matching(reference, tally)
            found.append(
                {
                    "condition": condition,
                    "arm": arm,
                    "recordings": len(words.edits),
                    "WER %": str(words.interval()),
                    "CER %": str(letters.interval()),
                    "errors gone %": str(relative_error_reduction(matched.errors(), words))
                    if tally is not reference
                    else "",
                    "general, more wrong": str(forgotten) if forgotten else "",
                    "seconds, mean": f"{np.mean(tally.seconds):.0f}" if tally.seconds else "",
                    "longest": f"{max(tally.seconds):.0f}" if tally.seconds else "",
                    "whole adapters": f"{np.mean(np.array(tally.scales) == 1.0):.0%}" if tally.scales else "",
                }
            )
        return pd.DataFrame(found)


def heard(recogniser: Recogniser, samples: Sequence[np.ndarray], context: str = "auto") -> list[str]:
    options = DecodeOptions(context=context)  # type: ignore[arg-type]
    return [one.text for one in recogniser.transcribe(samples, options)]


def matching(reference: Tally, tally: Tally) -> Tally:
    """The reference's part that the tally has too: a speaker with few sentences teaches no fifty."""
    return Tally({k: reference.texts[k] for k in tally.texts}, {k: reference.heard[k] for k in tally.texts})


def without_short_context(folder: Path, name: str) -> Recogniser:
    """A Whisper as it was published: all that it hears is padded to its whole window."""
    with tempfile.TemporaryDirectory() as published:
        for file in folder.resolve().iterdir():
            if file.name != registry.SHORT_CONTEXT:
                (Path(published) / file.name).symlink_to(file)
        return registry.load(Path(published), name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--base")
    parser.add_argument("--corpus", type=Path, default=Path("data"))
    parser.add_argument("--language", default="en")
    parser.add_argument("--speakers", default="test", help="dev, test, or speakers with commas between them")
    parser.add_argument("--shots", type=numbers, default=[5, 20])
    parser.add_argument("--conditions", default=CLEAN, help=f"{CLEAN}, {', '.join(ADVERSE)}; with commas")
    parser.add_argument("--seeds", type=int, default=1, help="how many times what teaches is drawn")
    parser.add_argument(
        "--limit", type=int, default=0, help="sentences that a speaker is asked, for a quick look"
    )
    parser.add_argument("--folds", type=int, help="of cross-validation; 0 takes the usual recipe")
    parser.add_argument("--no-guards", dest="guards", action="store_false")
    parser.add_argument("--no-rehearsal", dest="rehearsal", action="store_false")
    parser.add_argument("--json", type=Path, help="write the table there too, after each speaker")
    given = parser.parse_args()
    threads.limit("foundation model")
    try:
        bench = Bench(given)
        conditions = given.conditions.split(",")
        if unknown := set(conditions) - {CLEAN, *ADVERSE}:
            raise UserError(
                f"conditions {', '.join(sorted(unknown))}: expected {CLEAN}, {', '.join(ADVERSE)}"
            )
        tasks = [(c, s, n) for c in conditions for n in range(given.seeds) for s in bench.speakers]
        for condition, name, seed in track(tasks, "speakers", unit="speakers"):
            bench.run(condition, name, seed)
            if given.json:
                given.json.write_text(json.dumps(bench.table().to_dict("records"), indent=1) + "\n")
    except UserError as error:
        parser.exit(2, f"{error}\n")
    print(bench.table().to_string(index=False))
    print(
        f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB, {threads.count('foundation model')} threads"
    )


def numbers(text: str) -> list[int]:
    return sorted(int(part) for part in text.split(","))


if __name__ == "__main__":
    main()
