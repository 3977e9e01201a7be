"""A vocabulary of ten words: accuracy, other words that are taken for one of them, time. Any manifest with speakers.

    python benchmarks/enrolment.py MANIFEST --base FOLDER --shots 5 --speakers 1 --false-accepts 0.01

The words, and the speakers that teach them and are asked, are drawn anew each round. `--speakers 0` asks the speaker that
taught; with 1 or more, that many teach and another is asked. Unknown words are the manifest's others by the speaker
that is asked. `at exact` is the accuracy under the threshold that would let in just that share of them.
"""

import argparse
import time

import numpy as np
import torch

from metavox.audio.read import read_audio
from metavox.dataset.manifest import read_manifest, resolve
from metavox.enrolment.enrol import EnrolConfig, enrol
from metavox.enrolment.open_set import reliability
from metavox.recognisers.recogniser import Audio
from metavox.session import open_for_words

WAY, QUERIES, UNKNOWN = 10, 5, 60


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("manifest")
    parser.add_argument("--base")
    parser.add_argument("--shots", type=int, default=5)
    parser.add_argument("--speakers", type=int, default=1)
    parser.add_argument("--false-accepts", type=float, default=0.01)
    parser.add_argument("--method", default="head")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--no-spelling", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    embedder = open_for_words(given.base).embedder
    rows = read_manifest(given.manifest)
    how = EnrolConfig(given.method, false_accepts=given.false_accepts, spelling=not given.no_spelling)
    random = np.random.default_rng(0)
    found: list[dict[str, float]] = []

    def heard(chosen: list[int]) -> list[Audio]:
        paths = [resolve(given.manifest, rows.at[i, "path"]) for i in chosen]
        return embedder.prepare([read_audio(path, embedder.spec.sample_rate_hz) for path in paths])

    for _ in range(given.rounds):
        words = random.choice(sorted(set(rows["text"])), WAY, replace=False)
        speakers = random.permutation(sorted(set(rows["speaker"])))
        teach, asked, unknown = _drawn(rows, words, speakers, given.shots, given.speakers, random)
        start = time.perf_counter()
        delta = enrol(embedder, heard(teach), rows.loc[teach, "text"].tolist(), how).vocabulary
        seconds = time.perf_counter() - start
        best, guess = (scores := embedder.score_words(delta, heard(asked))).max(dim=1)
        right = np.array([delta.words[g] for g in guess]) == rows.loc[asked, "text"].to_numpy()
        others = embedder.score_words(delta, heard(unknown)).amax(dim=1)
        exact = others.double().quantile(1 - given.false_accepts)
        confidence = (delta.logit_scale * scores).softmax(dim=1).amax(dim=1)
        found.append(
            {
                "accuracy": right.mean(),
                "accepted": (right & (best >= delta.threshold).numpy()).mean(),
                "false accepts": float((others >= delta.threshold).float().mean()),
                "at exact": (right & (best > exact).numpy()).mean(),
                "calibration error": reliability(confidence.numpy(), right).expected_error,
                "seconds": seconds,
            }
        )
    for name in found[0]:
        values = [one[name] for one in found]
        print(f"{name:18s} mean {np.mean(values):.3f}  median {np.median(values):.3f}")


def _drawn(rows, words, speakers, shots, teachers, random):  # type: ignore[no-untyped-def]
    """Row numbers that teach, that are asked about, and of other words."""
    asker = speakers[0]
    teach, asked = [], []
    for word in words:
        own = rows["text"] == word
        clips = random.permutation(rows.index[own & (rows["speaker"] == asker)])
        if teachers == 0:
            teach += list(clips[:shots])
            clips = clips[shots:]
        else:
            others = rows.index[own & rows["speaker"].isin(speakers[1 : 1 + teachers])]
            teach += list(random.permutation(others)[:shots])
        asked += list(clips[:QUERIES])
    strange = rows.index[(rows["speaker"] == asker) & ~rows["text"].isin(words)]
    return teach, asked, list(random.permutation(strange)[:UNKNOWN])


if __name__ == "__main__":
    main()
