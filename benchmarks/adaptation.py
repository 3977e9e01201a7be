"""Measure how much adaptation to a speaker reduces a base model's errors, and how it changes those of other speakers.

    python benchmarks/adaptation.py --shots 5,20 --conditions clean,phone,hall,babble
    python benchmarks/adaptation.py --speakers dev --shots 5 --limit 20

Run it from the project folder, with a corpus in data/ (`make demo` builds one). Sentences of each speaker are drawn for
training; the others are the evaluation recordings, the same ones for every number of shots. Adaptation is that of the
product (`metavox.teaching`), with cross-validation and guards. A condition of `metavox.audio.adverse`, which no training
uses, applies to the training and the evaluation recordings.

Columns (intervals are 95%):

    arm                       the base model at full context (Whisper only) and with default options, then after adaptation
    recordings                number of evaluation recordings
    WER %, CER %              word and character error rate
    error reduction %         relative to the first arm of the condition, paired over utterances
    other speakers, points    change in WER on clean sentences of the other evaluated speakers, in percentage points
    mean, max seconds         time of one adaptation
    unscaled adapters         share of the adapters that the guards did not scale down
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

CLEAN = "clean"
FULL_CONTEXT, UNADAPTED = "unadapted, full context", "unadapted"
MAX_BABBLERS = 24  # recordings that babble is mixed from
MAX_OTHERS = 60  # evaluation recordings of other speakers
MIN_EVALUATION = 10  # evaluation recordings of a speaker


@dataclass(frozen=True)
class Partition:
    """Rows of a speaker's training and evaluation recordings."""

    training: list[int]
    evaluation: list[int]


