"""Measure how many spoken commands are accepted with their intent and all slots right, clean and in noise.

    python benchmarks/commands.py FOLDER [--base whisper-tiny.en] [--clips 199] [--snr 24,21,18,15,12,9,6] [--delta D]

FOLDER is a copy of Picovoice's speech-to-intent benchmark with `manifest.csv` (path, intent, slots) and `slots.json`; the
grammar is `benchmarks/coffee.yaml` with the slot values of `slots.json`. Noise is a mix of babble, made of other
speakers of data/, and of pink noise, one kind for each clip in turn.

Arms, over the same encoded clips: decoding inside the grammar; free decoding, whose text the grammar parses or not; free decoding
and the command nearest in characters. Other speech: English sentences of test speakers in data/, which must be rejected.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from metavox import threads
from metavox.audio.read import read_audio
from metavox.dataset.manifest import read_manifest
from metavox.recognisers.bases.find import find_base
from metavox.recognisers.delta import load_delta
from metavox.recognisers.recogniser import DecodeOptions, Recogniser
from metavox.recognition.commands import Command, threshold_for, understand
from metavox.recognition.grammar import Grammar, grammar_of

RATE = 16000
DIGITS = {"eight": "8", "twelve": "12", "sixteen": "16", "twenty": "20"}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--base", default="whisper-tiny.en")
    parser.add_argument("--delta", type=Path)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--clips", type=int, default=199)
    parser.add_argument("--snr", default="24,21,18,15,12,9,6", help="dB, separated by commas")
    parser.add_argument("--others", type=int, default=200, help="recordings of other speech")
    parser.add_argument("--false-accept-rate", type=float, default=0.01)
    parser.add_argument("--json", type=Path, help="write every result to this file")
    args = parser.parse_args()
    threads.limit("foundation model")
    grammar = coffee_grammar(args.folder)
    rows = pd.read_csv(args.folder / "manifest.csv").head(args.clips)
    expected = [(row.intent, json.loads(row.slots)) for row in rows.itertuples()]
    clips = [read_audio(args.folder / path, RATE) for path in rows["path"]]
    recogniser = find_base(args.base).load()
    if args.delta:
        recogniser = recogniser.using([load_delta(args.delta)])
    others, babble = other_speech(args.data, args.others)
    scores = [command.score for command in understand(recogniser, others, grammar, threshold=-np.inf)]
    threshold = threshold_for(scores, args.false_accept_rate)
    print(
        f"{recogniser.spec.name}: threshold {threshold:.2f}, which {args.false_accept_rate:.0%} of {len(others)} "
        "recordings of other speech reach",
        flush=True,
    )
    print("  SNR     inside the grammar (without rejection)   free, parsed   free, nearest   x real time")
    noisy, records = [], []
    for snr_db in [None, *map(float, filter(None, args.snr.split(",")))]:
        heard = [
            clip if snr_db is None else clip + noise(clip, snr_db, i, babble) for i, clip in enumerate(clips)
        ]
        figures = measured(recogniser, heard, expected, grammar, threshold)
        noisy += [] if snr_db is None else [figures]
        name = "clean" if snr_db is None else f"{snr_db:g} dB"
        print(f"  {name:6s} " + line(figures), flush=True)
        records.append({"snr_db": snr_db, **figures})
    if noisy:
        print("  noise  " + line({key: float(np.mean([one[key] for one in noisy])) for key in noisy[0]}))
    if args.json:
        args.json.write_text(json.dumps({"threshold": threshold, "arms": records}, indent=1))


def measured(
    recogniser: Recogniser,
    clips: list[np.ndarray],
    expected: list[tuple[str, dict[str, str]]],
    grammar: Grammar,
    threshold: float,
) -> dict[str, float]:
    """Shares of clips whose command is right, by arm, and the time for the first arm per second of audio."""
    begin = time.perf_counter()
    forced = understand(recogniser, clips, grammar, threshold=-np.inf)
    seconds = time.perf_counter() - begin
    commands = [one if one.score >= threshold else Command(None) for one in forced]
    texts = [transcript.text for transcript in recogniser.transcribe(clips, DecodeOptions())]
    parsed = [grammar.meaning(text) for text in texts]

    def right(found: Any, wanted: tuple[str, dict[str, str]]) -> bool:
        return found is not None and (found.intent, dict(found.slots)) == wanted

    def share(found: list[Any]) -> float:
        return float(np.mean([right(one, wanted) for one, wanted in zip(found, expected, strict=True)]))

    return {
        "inside": share(commands),
        "forced": share(forced),
        "parsed": share(parsed),
        "nearest": share([nearest(text) for text in texts]),
        "real_time_factor": seconds / (sum(map(len, clips)) / RATE),
    }


def line(figures: dict[str, float]) -> str:
    return (
        f"{100 * figures['inside']:10.1f} {100 * figures['forced']:18.1f} {100 * figures['parsed']:22.1f} "
        f"{100 * figures['nearest']:14.1f} {figures['real_time_factor']:14.2f}"
    )


_slots: dict[str, list[str]] = {}


def nearest(text: str) -> Command:
    """A slot parser over free text: for each slot the value in it, the longest first, where digits count as words."""
    text = " ".join("".join(c if c.isalnum() else " " for c in text.lower()).split())
    for word, digits in DIGITS.items():
        text = " ".join(word if token == digits else token for token in text.split())
    found = {}
    for name, values in _slots.items():
        for value in sorted(values, key=len, reverse=True):
            if f" {value} " in f" {text} ":
                found[name] = value
                break
    return Command("orderDrink", found)


def coffee_grammar(folder: Path) -> Grammar:
    content = yaml.safe_load((Path(__file__).parent / "coffee.yaml").read_text())
    _slots.update(json.loads((folder / "slots.json").read_text()))
    content["lists"] = {
        name: {"values": [{"in": with_digits(value), "out": value} for value in values]}
        for name, values in _slots.items()
    }
    return grammar_of(content, "coffee.yaml")


def with_digits(value: str) -> str:
    word, _, rest = value.partition(" ")
    return f"({word} | {DIGITS[word]}) {rest}" if word in DIGITS else value


def noise(clip: np.ndarray, snr_db: float, index: int, babble: list[np.ndarray]) -> np.ndarray:
    """Babble of six speakers for even clips, pink noise for odd ones, at a signal-to-noise ratio."""
    random = np.random.default_rng(index)
    if index % 2 == 0:
        chosen = random.choice(len(babble), 6, replace=False)
        made = np.sum([np.resize(babble[i] / np.std(babble[i]), len(clip)) for i in chosen], axis=0)
    else:
        spectrum = np.fft.rfft(random.standard_normal(len(clip)))
        made = np.fft.irfft(spectrum / np.sqrt(np.maximum(np.arange(len(spectrum)), 1)), len(clip))
    level = np.sqrt(np.mean(clip**2) / np.mean(made**2)) * 10 ** (-snr_db / 20)
    return (level * made).astype(np.float32)


def other_speech(data: Path, count: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """English sentences of test speakers, and of development speakers for babble."""
    rows = read_manifest(data / "manifest.csv")
    rows = rows[(rows["language"] == "en") & (rows["unit"] == "sentence")]

    def sample(split: str, count: int) -> list[np.ndarray]:
        chosen = rows[rows["split"] == split].sample(frac=1, random_state=0)["path"]
        read = (read_audio(data / path, RATE) for path in chosen)
        return [clip for clip, _ in zip((c for c in read if len(c) < 20 * RATE), range(count), strict=False)]

    return sample("test", count), sample("dev", 60)


if __name__ == "__main__":
    main()
