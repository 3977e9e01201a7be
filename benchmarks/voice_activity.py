"""Compare recordings as a session transcribes them, from their first to their last speech, with whole ones.

    python benchmarks/voice_activity.py [--base whisper-tiny.en] [--split test] [--clips 80]

Run it from the project folder, with the corpus of `make demo` in data/. The clips are English sentences of one split: as they are, with 1.5 s of
silence before and 1 s behind, and under the adverse conditions of audio/adverse.py but for the cheap microphone. Each line gives the WER of the recogniser on the whole
recording, that of the session, and how many recordings gave no text.
"""

import argparse
from pathlib import Path

import numpy as np

from metavox import threads
from metavox.audio.adverse import ADVERSE
from metavox.audio.read import read_audio
from metavox.dataset.manifest import read_manifest
from metavox.metrics.rates import word_errors
from metavox.recognisers.bases.find import find_base
from metavox.session import session_on

RATE = 16000


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--base", default="whisper-tiny.en")
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--split", default="test")
    parser.add_argument("--clips", type=int, default=80)
    args = parser.parse_args()
    threads.limit("foundation model")
    session = session_on(find_base(args.base).load())
    rows = read_manifest(args.data / "manifest.csv")
    rows = rows[(rows["language"] == "en") & (rows["unit"] == "sentence")]
    others = [
        read_audio(args.data / p, RATE)
        for p in rows[rows["split"] == "train"].sample(6, random_state=1)["path"]
    ]
    chosen = rows[rows["split"] == args.split].sample(frac=1, random_state=0).head(args.clips)
    clips, texts = [read_audio(args.data / path, RATE) for path in chosen["path"]], chosen["text"].tolist()
    silence = np.zeros(3 * RATE // 2, np.float32), np.zeros(RATE, np.float32)
    heard = {
        "clean": clips,
        "with silence": [np.concatenate([silence[0], clip, silence[1]]) for clip in clips],
    } | {
        name: [
            ADVERSE[name](clip, RATE, np.random.default_rng(1000 + i), others) for i, clip in enumerate(clips)
        ]
        for name in ("phone", "hall", "babble")
    }
    print(f"{session.recogniser.spec.name}, {args.split}: {len(clips)} sentences")
    for name, recordings in heard.items():
        whole = [transcript.text for transcript in session.recogniser.transcribe(recordings)]
        spoken = [transcript.text for transcript in session.transcribe_all(recordings)]
        print(
            f"  {name:12s} whole {word_errors(texts, whole).interval()}%, its speech {word_errors(texts, spoken).interval()}%; "
            f"without text {sum(not t for t in whole)}, {sum(not t for t in spoken)}",
            flush=True,
        )


if __name__ == "__main__":
    main()
