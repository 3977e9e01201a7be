"""Measure what a delta learns of translation from parallel prompts: Asterisk's, which say the same in several languages.

    python benchmarks/translation.py --write FOLDER [--language it]      # writes FOLDER/train.csv, seen.csv and new.csv
    metavox adapt FOLDER/train.csv --base whisper-tiny.en --out FOLDER/delta --preset lora ...
    python benchmarks/translation.py --score FOLDER --delta FOLDER/delta

The texts are the English prompts of the same name. Of the two Italian speakers one teaches, the other judges: on prompts that were
taught (new speaker), and on prompts that were not (new speaker and new sentences). The domain is telephone prompts, a few hundred
sentences that share their phrases: the figures say nothing of other speech. BLEU and chrF are sacrebleu's. The line
`nothing` is the base without the delta.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import sacrebleu

from metavox import threads
from metavox.audio.read import read_audio
from metavox.dataset.manifest import read_manifest
from metavox.recognisers.bases.find import find_base
from metavox.recognisers.delta import load_delta
from metavox.session import session_on

SPEAKERS = {"it": ("asterisk-it-carlo", "asterisk-it-menardi")}
ENGLISH = "asterisk-en-allison"
HELD_OUT = 5  # every fifth prompt is not taught


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--language", default="it")
    parser.add_argument("--write", type=Path)
    parser.add_argument("--score", type=Path)
    parser.add_argument("--delta", type=Path)
    parser.add_argument("--base", default="whisper-tiny.en")
    args = parser.parse_args()
    if args.write:
        write(args.data, args.language, args.write)
    if args.score:
        score(args.score, args.base, args.delta)


def write(data: Path, language: str, folder: Path) -> None:
    rows = read_manifest(data / "manifest.csv")
    rows = rows.assign(prompt=[path.split("/", 3)[-1].rsplit(".", 1)[0] for path in rows["path"]])
    english = rows[(rows["speaker"] == ENGLISH) & rows["unit"].isin(["sentence", "word"])]
    texts = dict(zip(english["prompt"], english["text"], strict=True))
    prompts = sorted(texts.keys() & set(rows[rows["speaker"] == SPEAKERS[language][0]]["prompt"]))
    order = np.random.default_rng(0).permutation(len(prompts))
    kept = {prompts[i] for n, i in enumerate(order) if n % HELD_OUT}
    taught_texts = {texts[prompt] for prompt in kept}
    folder.mkdir(parents=True, exist_ok=True)
    parts = {"train": (0, True), "seen": (1, True), "new": (1, False)}
    for name, (speaker, taught) in parts.items():
        part = rows[(rows["speaker"] == SPEAKERS[language][speaker]) & rows["prompt"].isin(prompts)]
        part = part[[(prompt in kept) == taught for prompt in part["prompt"]]]
        if not taught:
            part = part[[texts[prompt] not in taught_texts for prompt in part["prompt"]]]
        table = pd.DataFrame(
            {
                "path": [str((data / path).absolute()) for path in part["path"]],
                "text": [texts[prompt] for prompt in part["prompt"]],
                "speaker": part["speaker"],
                "language": "en",
            }
        )
        table.to_csv(folder / f"{name}.csv", index=False)
        print(f"{folder / name}.csv: {len(table)} recordings")


def score(folder: Path, base: str, delta: Path | None) -> None:
    threads.limit("foundation model")
    session = session_on(find_base(base).load())
    arms = {"nothing": session} | ({"delta": session.using([load_delta(delta)])} if delta else {})
    for name in ("seen", "new"):
        rows = pd.read_csv(folder / f"{name}.csv")
        clips = [read_audio(path, session.rate) for path in rows["path"]]
        for arm, one in arms.items():
            texts = [transcript.text for transcript in one.transcribe_all(clips)]
            references = [rows["text"].tolist()]
            exact = float(
                np.mean(
                    [
                        a.lower().strip(" .") == b.lower().strip(" .")
                        for a, b in zip(texts, references[0], strict=True)
                    ]
                )
            )
            bleu = sacrebleu.corpus_bleu(texts, references, lowercase=True).score
            chrf = sacrebleu.corpus_chrf(texts, references).score
            print(
                f"{name:5s} {arm:8s} {len(texts)} recordings: BLEU {bleu:.1f}, chrF {chrf:.1f}, {exact:.0%} word for word",
                flush=True,
            )


if __name__ == "__main__":
    main()
