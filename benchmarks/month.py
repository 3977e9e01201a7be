"""A month of a site that recognises ten spoken commands: what the loop does with each batch of recordings.

    python -m benchmarks.month [--base whisper-tiny.en] [--folder DIR]

Synthetic voices (espeak-ng) say the commands. Two of them teach the first vocabulary. Then come new voices, a telephone
instead of the microphone, a batch in which every label is wrong, and a poisoned batch: new voices in which two commands are
swapped throughout. `flows.readapt` decides about each batch by policy.yaml. Accuracy is on two sets that the loop never
sees: other takes of the voices so far, and the same over the telephone.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile

from flows.command import start_prefect
from flows.readapt import readapt
from metavox import threads
from metavox.audio.classical import bandwidth, coded, resampled
from metavox.audio.read import decode, resample
from metavox.promotion import versions
from metavox.sources.synthetic import espeak
from metavox.sources.synthetic.espeak import Rendition
from metavox.sources.synthetic.texts import Text
from metavox.telemetry import disable_telemetry

WORDS = ("open", "close", "lights", "music", "louder", "quieter", "kitchen", "garden", "alarm", "cancel")
RATE, TAKES = 16000, 3
# The readers of the new voices come from Italy, Germany and France: accents that the first vocabulary has not heard.
FIRST, NEW, LATER = ("m1", "f1"), ("m5 it", "f3 de", "m3 fr"), ("f4", "m7", "f2")
LINE_NOISE = 0.03  # of full scale
REPO = Path(__file__).parents[1]


@dataclass(frozen=True)
class Day:
    """A batch of the month: its voices, and what is wrong with it."""

    name: str
    voices: tuple[str, ...]
    telephone: bool = False
    labels: str = "right"  # right, wrong, swapped


DAYS = (
    Day("first voices", FIRST),
    Day("new voices", NEW),
    Day("telephone", FIRST + NEW, telephone=True),
    Day("wrong labels", NEW, labels="wrong"),
    Day("poisoned", LATER, labels="swapped"),
)


def simulate(folder: Path, base: str, days: tuple[Day, ...] = DAYS) -> pd.DataFrame:
    """Run the month in `folder`; returns one row a day with the decision and the accuracy of the champion afterwards."""
    project = new_project(folder / "project")
    held_out = {
        name: write_batch(folder / name, Day(name, FIRST + NEW, telephone), take=100)
        for name, telephone in (("microphone", False), ("line", True))
    }
    rows = []
    for number, day in enumerate(days):
        inbox = write_batch(folder / f"inbox-{number}", day, take=10 * number)
        result = readapt(str(inbox), base=base, project=str(project))
        accuracies = {name: accuracy(project, manifest) for name, manifest in held_out.items()}
        rows.append(
            {"batch": day.name, **{k: result[k] for k in ("outcome", "version", "why")}, **accuracies}
        )
    return pd.DataFrame(rows)


def new_project(folder: Path) -> Path:
    """A git repository with DVC, the policy and nothing else."""
    folder.mkdir(parents=True)
    shutil.copy(REPO / "policy.yaml", folder)
    (folder / ".gitignore").write_text("/.metavox\n")
    for command in (("git", "init", "-q"), (sys.executable, "-m", "dvc", "init", "-q"), ("git", "add", "-A")):
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
    author = ("-c", "user.name=a", "-c", "user.email=a@localhost")
    subprocess.run(
        ["git", *author, "commit", "-qm", "a project"], cwd=folder, check=True, capture_output=True
    )
    return folder


def write_batch(folder: Path, day: Day, take: int) -> Path:
    """Write the recordings of a day and their table; returns the table."""
    folder.mkdir(parents=True)
    planned = [
        Rendition(
            Text(word, "en", "word", accent=accent),
            voice,
            130 + 3 * ((take + i) % 17),
            40 + (take + i) % 25,
            50,
            i,
        )
        for voice, _, accent in (name.partition(" ") for name in day.voices)
        for word in WORDS
        for i in range(TAKES)
    ]
    random = np.random.default_rng(take)
    rows = []
    for number, (rendition, pcm) in enumerate(zip(planned, espeak.speak(planned, workers=1), strict=True)):
        samples = resample(*decode(espeak.encode(pcm or b""), rendition.name), RATE)
        samples = np.pad(samples, 4000) + 0.001 * random.standard_normal(len(samples) + 8000)
        if day.telephone:
            samples = on_the_line(samples, random)
        soundfile.write(folder / f"{number}.wav", samples.astype(np.float32), RATE)
        rows.append(
            {
                "path": f"{number}.wav",
                "text": labelled(rendition.prompt.text, day.labels),
                "speaker": rendition.variant,
                "language": "en",
                "environment": "telephone" if day.telephone else "microphone",
            }
        )
    pd.DataFrame(rows).to_csv(folder / "manifest.csv", index=False)
    return folder / "manifest.csv"


def on_the_line(samples: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """A telephone: 300 to 3,400 Hz, G.711, and much noise."""
    narrow = resampled(bandwidth(samples, RATE, 300, 3400), RATE, 8000)
    narrow = narrow + LINE_NOISE * random.standard_normal(len(narrow))
    return resampled(coded(np.clip(narrow, -1, 1).astype(np.float32), 8000, "ulaw"), 8000, RATE)


def labelled(word: str, labels: str) -> str:
    place = WORDS.index(word)
    if labels == "wrong":
        return WORDS[(place + 3) % len(WORDS)]
    if labels == "swapped" and place < 2:
        return WORDS[1 - place]
    return word


def accuracy(project: Path, manifest: Path) -> float:
    """The champion's accuracy, in %, on recordings that the loop has never seen."""
    from metavox.cli.compare import served
    from metavox.cli.manifests import labelled as read_rows
    from metavox.cli.manifests import read
    from metavox.promotion.compare import score

    threads.limit("small network")
    session = served(project / versions.CHAMPION)
    recordings = read(read_rows(manifest), manifest, session.rate)
    scored = score(session, recordings.samples, recordings.texts, recordings.languages)
    right = [a.lower() == b.lower() for a, b in zip(scored.texts, recordings.texts, strict=True)]
    return round(100 * float(np.mean(right)), 1)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--base", default="whisper-tiny.en")
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    disable_telemetry()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        start_prefect(folder)
        table = simulate(folder.resolve(), arguments.base)
    print("| batch | decision | champion | microphone | telephone | why |\n|---|---|---|---|---|---|")
    for row in table.itertuples():
        print(
            f"| {row.batch} | {row.outcome} | {row.version} | {row.microphone}% | {row.line}% | {row.why} |"
        )


if __name__ == "__main__":
    main()
