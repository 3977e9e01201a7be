"""Experiment: test-time adaptation of a base model over a stream whose speaker and condition change.

Each arm chooses its settings from a small grid on the development stream, then transcribes the test stream once. Every
run is a JSON file under artifacts/ablation/test-time, written aside and renamed; a run that is there is not repeated.
"""

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
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
from metavox.metrics.rates import character_errors, word_errors
from metavox.recognisers.bases.find import find_base
from metavox.recognisers.recogniser import Recogniser

FOLDER = Path("artifacts/ablation/test-time")
NONE = "none"
DEV_SENTENCES, TEST_SENTENCES = 10, 12  # of each block
DEV_SEED = 1  # one choice, whichever test stream judges it
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

    @property
    def errors(self) -> tuple[int, int]:
        """The number of wrong words, then of wrong characters: fewer is better."""
        pair = self.references, self.transcripts
        return int(word_errors(*pair).edits.sum()), int(character_errors(*pair).edits.sum())


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
    """The base model, the development stream, the test stream drawn with `seed`, and the runs so far."""

    def __init__(self, root: Path, base: str, seed: int):
        threads.limit("foundation model")
        self.folder = root / FOLDER / base.replace("/", "-")
        self.seeds, self.sentences = (
            {"dev": DEV_SEED, "test": seed},
            {"dev": DEV_SENTENCES, "test": TEST_SENTENCES},
        )
        self.base: Recogniser = find_base(base).load()
        if self.base.spec.sample_rate_hz != RATE:
            raise UserError(f"{base}: takes audio at {self.base.spec.sample_rate_hz} Hz; expected {RATE} Hz")
        self.corpus = Corpus.read(root / "data")
        self.grids = arms(self.base.spec.kind)
        self._streams: dict[str, list[Utterance]] = {}
        self._reference: np.ndarray | None = None

    def arm(self, name: str) -> tuple[Settings, Run]:
        """The settings that development chose, and the run on the test stream. Raises UserError for an unknown arm."""
        if name not in self.grids:
            raise UserError(f"arm {name}: no such arm; expected one of {', '.join(self.grids)}")
        grid = self.grids[name]
        chosen = min(grid, key=lambda settings: self.run(name, settings, "dev").errors)
        return chosen, self.run(name, chosen, "test")

    def run(self, name: str, settings: Settings, which: str) -> Run:
        about = {
            "arm": name,
            "settings": None if settings is None else asdict(settings),
            "stream": which,
            "seed": self.seeds[which],
            "base": self.base.spec.digest,
            "sentences": self.sentences[which],
        }
        key = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:8]
        file = (
            self.folder
            / str(self.seeds[which])
            / which
            / f"{name.replace(', ', '-').replace(' ', '-')}-{key}.json"
        )
        if not file.is_file():
            file.parent.mkdir(parents=True, exist_ok=True)
            run = self._transcribed(settings, which)
            write_json(file, {**about, "run": asdict(run)})
            print(f"{which}: {name}, {short(settings)}: {run.errors[0]} word errors", flush=True)
        return Run(**json.loads(file.read_text())["run"])

    def _transcribed(self, settings: Settings, which: str) -> Run:
        utterances = self._stream(which)
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

    def _stream(self, which: str) -> list[Utterance]:
        if which not in self._streams:
            self._streams[which] = stream(self.corpus, which, self.sentences[which], self.seeds[which])
            self.base.transcribe([self._streams[which][0].samples])  # the first call takes longer
        return self._streams[which]


def table(root: Path, base: str, seed: int, names: Sequence[str] = ()) -> pd.DataFrame:
    """Run the arms that have not run yet, and tabulate all of them; also written to a CSV file beside the runs.

    WER in % on both streams; error reduction in % relative to no adaptation, paired over utterances; all with 95%
    intervals. CPU is processor time per recording relative to no adaptation.
    """
    experiment = Experiment(root, base, seed)
    _, baseline = experiment.arm(NONE)
    rows = []
    for name in names or experiment.grids:
        settings, run = experiment.arm(name)
        dev = experiment.run(name, settings, "dev")
        errors = word_errors(run.references, run.transcripts)
        before = word_errors(baseline.references, baseline.transcripts)
        by_condition = {
            condition: f"{100 * errors_of(run, condition):.1f}" for condition in dict.fromkeys(run.conditions)
        }
        rows.append(
            {
                "arm": name,
                "chosen": short(settings),
                "dev WER": str(word_errors(dev.references, dev.transcripts).interval()),
                "WER": str(errors.interval()),
                "error reduction": "" if name == NONE else str(relative_error_reduction(before, errors)),
                **by_condition,
                "CPU": f"{sum(run.cpu_s) / sum(baseline.cpu_s):.1f}",
                "resets": run.resets,
                "skipped": run.skipped,
            }
        )
    summary = pd.DataFrame(rows)
    with written_aside(experiment.folder / f"{seed}.csv") as aside:
        summary.to_csv(aside, index=False)
    return summary


def errors_of(run: Run, condition: str) -> float:
    """The word error rate in one condition."""
    rows = [i for i, each in enumerate(run.conditions) if each == condition]
    return word_errors([run.references[i] for i in rows], [run.transcripts[i] for i in rows]).rate


def short(settings: Settings) -> str:
    """The settings that the grid varies."""
    if settings is None:
        return ""
    if isinstance(settings, EqualiserConfig):
        return f"strength {settings.strength:g}, memory {settings.memory:g}"
    label = f", confidence {settings.confidence:g}" if settings.objective == "pseudo-labels" else ""
    return f"{settings.steps} steps at {settings.learning_rate:g}{label}"
