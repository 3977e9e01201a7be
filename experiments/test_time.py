"""Experiment: test-time adaptation of a base model over a stream whose speaker and condition change.

Each arm chooses its settings from a small grid on the development stream, then transcribes the test stream once. Every
run is a JSON file under artifacts/ablation/test-time, written aside and renamed; a run that is there is not repeated.
"""

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import pandas as pd

from experiments.equaliser import Equaliser, EqualiserConfig, spectrum
from experiments.streams import RATE, Corpus, Utterance, stream
from metavox import threads
from metavox.adaptation.test_time import Mode, TestTime, TestTimeConfig
from metavox.errors import UserError
from metavox.files import write_json, written_aside
from metavox.metrics.before_after import relative_error_reduction
from metavox.metrics.rates import Errors, character_errors, word_errors
from metavox.recognisers.bases.find import find_base
from metavox.recognisers.recogniser import Recogniser

FOLDER = Path("artifacts/ablation/test-time")
NONE = "none"
DEV_SENTENCES, TEST_SENTENCES = 10, 12  # of each block
REFERENCE_CLIPS = 100  # of training speakers, for the spectrum of ordinary speech
JUMP = 2.5  # sentences of one block differ by less
Settings = TestTimeConfig | EqualiserConfig | None
Transcribe = Callable[[np.ndarray], str]


@dataclass(frozen=True)
class Run:
    """The transcripts of one stream with one arm's settings.

    `cpu_s` is the processor time for each recording, adaptation included. `resets` and `skipped` are those of TestTime.
    """

    references: list[str]
    transcripts: list[str]
    conditions: list[str]
    cpu_s: list[float]
    audio_s: list[float]
    resets: int = 0
    skipped: int = 0

    def __add__(self, other: "Run") -> "Run":
        return Run(**{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)})

    @property
    def mistakes(self) -> tuple[int, int]:
        """The number of wrong words, then of wrong characters: fewer is better."""
        pair = self.references, self.transcripts
        return int(word_errors(*pair).edits.sum()), int(character_errors(*pair).edits.sum())

    @property
    def errors(self) -> Errors:
        """Word errors by sentence, summed over its recordings and streams, because these are not independent."""
        errors = word_errors(self.references, self.transcripts)
        _, index = np.unique(self.references, return_inverse=True)
        return Errors(np.bincount(index, errors.edits), np.bincount(index, errors.lengths))

    def rate_in(self, condition: str) -> float:
        """The word error rate in one condition."""
        rows = [i for i, each in enumerate(self.conditions) if each == condition]
        return word_errors([self.references[i] for i in rows], [self.transcripts[i] for i in rows]).rate


@dataclass(frozen=True)
class Draw:
    """A stream, and the seed of its sentences and noise."""

    stream: str
    seed: int

    @property
    def sentences(self) -> int:
        return DEV_SENTENCES if self.stream == "dev" else TEST_SENTENCES


DEV = Draw("dev", 1)  # one choice, whichever test stream judges it


def arms(kind: str) -> dict[str, list[Settings]]:
    """The grid of each arm for a kind of base model."""

    def entropy(mode: Mode, steps: int, rate: float) -> TestTimeConfig:
        # A decoder's classes are tens of thousands of tokens, which temperature and class confusion were not made for.
        if kind == "whisper":
            return TestTimeConfig(mode, steps, rate, temperature=1.0, entropy=1.0, jump=JUMP)
        return TestTimeConfig(mode, steps, rate, jump=JUMP)

    def labels(mode: Mode, steps: int, rate: float, confidence: float) -> TestTimeConfig:
        return TestTimeConfig(mode, steps, rate, jump=JUMP, objective="pseudo-labels", confidence=confidence)

    return {
        NONE: [None],
        "entropy, episodic": [
            entropy("episodic", steps, rate) for steps, rate in ((3, 1e-3), (3, 3e-3), (8, 1e-3))
        ],
        "entropy, continual": [entropy("continual", 1, rate) for rate in (3e-4, 1e-3)],
        "pseudo-labels, episodic": [
            labels("episodic", 3, rate, confidence) for rate, confidence in ((1e-3, 0.5), (3e-3, 0.75))
        ],
        "pseudo-labels, continual": [
            labels("continual", 1, rate, confidence) for rate, confidence in ((3e-4, 0.5), (1e-3, 0.75))
        ],
        "input normalisation": [
            EqualiserConfig(strength, memory) for strength in (0.5, 1.0) for memory in (0.0, 0.8)
        ],
    }