@dataclass
class ArmResults:
    """Results of one arm in one condition.

    `references` and `hypotheses` are by seed and row. `others` holds reference, hypothesis before and hypothesis after
    adaptation, for recordings of other speakers. `seconds` and `scales` have one value per adaptation.
    """

    references: dict[tuple[int, int], str] = field(default_factory=dict)
    hypotheses: dict[tuple[int, int], str] = field(default_factory=dict)
    others: list[tuple[str, str, str]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    scales: list[float] = field(default_factory=list)

    def add(
        self, seed: int, rows: Sequence[int], references: Sequence[str], hypotheses: Sequence[str]
    ) -> None:
        keys = [(seed, row) for row in rows]
        self.references |= dict(zip(keys, references, strict=True))
        self.hypotheses |= dict(zip(keys, hypotheses, strict=True))

    def errors(self, characters: bool = False) -> Errors:
        """Errors by recording, summed over seeds, because a recording's errors are not independent between seeds."""
        count = character_errors if characters else word_errors
        errors = count(list(self.references.values()), list(self.hypotheses.values()))
        _, index = np.unique([row for _, row in self.references], return_inverse=True)
        return Errors(np.bincount(index, errors.edits), np.bincount(index, errors.lengths))

    def change_for_others(self) -> Interval | None:
        """Change in the word error rate of other speakers, with the interval of a paired ratio of sums."""
        if not self.others:
            return None
        references, hypotheses_before, hypotheses_after = zip(*self.others, strict=True)
        before, after = word_errors(references, hypotheses_before), word_errors(references, hypotheses_after)
        total = max(1, int(before.lengths.sum()))
        change = float((after.edits - before.edits).sum() / total)
        residuals = after.edits - before.edits - change * before.lengths
        return Interval(change, float(1.96 * np.sqrt(np.square(residuals).sum()) / total))

    def restricted_to(self, arm: "ArmResults") -> "ArmResults":
        """These results on the arm's recordings only: speakers with few sentences have no arm with many shots."""
        return ArmResults(
            {key: self.references[key] for key in arm.references},
            {key: self.hypotheses[key] for key in arm.references},
        )


class Benchmark:
    """The corpus, the base model, and the results so far by condition and arm."""

    def __init__(self, args: argparse.Namespace):
        self.args = args
        self.manifest = args.corpus / "manifest.csv"
        self.rows = read_manifest(self.manifest)
        base = find_base(args.base)
        self.base = base.load()
        self.full_context = without_short_context(base.folder, base.name) if base.kind == "whisper" else None
        self.session = session_on(self.base)
        self.rate = self.base.spec.sample_rate_hz
        self.rehearsal = general_speech(args.language, self.rate, args.corpus) if args.rehearsal else None
        self.sentences = usable_sentences(self.rows, args.language)
        train = self.sentences[self.sentences["split"] == "train"]
        babblers = train.sample(min(MAX_BABBLERS, len(train)), random_state=0).index
        self.babblers = [self.read(row) for row in babblers]
        self.speakers = self.named_speakers(args.speakers.split(","))
        self.results: dict[tuple[str, str], ArmResults] = {}
        self.unadapted_hypotheses: dict[int, str] = {}  # of other speakers' recordings, by row

    def named_speakers(self, names: list[str]) -> list[str]:
        if names not in (["dev"], ["test"]):
            return names
        return sorted(set(self.sentences.loc[self.sentences["split"] == names[0], "speaker"]))

    def read(self, row: int, condition: str = CLEAN) -> np.ndarray:
        samples = read_audio(resolve(self.manifest, str(self.rows.at[row, "path"])), self.rate)
        if condition == CLEAN:
            return samples
        return ADVERSE[condition](samples, self.rate, np.random.default_rng((0, row)), self.babblers)

    def texts(self, rows: Sequence[int]) -> list[str]:
        return [str(text) for text in self.rows.loc[list(rows), "text"]]

    def partition(self, speaker: str, seed: int) -> Partition:
        own = self.sentences.index[self.sentences["speaker"] == speaker]
        shuffled = [int(row) for row in np.random.default_rng(seed).permutation(own)]
        training = min(max(self.args.shots), len(shuffled) - MIN_EVALUATION)
        if training < min(self.args.shots):
            raise UserError(
                f"speaker {speaker} has {len(own)} sentences; "
                f"expected {min(self.args.shots) + MIN_EVALUATION} or more: lower --shots, or leave the speaker out"
            )
        return Partition(shuffled[:training], shuffled[training:][: self.args.limit or None])

    def arm(self, condition: str, name: str) -> ArmResults:
        return self.results.setdefault((condition, name), ArmResults())

    def run(self, condition: str, speaker: str, seed: int) -> None:
        """Evaluate one speaker in one condition: unadapted, then after each number of recordings."""
        partition = self.partition(speaker, seed)
        evaluation = [self.read(row, condition) for row in partition.evaluation]
        references = self.texts(partition.evaluation)

        def add(arm: str, hypotheses: list[str]) -> None:
            self.arm(condition, arm).add(seed, partition.evaluation, references, hypotheses)

        if self.full_context:
            add(FULL_CONTEXT, transcripts(self.full_context, evaluation, "full"))
        add(UNADAPTED, transcripts(self.base, evaluation))
        for shots in self.args.shots:
            if shots > len(partition.training):
                continue
            arm_name = f"after {shots} recordings"
            rows = partition.training[:shots]
            support = TeachingSet([self.read(row, condition) for row in rows], self.texts(rows))
            delta = self.adapt(support, self.arm(condition, arm_name))
            add(arm_name, transcripts(self.base.using([delta]), evaluation))
            self.arm(condition, arm_name).others += self.other_speakers(delta, speaker)

    def adapt(self, support: TeachingSet, arm: ArmResults) -> Delta:
        config = TeachConfig(kind="utterances", guards=GuardConfig() if self.args.guards else None)
        if self.args.folds is not None:
            config = replace(config, utterances=replace(config.utterances, folds=self.args.folds))
        start = time.perf_counter()
        delta = teach(self.session, support, config, self.rehearsal).delta
        arm.seconds.append(time.perf_counter() - start)
        arm.scales.append(float(delta.about.get("guards", {}).get("scale", 1.0)))
        return delta

    def other_speakers(self, delta: Delta, speaker: str) -> list[tuple[str, str, str]]:
        """Reference, hypothesis before and hypothesis after for clean sentences of other speakers, in rotation.

        These are the other evaluated speakers, or, if there are none, those of the same split.
        """
        split = self.sentences.loc[self.sentences["speaker"] == speaker, "split"].iloc[0]
        same_split = set(self.sentences.loc[self.sentences["split"] == split, "speaker"])
        speakers = set(self.speakers) - {speaker} or same_split - {speaker}
        shuffled = self.sentences[self.sentences["speaker"].isin(speakers)].sample(frac=1.0, random_state=1)
        rotation = shuffled.groupby("speaker").cumcount().sort_values(kind="stable")
        rows = [int(row) for row in rotation.index[: min(MAX_OTHERS, self.args.limit * 3 or MAX_OTHERS)]]
        samples = {row: self.read(row) for row in rows}
        if missing := [row for row in rows if row not in self.unadapted_hypotheses]:
            hypotheses = transcripts(self.base, [samples[row] for row in missing])
            self.unadapted_hypotheses |= dict(zip(missing, hypotheses, strict=True))
        before = [self.unadapted_hypotheses[row] for row in rows]
        after = transcripts(self.base.using([delta]), [samples[row] for row in rows])
        return list(zip(self.texts(rows), before, after, strict=True))

    def table(self) -> pd.DataFrame:
        lines = []
        for (condition, name), arm in self.results.items():
            baseline = self.results.get((condition, FULL_CONTEXT)) or self.results[condition, UNADAPTED]
            words, characters = arm.errors(), arm.errors(characters=True)
            reduction = relative_error_reduction(baseline.restricted_to(arm).errors(), words)
            change = arm.change_for_others()
            lines.append(
                {
                    "condition": condition,
                    "arm": name,
                    "recordings": len(words.edits),
                    "WER %": str(words.interval()),
                    "CER %": str(characters.interval()),
                    "error reduction %": str(reduction) if arm is not baseline else "",
                    "other speakers, points": str(change) if change else "",
                    "mean seconds": f"{np.mean(arm.seconds):.0f}" if arm.seconds else "",
                    "max seconds": f"{max(arm.seconds):.0f}" if arm.seconds else "",
                    "unscaled adapters": f"{np.mean(np.array(arm.scales) == 1.0):.0%}" if arm.scales else "",
                }
            )
        return pd.DataFrame(lines)


def usable_sentences(rows: pd.DataFrame, language: str) -> pd.DataFrame:
    return rows[
        (rows["language"] == language)
        & (rows["unit"] == "sentence")
        & (rows["duration_s"] <= LONGEST_S)
        & rows["text"].map(lambda text: bool(normalise_text(text)))
    ]


def transcripts(recogniser: Recogniser, samples: Sequence[np.ndarray], context: str = "auto") -> list[str]:
    options = DecodeOptions(context=context)  # type: ignore[arg-type]
    return [transcript.text for transcript in recogniser.transcribe(samples, options)]


def without_short_context(folder: Path, name: str) -> Recogniser:
    """The Whisper model as published, which pads every recording to its full window."""
    with tempfile.TemporaryDirectory() as published:
        for file in folder.resolve().iterdir():
            if file.name != registry.SHORT_CONTEXT:
                (Path(published) / file.name).symlink_to(file)
        return registry.load(Path(published), name)


def integers(text: str) -> list[int]:
    return sorted(int(part) for part in text.split(","))


def argument_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--base")
    parser.add_argument("--corpus", type=Path, default=Path("data"))
    parser.add_argument("--language", default="en")
    parser.add_argument("--speakers", default="test", help="dev, test, or names separated by commas")
    parser.add_argument(
        "--shots", type=integers, default=[5, 20], help="numbers of recordings, separated by commas"
    )
    parser.add_argument(
        "--conditions", default=CLEAN, help=f"of {CLEAN}, {', '.join(ADVERSE)}; separated by commas"
    )
    parser.add_argument("--seeds", type=int, default=1, help="number of draws of the training recordings")
    parser.add_argument(
        "--limit", type=int, default=0, help="evaluation sentences per speaker, for a quick run; 0 means all"
    )
    parser.add_argument("--folds", type=int, help="of cross-validation; 0 uses the default recipe")
    parser.add_argument("--no-guards", dest="guards", action="store_false")
    parser.add_argument("--no-rehearsal", dest="rehearsal", action="store_false")
    parser.add_argument("--json", type=Path, help="also write the table to this file, after each speaker")
    return parser


def main() -> None:
    parser = argument_parser()
    args = parser.parse_args()
    threads.limit("foundation model")
    try:
        benchmark = Benchmark(args)
        conditions = args.conditions.split(",")
        if unknown := set(conditions) - {CLEAN, *ADVERSE}:
            raise UserError(
                f"conditions {', '.join(sorted(unknown))}: expected {CLEAN}, {', '.join(ADVERSE)}"
            )
        tasks = [(c, s, n) for c in conditions for n in range(args.seeds) for s in benchmark.speakers]
        for condition, speaker, seed in track(tasks, "speakers", unit="speakers"):
            benchmark.run(condition, speaker, seed)
            if args.json:
                args.json.write_text(json.dumps(benchmark.table().to_dict("records"), indent=1) + "\n")
    except UserError as error:
        parser.exit(2, f"{error}\n")
    print(benchmark.table().to_string(index=False))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"peak memory {peak:.2f} GiB, {threads.count('foundation model')} threads")


if __name__ == "__main__":
    main()
