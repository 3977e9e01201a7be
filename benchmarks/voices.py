"""What a few recordings of a held-out voice are worth: characters wrong before and after its delta.

    python benchmarks/voices.py --shots 5,20 --parts norms,lowrank [--model FOLDER] [--steps 30] [--folds 2]

Run where `metavox stage prepare` and `validate` have run: the voices are those of the split `test`, those with most speech first.
Each part and number of recordings adapts anew and is asked the same other recordings of the voice; a text is never on
both sides. % ± 95% (bootstrap over recordings), seconds of CPU time a voice, and the share of the errors that is gone.
"""

import argparse
import copy
import time
from pathlib import Path
from typing import get_args

import torch

from metavox.evaluate.metrics import Errors
from metavox.evaluate.voices import pooled, transcribe_rows, voice_tasks
from metavox.learn.adapt import AdaptConfig, Part, adapt_utterances
from metavox.recognisers.conformer.artifact import digest, find_model, load_model
from metavox.recognisers.conformer.delta import apply_deltas
from metavox.stages.common import clean_store

QUERIES = 40


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model")
    parser.add_argument("--root", type=Path, default=Path())
    parser.add_argument("--split", default="test")
    parser.add_argument("--shots", default="5,20")
    parser.add_argument("--parts", default="norms")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--folds", type=int, default=2)
    parser.add_argument("--voices", type=int, default=6)
    given = parser.parse_args()
    torch.set_num_threads(1)
    folder = find_model(given.model)
    model, base, store = load_model(folder), digest(folder), clean_store(given.root)
    asked = store.where((store.rows["split"] == given.split) & (store.rows["frames"] > 0))
    shots = sorted(int(part) for part in given.shots.split(","))
    # The queries come after the most recordings that teach, so that they are the same for all.
    tasks = voice_tasks(asked.rows, model.config.alphabet, max(shots), QUERIES, given.voices, 0)
    queries = sum(len(task.query) for task in tasks)
    before = pooled([transcribe_rows(model, asked, task.query).characters for task in tasks])
    print(f"{len(tasks)} voices, {queries} recordings: CER before {before.interval()}")
    for part in given.parts.split(","):
        if part not in get_args(Part):
            raise SystemExit(f"--parts {part}: expected some of {', '.join(get_args(Part))}")
        for shot in shots:
            errors: list[Errors] = []
            start = time.process_time()
            for task in tasks:
                chosen = task.support[:shot]
                texts = asked.rows.loc[chosen, "text"].tolist()
                config = AdaptConfig(given.steps, part=part, folds=given.folds)
                delta = adapt_utterances(model, base, [asked[int(row)] for row in chosen], texts, config)
                adapted = copy.deepcopy(model)
                apply_deltas(adapted, base, [delta])
                errors.append(transcribe_rows(adapted, asked, task.query).characters)
            took = (time.process_time() - start) / max(1, len(tasks))
            after = pooled(errors)
            gone = 100 * (1 - after.rate / before.rate)
            print(
                f"{part}, {shot} recordings: CER {after.interval()}, {gone:.1f}% of the errors gone, {took:.1f} s a voice",
                flush=True,
            )


if __name__ == "__main__":
    main()