class Experiment:
    """The base model, the streams drawn from the corpus, and the runs so far."""

    def __init__(self, root: Path, base: str):
        threads.limit("foundation model")
        self.folder = root / FOLDER / base.replace("/", "-")
        self.base: Recogniser = find_base(base).load()
        if self.base.spec.sample_rate_hz != RATE:
            raise UserError(f"{base}: takes audio at {self.base.spec.sample_rate_hz} Hz; expected {RATE} Hz")
        self.corpus = Corpus.read(root / "data")
        self.grids = arms(self.base.spec.kind)
        self._streams: dict[Draw, list[Utterance]] = {}
        self._reference: np.ndarray | None = None

    def chosen(self, name: str) -> Settings:
        """The settings of an arm that development chooses. Raises UserError for an unknown arm."""
        if name not in self.grids:
            raise UserError(f"arm {name}: no such arm; expected one of {', '.join(self.grids)}")
        return min(self.grids[name], key=lambda settings: self.run(name, settings, DEV).mistakes)

    def run(self, name: str, settings: Settings, draw: Draw) -> Run:
        about = {
            "arm": name,
            "settings": None if settings is None else asdict(settings),
            "stream": draw.stream,
            "seed": draw.seed,
            "base": self.base.spec.digest,
            "sentences": draw.sentences,
        }
        key = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:8]
        slug = name.replace(", ", "-").replace(" ", "-")
        file = self.folder / str(draw.seed) / draw.stream / f"{slug}-{key}.json"
        if not file.is_file():
            file.parent.mkdir(parents=True, exist_ok=True)
            run = self._transcribed(settings, draw)
            write_json(file, {**about, "run": asdict(run)})
            print(f"{draw.stream}: {name}, {short(settings)}: {run.mistakes[0]} word errors", flush=True)
        return Run(**json.loads(file.read_text())["run"])

    def _transcribed(self, settings: Settings, draw: Draw) -> Run:
        utterances = self._stream(draw)
        adapting = TestTime(self.base, settings) if isinstance(settings, TestTimeConfig) else None
        transcribe = self._transcribe(settings, adapting)
        transcripts, cpu_s = [], []
        for utterance in utterances:
            start = time.process_time()
            transcripts.append(transcribe(utterance.samples))
            cpu_s.append(round(time.process_time() - start, 3))
        return Run(
            [utterance.text for utterance in utterances],
            transcripts,
            [utterance.condition for utterance in utterances],
            cpu_s,
            [round(len(utterance.samples) / RATE, 3) for utterance in utterances],
            adapting.resets if adapting else 0,
            adapting.skipped if adapting else 0,
        )

    def _transcribe(self, settings: Settings, adapting: TestTime[Recogniser] | None) -> Transcribe:
        if adapting:
            return lambda samples: adapting.adapted(samples).transcribe([samples])[0].text
        if isinstance(settings, EqualiserConfig):
            if self._reference is None:
                self._reference = spectrum(self.corpus.training_clips(REFERENCE_CLIPS), RATE)
            equaliser = Equaliser(self._reference, RATE, settings)
            return lambda samples: self.base.transcribe([equaliser(samples)])[0].text
        return lambda samples: self.base.transcribe([samples])[0].text

    def _stream(self, draw: Draw) -> list[Utterance]:
        if draw not in self._streams:
            self._streams[draw] = stream(self.corpus, draw.stream, draw.sentences, draw.seed)
            self.base.transcribe([self._streams[draw][0].samples])  # the first call takes longer
        return self._streams[draw]


def table(root: Path, base: str, seeds: Sequence[int], names: Sequence[str] = ()) -> pd.DataFrame:
    """Run the arms that have not run yet on the test streams of `seeds`, and tabulate all of them; also written to a CSV
    file beside the runs.

    WER in % on development and test streams; error reduction in % relative to no adaptation, paired over sentences; all
    with 95% intervals. CPU is processor time per recording relative to no adaptation.
    """
    experiment = Experiment(root, base)

    def judged(name: str, settings: Settings) -> Run:
        first, *others = (experiment.run(name, settings, Draw("test", seed)) for seed in seeds)
        return sum(others, first)

    baseline = judged(NONE, None)
    rows = []
    for name in names or experiment.grids:
        settings = experiment.chosen(name)
        run = judged(name, settings)
        rows.append(
            {
                "arm": name,
                "chosen": short(settings),
                "dev WER": str(experiment.run(name, settings, DEV).errors.interval()),
                "WER": str(run.errors.interval()),
                "error reduction": str(relative_error_reduction(baseline.errors, run.errors))
                if name != NONE
                else "",
                **{c: f"{100 * run.rate_in(c):.1f}" for c in dict.fromkeys(run.conditions)},
                "CPU": f"{sum(run.cpu_s) / sum(baseline.cpu_s):.1f}",
                "resets": run.resets,
                "skipped": run.skipped,
            }
        )
    summary = pd.DataFrame(rows)
    with written_aside(experiment.folder / f"{'-'.join(map(str, seeds))}.csv") as aside:
        summary.to_csv(aside, index=False)
    return summary


def short(settings: Settings) -> str:
    """The settings that the grid varies."""
    if settings is None:
        return ""
    if isinstance(settings, EqualiserConfig):
        return f"strength {settings.strength:g}, memory {settings.memory:g}"
    label = f", confidence {settings.confidence:g}" if settings.objective == "pseudo-labels" else ""
    return f"{settings.steps} steps at {settings.learning_rate:g}{label}"
